import Glibc
import LinuxSystem
import SharedMemory
import Testing

@testable import Reactor

/// A chain stops where it fails: what is behind is not written, whatever room there would be.
struct WriteChainTests {
    /// Two datagram sockets, the first with a buffer of so many bytes.
    private static func pair(_ bytes: Int) throws -> (Descriptor, Descriptor) { try DatagramSocket.pair(bufferBytes: bytes) }

    /// Writes datagrams of so many bytes each; the results.
    private static func write(_ chain: inout WriteChain, _ sizes: [Int], to file: Descriptor) throws -> [Int32] {
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 1)
        buffer.initializeMemory(as: UInt8.self, repeating: 7, count: 1 << 20)
        defer { buffer.deallocate() }
        let lists = sizes.map { size in
            let list = VectorList()
            list.append(buffer, size)
            return list
        }
        var results = sizes.map { _ in Int32.min }
        try chain.write(file, lists, from: 0, &results)
        return results
    }

    /// Sizes of what has arrived.
    private static func arrived(_ file: Descriptor) -> [Int] {
        var sizes: [Int] = []
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = read(file.rawValue, &bytes, bytes.count)
            if count < 0 { return sizes }
            sizes.append(count)
        }
    }

    @Test func allInOrder() throws {
        var chain = try WriteChain(entries: 8)
        let (near, far) = try Self.pair(1 << 20)
        for _ in 0..<3 {
            #expect(try Self.write(&chain, [1, 2, 3, 4, 5, 6, 7, 8], to: near) == [1, 2, 3, 4, 5, 6, 7, 8])
            #expect(Self.arrived(far) == [1, 2, 3, 4, 5, 6, 7, 8])
        }
    }

    @Test func nothingBehindAFailure() throws {
        var chain = try WriteChain(entries: 8)
        let (near, far) = try Self.pair(16 << 10)
        // The third is larger than the socket's buffer; the others would fit.
        #expect(try Self.write(&chain, [1, 2, 1 << 20, 4, 5], to: near) == [1, 2, -EMSGSIZE, -ECANCELED, -ECANCELED])
        #expect(Self.arrived(far) == [1, 2])
        // And the ring is as good as before.
        #expect(try Self.write(&chain, [6, 7], to: near) == [6, 7])
        #expect(Self.arrived(far) == [6, 7])
    }

    @Test func fullIsSaidOnce() throws {
        var chain = try WriteChain(entries: 16)
        let (near, far) = try Self.pair(16 << 10)
        let results = try Self.write(&chain, Array(repeating: 4000, count: 16), to: near)
        let count = try #require(results.firstIndex(of: -EAGAIN))
        #expect(count > 0 && results[..<count].allSatisfy { $0 == 4000 } && results[(count + 1)...].allSatisfy { $0 == -ECANCELED })
        #expect(Self.arrived(far).count == count)
    }
}
