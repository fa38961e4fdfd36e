// Opening a vbd's disk: at once where that is quick, beside the control thread where a server has to be asked, who may
// not be there yet.

import BlockDevices
import BlockProtocol
import DriverRuntime
import LinuxSystem
import XenBus
import XenStore

extension DiskDriver {
    /// The disk that `wanted` says. Throws `later` while it is being opened beside this thread; what it waits for is
    /// said once, in the log and in the error node.
    func open(_ wanted: DiskSettings, _ store: StoreClient) throws(DriverFailure) -> any BlockDevice {
        guard DiskOpening.isNeeded(for: wanted) else {
            do throws(DeviceOpenFailure) { return try openDisk(wanted) } catch {
                throw .unavailable(number: error.number, error.description)
            }
        }
        let limit = wanted.reconnectDelayMilliseconds ?? options.reconnectDelayMilliseconds
        let attempt: DiskOpening
        if let opening, opening.settings == wanted {
            attempt = opening
        } else {
            opening?.abandon()
            attempt = DiskOpening(wanted, limit: limit, time: hypervisor.time, openDisk)
            opening = attempt
        }
        if let reason = attempt.takeNote() { try tellWaiting(reason, limit, store) }
        guard let outcome = attempt.outcome else { throw .later }
        opening = nil
        switch outcome {
        case .success(let disk):
            if hasToldWaiting { try? store.discardNode(path.errorNode) }
            hasToldWaiting = false
            return disk
        case .failure(let error):
            hasToldWaiting = false
            throw .unavailable(number: error.number, error.description)
        }
    }

    private func tellWaiting(_ reason: DeviceOpenFailure, _ limit: UInt64, _ store: StoreClient) throws(DriverFailure) {
        hasToldWaiting = true
        let line = "\(reason.description); waited for, \(limit / 1000) s at most"
        log("vbd \(path.device): \(line)")
        do throws(XenbusError) {
            try store.complain(path.path, errorNode: path.errorNode, number: reason.number, line)
        } catch { throw .xenbus(error) }
    }

    /// What a frontend may ask for: no more queues than the disk, where it is known by now, can have.
    var offer: BlockOffer {
        var offer = options.offer
        if let disk { offer.queues = min(offer.queues, UInt32(clamping: disk.queueLimit)) }
        return offer
    }
}
