// The back ends by name.

import DMA
import FrameMaps
import LinuxSystem

/// What a back end is made of.
public struct DMABackEndSettings: Sendable {
    /// What it is called in faults and errors.
    public var device: String
    /// Limits, pool and mode of those back ends whose device is a part of this process.
    public var options: DMAOptions
    /// What may be locked, for those that lock memory.
    public var account: LockedMemoryAccount
    /// The kernel, for those that it serves.
    public var kernel: any IommuKernel

    /// As given.
    public init(
        device: String, options: DMAOptions = DMAOptions(), account: LockedMemoryAccount = .ofThisProcess,
        kernel: any IommuKernel = RunningKernel()
    ) {
        self.device = device
        self.options = options
        self.account = account
        self.kernel = kernel
    }
}

/// The back ends that there are: `direct`, `identity`, `vp`, `iommu`, `vfio-type1:/dev/vfio/GROUP` and
/// `iommufd[:/dev/vfio/devices/vfioN]`.
public enum DMABackEnds: String, CaseIterable, Sendable {
    /// Frames by the domain's table (P2M).
    case direct
    /// Frames by the domain's own numbers, which are the machine's (P==M).
    case identity
    /// The domain's own numbers, which the hypervisor translates.
    case vp
    /// A software IOMMU before any of the three.
    case iommu
    /// The machine's IOMMU, by way of a VFIO group.
    case vfioType1 = "vfio-type1"
    /// The machine's IOMMU, by way of iommufd.
    case iommufd

    /// Their names.
    public static var names: [String] { allCases.map(\.rawValue) }

    /// What follows the name, for those that take something: a node of the file system.
    public var argument: String? {
        switch self {
        case .vfioType1: "/dev/vfio/GROUP"
        case .iommufd: "[/dev/vfio/devices/vfioN]"
        case .direct, .identity, .vp, .iommu: nil
        }
    }

    /// Makes the back end that `specification` names: a name, or a name, a colon and what that back end takes.
    public static func make(
        _ specification: String, _ settings: DMABackEndSettings
    ) throws(DMABackEndError) -> any DMABackEnd {
        let parts = specification.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        let name = String(parts[0])
        guard let kind = DMABackEnds(rawValue: name) else { throw .unknown(name: name, known: names) }
        let argument = parts.count > 1 && !parts[1].isEmpty ? String(parts[1]) : nil
        if argument != nil && kind.argument == nil { throw .unknown(name: specification, known: names) }
        switch kind {
        case .direct, .identity, .vp, .iommu: return try kind.model(settings)
        case .vfioType1:
            guard let group = argument else { throw .needsArgument(name: name, what: "a group's node, /dev/vfio/GROUP") }
            return try VFIOContainer(group: group, account: settings.account, kernel: settings.kernel)
        case .iommufd:
            let space = try Iommufd(account: settings.account, kernel: settings.kernel).makeSpace()
            if let device = argument { try space.attach(device) }
            return space
        }
    }

    private func model(_ settings: DMABackEndSettings) throws(DMABackEndError) -> ModelBackEnd {
        var options = settings.options
        switch self {
        case .direct: options.model = .p2m
        case .identity: options.model = .identity
        case .vp: options.model = .vp
        default: break
        }
        options.iommu = self == .iommu ? options.iommu ?? .strict : nil
        do throws(DMAError) {
            return ModelBackEnd(name: rawValue, device: try DMADevice(name: settings.device, options: options))
        } catch { throw .unavailable(name: rawValue, what: settings.device, why: "\(error)") }
    }

    /// Why this one cannot be had here, or nil if it can: whether its node opens.
    public func obstacle(_ kernel: any IommuKernel = RunningKernel()) -> String? {
        let path: String
        switch self {
        case .direct, .identity, .vp, .iommu: return nil
        case .vfioType1: path = "/dev/vfio/vfio"
        case .iommufd: path = "/dev/iommu"
        }
        do throws(Errno) {
            _ = try kernel.open(path)
            return nil
        } catch { return "\(path): \(error)" }
    }
}
