// A ring in pages that a driver has granted: mapped side by side for as long as it is served.

import Hypervisor
import SharedMemory
import VirtioRing
import VirtioWire
import XenTypes

/// Why a ring cannot be where a driver says.
public enum GrantedRingError: Error, CustomStringConvertible {
    /// An address that is no grant's.
    case noGrant(UInt64)
    /// The hypervisor maps it not.
    case refused(HypervisorError)
    /// What a ring cannot be.
    case badRing(VirtqueueError)

    /// One sentence.
    public var description: String {
        switch self {
        case .noGrant(let address): "a ring at 0x\(String(address, radix: 16)), which is no grant"
        case .refused(let error): "a ring that cannot be mapped: \(error)"
        case .badRing(let error): "\(error)"
        }
    }
}

/// The pages of a ring. Unmapped when it is let go.
public final class GrantedRing {
    /// Where its parts are.
    public let areas: VirtqueueAreas
    private let grants: [any ContiguousGrants]

    /// Maps a ring's areas.
    public init(
        size: Int, descriptors: UInt64, driver: UInt64, device: UInt64, features: VirtioFeatures, on hypervisor: any Hypervisor,
        of granter: DomainID
    ) throws(GrantedRingError) {
        var memory = RingGrants()
        do throws(VirtqueueError) {
            for (run, _) in try VirtqueueAreas.extents(
                size: size, descriptors: descriptors, driver: driver, device: device, features: features)
            {
                memory.runs.append(run)
            }
        } catch { throw .badRing(error) }
        for run in memory.runs {
            guard let references = GrantAddress.references(run) else { throw .noGrant(run.address) }
            do throws(HypervisorError) {
                memory.grants.append(
                    try hypervisor.mapContiguous(references.map { GrantReference($0) }, of: granter, access: .readWrite))
            } catch { throw .refused(error) }
        }
        do throws(VirtqueueError) {
            areas = try VirtqueueAreas(
                size: size, descriptors: descriptors, driver: driver, device: device, features: features, in: memory)
        } catch { throw .badRing(error) }
        grants = memory.grants
    }

    deinit { for grant in grants { grant.unmap() } }
}

/// A ring's areas by the addresses that they were mapped from.
private struct RingGrants: GuestMemory {
    var runs: [GuestRun] = []
    var grants: [any ContiguousGrants] = []

    func admits(_ run: GuestRun, forWriting: Bool) -> Bool { true }

    func piece(_ run: GuestRun, forWriting: Bool) -> GuestPiece {
        guard let index = runs.firstIndex(of: run), !forWriting || grants[index].region.isWritable else { return .outside }
        return .here(grants[index].region, offset: Int(run.address & 0xFFF), byteCount: run.byteCount)
    }
}
