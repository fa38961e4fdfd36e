import CUring
import Glibc
import Testing

@testable import Reactor

@Suite("What a ring takes") struct RestrictionTests {
    @Test("E19: a ring opens no file, makes no socket, and registers no memory, whoever writes its entries")
    func onlyWhatIsUsed() throws {
        let uring = try Uring(entries: 8)
        try uring.enable()
        func result(_ prepare: (UnsafeMutablePointer<io_uring_sqe>) -> Void) -> Int32 {
            var entry = SubmissionEntry()
            entry.prepare(prepare)
            let (isPushed, submitted) = (uring.push(entry.raw), uring.submitAndWait(count: 1))
            #expect(isPushed && submitted >= 0)
            let place = UnsafeMutablePointer<Completion>.allocate(capacity: Uring.batch)
            defer { place.deallocate() }
            let count = uring.reap(into: place)
            #expect(count == 1)
            return place.pointee.result
        }
        "/etc/passwd".withCString { path in
            #expect(result { io_uring_prep_openat($0, AT_FDCWD, path, O_RDONLY, 0) } == -EACCES)
        }
        #expect(result { io_uring_prep_rw(Int32(IORING_OP_SOCKET.rawValue), $0, AF_UNIX, nil, 0, 1) } == -EACCES)
        // What is used goes on.
        #expect(result { io_uring_prep_nop($0) } == 0)
        var memory = iovec()
        let registered = io_uring_register(UInt32(uring.raw.pointee.ring_fd), UInt32(IORING_REGISTER_BUFFERS), &memory, 1)
        #expect(registered == -EACCES)
    }
}
