// Event counters of the kernel (eventfd): how interrupts and faults reach a process.

import Glibc
import LinuxSystem

enum KernelEvents {
    /// What has been counted since it was last asked; nil if nothing, or if it cannot be read.
    static func take(_ descriptor: Descriptor) -> UInt64? {
        var poll = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
        // Also a blocking one is asked only when it has an answer.
        guard unsafe Glibc.poll(&poll, 1, 0) == 1 else { return nil }
        var count: UInt64 = 0
        let got = unsafe withUnsafeMutableBytes(of: &count) { unsafe read(descriptor.rawValue, $0.baseAddress, 8) }
        return got == 8 && count > 0 ? count : nil
    }

    /// Adds one; false if the descriptor does not take it.
    static func signal(_ descriptor: Descriptor) -> Bool {
        var one: UInt64 = 1
        return unsafe withUnsafeMutableBytes(of: &one) { unsafe write(descriptor.rawValue, $0.baseAddress, 8) } == 8
    }
}
