// What the control thread hands to a queue: memory once, rings and doorbells for each connection.

import Hypervisor
import NetworkProtocol
import SharedMemory

/// A queue's pages, offered once and used for every connection.
struct QueuePages: Sendable {
    /// One page for each slot.
    static let count = 256
    /// Frames on their way out; the backend reads.
    let transmit: any OfferedPages
    /// Frames that come in; the backend writes.
    let receive: any OfferedPages
}

/// One connection of one queue.
struct QueueLink: Sendable {
    let transmitRing: any OfferedPages
    let receiveRing: any OfferedPages
    let bell: any EventChannel
    /// Nil: `bell` serves both rings.
    let receiveBell: (any EventChannel)?
    /// What the backend takes from us.
    var features: NetworkFeatures
    /// Pages that a frame of the device's may need, by its MTU now.
    var pages = 17
    /// Where the queue counts what it drops of the device's frames, and of the backend's.
    var transmitDrops = DropCounter()
    var receiveDrops = DropCounter()

    func release() {
        bell.close()
        receiveBell?.close()
        transmitRing.withdraw()
        receiveRing.withdraw()
    }
}
