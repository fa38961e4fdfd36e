// What a device does wrong on purpose, asked for and undone by whoever looks after it.

import DeviceFaults

/// Whether faults may be set on a device.
public enum FaultPermission: Sendable {
    /// They are written down here.
    case allowed(FaultBook)
    /// Why not.
    case refused(String)

    /// A device of Xen's: it has a book where no guest of a real Xen is behind it.
    public init(_ book: FaultBook?) {
        self =
            book.map { .allowed($0) }
            ?? .refused("faults are set on the loopback host only: a guest of a real Xen has data to lose")
    }
}

extension ControlledDevice {
    /// None can be set.
    public var faults: FaultPermission { .refused("faults are set on disks and interfaces of Xen's, and this one is another") }

    /// Those that are set.
    func faultRecords() throws(ControlError) -> [FaultRecord] { try book("fault").records }

    /// Sets one; its name.
    func set(_ plan: FaultPlan) throws(ControlError) -> String {
        let book = try book("fault \(plan.kind)")
        do throws(FaultError) { return try book.set(plan) } catch { throw .fault(name, error) }
    }

    /// Undoes one, or all; what they were.
    func clearFault(_ fault: String) throws(ControlError) -> [FaultRecord] {
        let book = try book("fault")
        do throws(FaultError) { return try book.clear(fault) } catch { throw .fault(name, error) }
    }

    private func book(_ command: String) throws(ControlError) -> FaultBook {
        switch faults {
        case .allowed(let book): return book
        case .refused(let reason): throw .cannot(device: name, command: command, reason)
        }
    }
}
