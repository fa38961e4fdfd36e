// The log of dirty pages in a session. It comes in three parts and in more than one order: a log, a feature, and with
// each ring's addresses one more (QEMU: the log first when a migration begins, last when a device starts in one). It is
// on as long as there are the first two; what was written before is not its business, for whoever begins to log fetches
// all of the memory first.

import LinuxSystem
import VirtioRing
import VirtioWire

extension VhostSession {
    /// What a driver may accept.
    var known: VirtioFeatures {
        let known = offer.features.union(.protocolFeatures)
        // Who accepts it relies on a log.
        return offer.protocolFeatures.contains(.sharedLog) ? known.union(.logAll) : known
    }

    /// Whether what is written is noted.
    var isLogging: Bool { log != nil && features.contains(.logAll) }

    /// What has to be done for a log, or for its signal.
    mutating func takeLog(_ message: VhostMessage) throws(VhostUserError) -> VhostTask? {
        switch message {
        case .setLogBase(let byteCount, let offset, let descriptor):
            let log = try DirtyLog(mapping: descriptor, byteCount: byteCount, offset: offset)
            if features.contains(.logAll) { try log.check(memory) }
            self.log = log
            logSource = (byteCount, offset, descriptor)
        case .setLogDescriptor(let signal): logSignal = signal
        default: return nil
        }
        // All rings that run, if it is on.
        return isLogging ? logs(of: running) : nil
    }

    /// Where a ring notes it.
    func logging(of ring: Int) -> VhostLogging? {
        guard isLogging, let log else { return nil }
        let addresses = rings[ring].addresses
        if isTranslated { return VhostLogging(log: log, ring: translatedLog(of: ring, log), signal: logSignal) }
        let own = addresses?.log.map { address in
            RingLog(
                log, device: address, descriptors: addresses.flatMap { memory.guestAddress(ofUser: $0.descriptors) } ?? .max)
        }
        return VhostLogging(log: log, ring: own, signal: logSignal)
    }

    /// Has rings that run know of the log, or that there is none.
    func logs(of rings: [Int]) -> VhostTask? { rings.isEmpty ? nil : .log(rings.map { ($0, logging(of: $0)) }) }
}
