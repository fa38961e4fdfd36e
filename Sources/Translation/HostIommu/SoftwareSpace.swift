// The rules of a VFIO container without a machine that has an IOMMU: fixed addresses, reserved ones, accounts, dirty
// pages, faults. For tests of drivers, and for devices that are a part of this process.

import DMA
import FrameMaps
import LinuxSystem

/// An address space behind a software IOMMU whose frames are this process's own pages.
public final class SoftwareSpace: PlacingBackEnd {
    /// What it is chosen by.
    public static let name = "software"
    /// What it is chosen by.
    public var name: String { Self.name }
    /// The largest address and one.
    public let addressBits: Int
    private let domain: IommuDomain
    private let account: LockedMemoryAccount
    private var space: IovaSpace
    private var mappings = MappingTable<Void>()
    /// Where a PC's interrupts are messages: no device is given these addresses.
    private static let interruptWindow: ClosedRange<UInt64> = 0xFEE0_0000...0xFEEF_FFFF

    /// An empty space.
    /// - Parameters:
    ///   - addressBits: of an address that a device sends, 32 to 57.
    ///   - account: counts as a container's: each mapping.
    public init(addressBits: Int = 48, account: LockedMemoryAccount) throws(DMABackEndError) {
        guard (32...57).contains(addressBits) else {
            throw .unavailable(name: Self.name, what: "\(addressBits) bits", why: "an address has 32 to 57")
        }
        self.addressBits = addressBits
        self.account = account
        let top = (UInt64(1) << UInt64(addressBits)) - 1
        do throws(DMAError) {
            domain = try IommuDomain(device: Self.name, mode: .strict, mask: top, addressBits: addressBits)
        } catch { throw .dma(error) }
        domain.tracksDirty = false
        space = IovaSpace(
            addresses: [0...Self.interruptWindow.lowerBound - 1, Self.interruptWindow.upperBound + 1...top], granule: frameByteCount
        )
    }

    deinit { for record in mappings.all { try? unmap(record.mapping) } }

    /// What it can map.
    public var limits: DMALimits {
        DMALimits(
            pageSizes: 1 << 12 | 1 << 21 | 1 << 30, addresses: space.addresses, mappingsLeft: nil, lockableBytes: account.bytesLeft)
    }
    /// Mappings made and not unmapped.
    public var liveMappings: Int { mappings.count }
    /// Nothing becomes readable: faults are asked for.
    public var faultDescriptor: Descriptor? { nil }

    /// See `DMABackEnd`.
    public func map(_ memory: MemoryRun, _ direction: DMADirection) throws(DMABackEndError) -> BackEndMapping {
        try map(memory, direction, at: nil)
    }

    /// See `PlacingBackEnd`.
    public func map(_ memory: MemoryRun, _ direction: DMADirection, at wanted: Iova?) throws(DMABackEndError) -> BackEndMapping {
        if let wanted, wanted.offset != .zero { throw .misaligned(wanted.rawValue, granule: frameByteCount) }
        let start = try place(memory.byteCount, wanted)
        do throws(DMABackEndError) {
            try account.charge(memory.byteCount)
            do throws(DMAError) {
                try domain.link(
                    Iova(rawValue: start), to: BusFrame(rawValue: memory.address >> frameShift), pages: memory.pageCount,
                    direction.permissions)
            } catch {
                account.release(memory.byteCount)
                throw .dma(error)
            }
        } catch {
            space.giveBack(start, memory.byteCount)
            throw error
        }
        return mappings.add(memory, BackEndMapping.segments(from: start, byteCount: memory.byteCount), direction, ())
    }

    private func place(_ count: UInt64, _ wanted: Iova?) throws(DMABackEndError) -> UInt64 {
        if let wanted {
            guard space.mayHold(wanted.rawValue, count) else { throw .outsideAddresses(wanted, byteCount: count) }
            guard space.take(at: wanted.rawValue, count) else { throw .overlaps(wanted, byteCount: count) }
            return wanted.rawValue
        }
        // As the first address that is given out: not what a small number passed by mistake would be.
        guard let start = space.take(count, alignment: 1 << 20, residue: 0) ?? space.take(count, alignment: 4096, residue: 0)
        else { throw .noAddresses(byteCount: count, largest: space.largest) }
        return start
    }

    /// The whole mapping.
    public func unmap(_ mapping: BackEndMapping) throws(DMABackEndError) {
        let record = try mappings.find(mapping)
        let start = Iova(rawValue: mapping.address.rawValue)
        do throws(DMAError) {
            try domain.unlink(start, pages: record.memory.pageCount)
            try domain.invalidate(start, pages: record.memory.pageCount)
        } catch { throw .dma(error) }
        space.giveBack(start.rawValue, mapping.byteCount)
        account.release(mapping.byteCount)
        mappings.remove(mapping)
    }

    /// See `DMABackEnd`.
    public func sync(_ mapping: BackEndMapping, offset: UInt64, byteCount: UInt64, for side: DMASide) throws(DMABackEndError) {
        try mappings.check(mapping, offset, byteCount)
    }

    /// Nothing waits: unmapping invalidates.
    public func flush() {}

    /// See `PlacingBackEnd`.
    public func startDirtyTracking() throws(DMABackEndError) {
        domain.tracksDirty = true
        // What was written before, and is remembered as such, is not what is asked for.
        for record in mappings.all { _ = try takeDirty(record.mapping) }
    }

    /// See `PlacingBackEnd`.
    public func stopDirtyTracking() throws(DMABackEndError) { domain.tracksDirty = false }

    /// See `PlacingBackEnd`. A large page that was written is written as a whole.
    public func takeDirty(_ mapping: BackEndMapping) throws(DMABackEndError) -> [Bool] {
        let record = try mappings.find(mapping)
        do throws(DMAError) {
            return try domain.takeDirty(Iova(rawValue: mapping.address.rawValue), pages: record.memory.pageCount)
        } catch { throw .dma(error) }
    }

    /// The device's side: where in this process one access to a byte leads; nil, and a fault, if it is refused.
    public func access(_ iova: Iova, writes: Bool) -> UInt64? {
        domain.access(iova, writes: writes).map { $0.rawValue << frameShift | UInt64(iova.offset.rawValue) }
    }

    /// See `DMABackEnd`.
    public func takeFaults() -> DMAFaults {
        var result = DMAFaults()
        for fault in domain.takeFaults() { result.add(DMAFault(fault)) }
        return result
    }

    /// `software, 48 bits: 3 mappings, 12288 of 8388608 bytes locked`.
    public var description: String { "\(name), \(addressBits) bits: \(liveMappings) mappings, \(account)" }
}
