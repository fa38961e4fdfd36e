// What whoever looks after a disk asks of it, beside those who use it.

import DMA
import DeviceControl
import DeviceState
import LinuxSystem
import Reactor

extension BlockDevice {
    /// What the disk is.
    public var attributes: [DeviceState.Attribute] {
        let geometry = geometry
        var all = [
            DevicePropertyKey.model.attribute(name), DevicePropertyKey.bytes.attribute(geometry.byteCount),
            DevicePropertyKey.sectorBytes.attribute(UInt64(geometry.logicalSectorSize)),
            DevicePropertyKey.physicalSectorBytes.attribute(UInt64(geometry.physicalSectorSize)),
            DevicePropertyKey.isReadOnly.attribute(geometry.isReadOnly ? 1 : 0),
        ]
        if let discard = geometry.discard {
            all += [
                DevicePropertyKey.discardGranularity.attribute(UInt64(discard.granularity)),
                DevicePropertyKey.discardAlignment.attribute(UInt64(discard.alignment)),
                DevicePropertyKey.discardsSecurely.attribute(discard.secure ? 1 : 0),
            ]
        }
        return all
    }

    /// Makes durable what was written through any queue, by one of its own; waits, on another thread than the
    /// reactor's.
    /// - Throws: EBUSY: there can be no queue beside those in use, and a flush on another would not cover their writes;
    ///   ENOTSUP: the disk has nothing to flush; else what the disk says.
    public func flush(on reactor: Reactor) throws(Errno) {
        guard queueLimit == .max else { throw .busy }
        guard geometry.canFlush else { throw .notSupported }
        let flush = LoneFlush()
        reactor.run { flush.begin(self, reactor) }
        let result = flush.ended.wait()
        reactor.run { flush.close() }
        if case .failed(let error) = result { throw error }
    }
}

/// One flush on a queue of its own. On the reactor's thread, but for whoever waits for its end.
private final class LoneFlush: BlockQueueOwner, @unchecked Sendable {
    let ended = Handoff<DeviceResult>()
    private var queue: (any BlockDeviceQueue)?

    func begin(_ disk: any BlockDevice, _ reactor: Reactor) {
        do throws(Errno) {
            let queue = try disk.openQueue(on: reactor, bus: MemoryBus(), depth: 1, owner: self)
            self.queue = queue
            if let result = queue.submit(.flush, tag: 0, segments: Span()) { ended.deliver(result) }
        } catch { ended.deliver(.failed(error)) }
    }

    func deviceCompleted(tag: UInt32, result: DeviceResult) { ended.deliver(result) }

    func close() {
        queue?.close()
        queue = nil
    }
}
