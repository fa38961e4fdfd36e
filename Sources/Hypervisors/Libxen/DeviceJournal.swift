// Which pages a device reaches, in a file in memory. Xen's handles for them are this domain's, not this process's: they
// outlive it, which is right while the device may still be at work, and a leak once it is not. A slot is Xen's own
// operation, mapped in place: Xen writes the handle into it, so that there is no moment at which a page is mapped and
// nobody could find out, whenever this process ends.

import CXen
import Glibc
import Hypervisor
import LinuxSystem
import SharedMemory
import XenTypes

/// The file's layout. One process has it; what stands in it is a predecessor's word, and looked at as such.
struct DeviceJournal: Sendable {
    /// Operations, of which a free one has no flags.
    static let slotCount = 32_768
    static let mostControllers = 32
    /// In one hypercall.
    static let mostUnmaps = SharedRegion.pageSize / MemoryLayout<gnttab_unmap_grant_ref>.stride
    /// Xen has not said anything of an operation yet: no status of its own is positive.
    static let unasked: Int16 = 0x7FFF

    private static let magic: UInt64 = 0x3144_7645_7761_4343
    private static let controllers = 64
    private static let unmaps = SharedRegion.pageSize
    private static let slots = 2 * SharedRegion.pageSize
    private static let slotSize = MemoryLayout<gnttab_map_grant_ref>.stride
    static let byteCount = slots + slotCount * slotSize

    let region: SharedRegion

    /// What a slot says.
    struct Entry: Equatable {
        var slot: Int
        var handle: UInt32
        var busAddress: UInt64
    }

    /// Opens the file at `path`, or makes it.
    /// - Parameter isNew: whether there was none, or one that was not finished.
    static func open(_ path: String) throws(Errno) -> (journal: DeviceJournal, isNew: Bool) {
        let file = try Descriptor.open(path, O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o600)
        let size = Int(try file.status().st_size)
        if size != byteCount {
            if size != 0 { throw Errno(EPROTO) }
            // All of it now: a store to a page that a full tmpfs has no room for would be a SIGBUS.
            let result = posix_fallocate(file.rawValue, 0, off_t(byteCount))
            if result != 0 {
                FileSystem.remove(path)
                throw Errno(result)
            }
        }
        let region = try SharedRegion(mapping: file, byteCount: byteCount, writable: true)
        let journal = DeviceJournal(region: region)
        let found: UInt64 = region.load(0)
        if found == magic { return (journal, false) }
        if found != 0 { throw Errno(EPROTO) }
        journal.region.store(magic, at: 0)
        return (journal, true)
    }

    init(region: SharedRegion) { self.region = region }

    // MARK: Controllers

    /// The controllers that reach what is noted.
    var controllers: [PCIAddress] {
        (0..<Self.mostControllers).compactMap { index in
            let word: UInt64 = region.load(Self.controllers + index * 8)
            return word == 0 ? nil : PCIAddress(number: word &- 1)
        }
    }

    /// Notes one; false: there are too many.
    func note(_ controller: PCIAddress) -> Bool {
        if controllers.contains(controller) { return true }
        for index in 0..<Self.mostControllers where region.load(Self.controllers + index * 8, as: UInt64.self) == 0 {
            region.store(controller.number &+ 1, at: Self.controllers + index * 8)
            return true
        }
        return false
    }

    /// Nothing is left that any of them reaches.
    func forgetControllers() { region.fill(Self.controllers, count: Self.mostControllers * 8) }

    // MARK: Slots

    static func offset(_ slot: Int) -> Int { slots + slot * slotSize }

    /// Writes what is to be asked of Xen.
    func ask(_ slot: Int, _ reference: GrantReference, of granter: DomainID, _ access: GrantAccess) {
        var operation = gnttab_map_grant_ref()
        operation.ref = reference.rawValue
        operation.dom = granter.rawValue
        operation.status = Self.unasked
        operation.flags = UInt32(GNTMAP_device_map) | (access == .readOnly ? UInt32(GNTMAP_readonly) : 0)
        region.copyOut(operation, byteCount: Self.slotSize, at: Self.offset(slot))
    }

    /// What stands in a slot.
    func operation(_ slot: Int) -> gnttab_map_grant_ref {
        var operation = gnttab_map_grant_ref()
        region.copyIn(Self.offset(slot), into: &operation, byteCount: Self.slotSize)
        return operation
    }

    /// What a slot says is mapped; nil: nothing.
    func entry(_ slot: Int) -> Entry? {
        let operation = operation(slot)
        guard operation.flags != 0, operation.status == 0 else { return nil }
        return Entry(slot: slot, handle: operation.handle, busAddress: operation.dev_bus_addr)
    }

    func clear(_ slot: Int) { region.fill(Self.offset(slot), count: Self.slotSize) }

    // MARK: Unmapping

    static var unmapOffset: Int { unmaps }

    /// Writes the `index`th operation of a batch that unmaps.
    func askUnmap(_ index: Int, _ entry: Entry) {
        var operation = gnttab_unmap_grant_ref()
        operation.dev_bus_addr = entry.busAddress
        operation.handle = entry.handle
        operation.status = Self.unasked
        let size = MemoryLayout<gnttab_unmap_grant_ref>.stride
        region.copyOut(operation, byteCount: size, at: Self.unmaps + index * size)
    }

    /// What Xen said to it.
    func unmapStatus(_ index: Int) -> Int16 {
        var operation = gnttab_unmap_grant_ref()
        let size = MemoryLayout<gnttab_unmap_grant_ref>.stride
        region.copyIn(Self.unmaps + index * size, into: &operation, byteCount: size)
        return operation.status
    }
}

extension PCIAddress {
    /// All of it in one number, for a file.
    var number: UInt64 { UInt64(domain) << 16 | UInt64(bus) << 8 | UInt64(device) << 3 | UInt64(function) }

    /// The reverse; nil for a number that is none.
    init?(number: UInt64) {
        guard number < 1 << 48 else { return nil }
        self.init(
            domain: UInt32(truncatingIfNeeded: number >> 16), bus: UInt8(truncatingIfNeeded: number >> 8),
            device: UInt8(truncatingIfNeeded: number >> 3 & 31), function: UInt8(truncatingIfNeeded: number & 7))
    }
}
