// What the process or program before this one has left, device by device, and whoever waits until all go on.

import CommandSupport
import LinuxSystem
import VhostUser

/// A predecessor, if there was one.
struct ExportPredecessor {
    /// Whoever waits until all go on.
    let report: UpgradeReport
    private var devices: [String: LeftDevice]
    private let keeper: KeeperLink?
    /// What keeps a device for the next process, where this one has put by itself.
    private let keepers: [String: KeptDevice]

    /// - Parameters:
    ///   - left: of a program that this process was before.
    ///   - keeper: of a process that was before this one.
    ///   - count: what has to be there before all go on: devices, or those who serve them.
    init(_ left: ExportSuccession?, _ keeper: KeeperLink?, devices count: Int) {
        self.keeper = keeper
        keepers = [:]
        if let keeper {
            var descriptors = InheritedDescriptors(keeper.received)
            devices = keeper.devices.compactMapValues { page in
                var device = page.record.map { LeftDevice($0, &descriptors, wasKilled: true) }
                // Nobody knows how far the front end has heard of a message that was being dealt with.
                if page.isInMessage { device?.session = .none }
                device?.distrust(after: keeper.signal)
                return device
            }
            let asker = keeper.takeAsker()
            report = UpgradeReport(devices: count, heldAt: asker?.heldAt ?? 0, to: asker?.descriptor)
        } else {
            var descriptors = InheritedDescriptors()
            devices = Dictionary(
                (left?.devices ?? []).map { ($0.name, LeftDevice($0, &descriptors, wasKilled: false)) }
            ) { first, _ in first }
            report = UpgradeReport(devices: count, heldAt: left?.heldAt ?? 0, to: left.flatMap { descriptors[$0.asker] })
        }
    }

    /// This process itself, which has put its devices by and goes on with them after all.
    init(_ devices: [LeftDevice], _ keepers: [String: KeptDevice], _ keeper: KeeperLink?, devices count: Int) {
        self.devices = Dictionary(devices.map { ($0.name, $0) }) { first, _ in first }
        self.keepers = keepers
        self.keeper = keeper
        report = UpgradeReport(devices: count, heldAt: 0, to: nil)
    }

    /// What is left of a device; once.
    mutating func take(_ name: String) -> LeftDevice? { devices.removeValue(forKey: name) }

    /// What an interface lives on, if it has that name; nil: it is opened anew.
    func lifeline(of name: String, named tap: String) -> [Descriptor]? {
        guard let vif = devices[name]?.vif, vif.tap == tap, vif.lifeline?.isEmpty == false else { return nil }
        return vif.lifeline
    }

    /// Whether nobody has gone on with a device yet that is left.
    func has(_ name: String) -> Bool { devices[name] != nil }

    /// Those that nobody has gone on with yet.
    var rest: [LeftDevice] { Array(devices.values) }

    /// What keeps a device already.
    func keeper(of name: String) -> KeptDevice? { keepers[name] }

    /// Goes on with a device, or begins it anew. One that cannot be gone on with is said: the others' go on.
    mutating func resume(
        _ name: String, _ resume: (LeftDevice, @escaping @Sendable () -> Void) throws(Failure) -> Void,
        anew: () throws(Failure) -> Void
    ) throws(Failure) {
        let report = report
        guard let left = take(name) else {
            try anew()
            return report.began()
        }
        do throws(Failure) { try resume(left) { report.began() } } catch {
            complain("\(error)")
            report.began()
        }
    }

    /// All devices are there; what COMMAND is to see.
    mutating func finish(_ variables: [String: String]) {
        // Whoever is not gone on with is to see its connection end.
        devices = [:]
        guard let keeper else { return }
        report.whenAllBegan {
            // Not before: until a session has begun, what it needs is the predecessor's.
            keeper.settle()
            keeper.ready(variables)
        }
    }
}
