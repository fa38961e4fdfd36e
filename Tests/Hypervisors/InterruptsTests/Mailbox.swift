// Where the tests' interrupts arrive.

import CLinux
import Glibc
import Interrupts
import LinuxSystem
import Synchronization

/// Keeps what it is sent.
final class Mailbox: InterruptMessagePort {
    let messages = Mutex<[InterruptMessage]>([])
    func send(_ message: InterruptMessage) { messages.withLock { $0.append(message) } }
    func take() -> [InterruptMessage] {
        messages.withLock { all in
            defer { all = [] }; return all
        }
    }
}

func counter() throws -> Descriptor { Descriptor(owning: causeway_eventfd()) }

func read(_ descriptor: Descriptor) -> UInt64 {
    var count: UInt64 = 0
    return Glibc.read(descriptor.rawValue, &count, 8) == 8 ? count : 0
}
