// What the process or program before this one has left, device by device, and whoever waits until all go on.

import CommandSupport
import LinuxSystem
import VhostUser

/// A predecessor, if there was one.
struct ExportPredecessor {
    private let devices: [String: ExportSuccession.Device]
    private var descriptors: InheritedDescriptors
    private let report: UpgradeReport
    private let keeper: KeeperLink?

    /// - Parameters:
    ///   - left: of a program that this process was before.
    ///   - keeper: of a process that was before this one.
    ///   - count: devices that there will be.
    init(_ left: ExportSuccession?, _ keeper: KeeperLink?, devices count: Int) {
        self.keeper = keeper
        if let keeper {
            descriptors = InheritedDescriptors(keeper.received)
            devices = keeper.devices.compactMapValues { $0.leftDevice(after: keeper.signal) }
            let asker = keeper.takeAsker()
            report = UpgradeReport(devices: count, heldAt: asker?.heldAt ?? 0, to: asker?.descriptor)
        } else {
            var descriptors = InheritedDescriptors()
            devices = Dictionary((left?.devices ?? []).map { ($0.name, $0) }) { first, _ in first }
            report = UpgradeReport(
                devices: count, heldAt: left?.heldAt ?? 0, to: left.flatMap { descriptors[$0.asker] })
            self.descriptors = descriptors
        }
    }

    /// Goes on with a device, or begins it anew. One that cannot be gone on with is said: the others' go on.
    mutating func resume(
        _ name: String,
        _ resume: (ExportSuccession.Device, inout InheritedDescriptors, @escaping @Sendable () -> Void) throws(Failure) -> Void,
        anew: () throws(Failure) -> Void
    ) throws(Failure) {
        let report = report
        guard let left = devices[name] else {
            try anew()
            return report.began()
        }
        do throws(Failure) { try resume(left, &descriptors) { report.began() } } catch {
            complain("\(error)")
            report.began()
        }
    }

    /// All devices are there; what COMMAND is to see.
    mutating func finish(_ variables: [String: String]) {
        // Whoever is not gone on with is to see its connection end.
        descriptors = InheritedDescriptors([:])
        guard let keeper else { return }
        keeper.settle()
        report.whenAllBegan { keeper.ready(variables) }
    }
}

extension KeptPage {
    /// What a process that was killed has left.
    func leftDevice(after signal: Int32) -> ExportSuccession.Device? {
        var device = record
        // Nobody knows how far the front end has heard of a message that was being dealt with.
        if isInMessage { device?.frontend = nil }
        return device
    }
}
