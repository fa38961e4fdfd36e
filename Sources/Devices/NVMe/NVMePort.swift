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
    /// Whether its one vector is a line (INTx) and no message: raised as long as a completion is there that has not
    /// been acknowledged, told of once, and silent from then on until it is armed. All pairs of queues raise it.
    var isLine: Bool { get }
    /// Makes vectors 0 ..< `count` readable in descriptors, once. The controller has stopped, and may read and write
    /// memory from then on.
    func openVectors(_ count: Int) throws(NVMeError) -> [Descriptor]
    /// Takes what a vector's descriptor has to tell, so that it is readable again for what comes later.
    func takeInterrupt(_ vector: Descriptor)
    /// Arms a line: behind the acknowledgement of all completions that were seen, for what has none raises it at once.
    /// Messages need no arming.
    func armInterrupt()
    /// It reads and writes no more memory, whatever it does.
    func cutOff()
    /// It may read and write memory again: it has been stopped. It may be reset on the way.
    func reconnect() throws(NVMeError)
    /// What outlives this process; nil: nothing does.
    var keeping: (any NVMeKeeping)? { get }
}
