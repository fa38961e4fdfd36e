// What systemd hears of a backend of Type=notify, on a socket that stands in for systemd's.

import Foundation
import Testing
import TestSupport

extension EndToEnd {
    @Suite("Service manager") struct ServiceManagerTests {
        /// A datagram socket at a path, or with an abstract name.
        private final class NotifySocket {
            let descriptor: Int32

            init(_ name: String, isAbstract: Bool) throws {
                descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
                var address = sockaddr_un()
                address.sun_family = sa_family_t(AF_UNIX)
                let bytes = (isAbstract ? [0] : []) + Array(name.utf8)
                withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
                let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
                let result = withUnsafePointer(to: &address) {
                    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
                }
                guard descriptor >= 0, result == 0 else { throw TestFailure("notify socket \(name): \(errno)") }
                var time = timeval(tv_sec: 20, tv_usec: 0)
                setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
            }

            deinit { close(descriptor) }

            /// The next message, waited for; nil if none comes.
            func next(_ flags: Int32 = 0) -> String? {
                var bytes = [UInt8](repeating: 0, count: 4096)
                let count = recv(descriptor, &bytes, bytes.count, flags)
                return count < 0 ? nil : String(decoding: bytes[..<count], as: UTF8.self)
            }
        }

        @Test("READY=1 once it serves and STOPPING=1 at its end, by path and by abstract name", arguments: [false, true])
        func readyAndStopping(isAbstract: Bool) throws {
            let scratch = try Scratch()
            let name = isAbstract ? "causeway-test-\(UUID().uuidString)" : "\(scratch.path)/notify"
            let manager = try NotifySocket(name, isAbstract: isAbstract)
            let environment = ["CAUSEWAY_RUN_DIR": "\(scratch.path)/run", "NOTIFY_SOCKET": isAbstract ? "@\(name)" : name]
            let host = try RunningProcess([Tools.causeway, "host"], environment: environment, in: scratch)
            defer {
                kill(host.pid, SIGTERM)
                _ = host.wait(seconds: 10)
            }
            #expect(eventually(10_000) { FileManager.default.fileExists(atPath: "\(scratch.path)/run/xenstored.sock") })
            // Neither the host, nor anything before the backend serves.
            #expect(manager.next(Int32(MSG_DONTWAIT)) == nil)
            let backend = try RunningProcess([Tools.causeway, "backend"], environment: environment, in: scratch)
            #expect(manager.next() == "READY=1", "\(backend.errors)")
            #expect(backend.errors.contains("serving domain 0's vbd"))
            kill(backend.pid, SIGTERM)
            #expect(manager.next() == "STOPPING=1", "\(backend.errors)")
            #expect(backend.wait(seconds: 10)?.status == 0)
        }

        @Test("WATCHDOG=1 comes for as long as every thread that serves devices answers, and again once it does")
        func watchdog() throws {
            let scratch = try Scratch()
            let name = "\(scratch.path)/notify"
            let manager = try NotifySocket(name, isAbstract: false)
            let run = "\(scratch.path)/run"
            let host = try RunningProcess([Tools.causeway, "host"], environment: ["CAUSEWAY_RUN_DIR": run], in: scratch)
            defer {
                kill(host.pid, SIGTERM)
                _ = host.wait(seconds: 10)
            }
            #expect(eventually(10_000) { FileManager.default.fileExists(atPath: "\(run)/xenstored.sock") })
            let backend = try RunningProcess(
                [Tools.causeway, "backend"],
                environment: ["CAUSEWAY_RUN_DIR": run, "NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"], in: scratch)
            defer { kill(backend.pid, SIGKILL) }
            // Its threads may begin before it is ready.
            #expect(eventually(20_000) { manager.next() == "READY=1" }, "\(backend.errors)")
            for _ in 0..<3 { #expect(manager.next() == "WATCHDOG=1") }
            // One thread stands still, and all others go on.
            let held = try HeldThread("blkback-0", of: backend.pid, in: scratch)
            #expect(eventually(10_000) { backend.errors.contains("blkback-0: no answer for 500 ms") }, "\(backend.errors)")
            while manager.next(Int32(MSG_DONTWAIT)) != nil {}
            sleepMilliseconds(1500)
            #expect(manager.next(Int32(MSG_DONTWAIT)) == nil)
            #expect(backend.isRunning)
            held.end()
            #expect(manager.next() == "WATCHDOG=1", "\(backend.errors)")
            kill(backend.pid, SIGTERM)
            #expect(backend.wait(seconds: 10)?.status == 0)
        }
    }
}
