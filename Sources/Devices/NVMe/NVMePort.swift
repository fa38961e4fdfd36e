// What a controller's driver needs of the way to the controller: registers, memory, interrupts. The driver does not ask
// which way it is; a test puts a controller of its own there.

import DMA
import LinuxSystem

/// The way to one controller. Any thread.
public protocol NVMePort: AnyObject, Sendable {
    /// What the controller is called in messages.
    var name: String { get }
    /// How many bytes of registers there are.
    var registerByteCount: Int { get }
    /// Loads a register of 32 bits; all ones once the controller is gone.
    func load(_ offset: Int) -> UInt32
    /// Stores a register of 32 bits, after all that was stored before.
    func store(_ value: UInt32, at offset: Int)
    /// Where its memory is on its bus.
    var memory: any BusAddressSource { get }
    /// How many interrupt vectors it has; at least 1.
    var vectorCount: Int { get }
    /// Makes vectors 0 ..< `count` count in eventfds, once.
    func openVectors(_ count: Int) throws(NVMeError) -> [Descriptor]
    /// It reads and writes no more memory, whatever it does.
    func cutOff()
}
