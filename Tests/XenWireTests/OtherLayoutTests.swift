// The store's and the grant table's forms, which live in other rooms, held against the C compiler in the same way.

import CXen
import HypervisorCore
import SharedMemory
import Testing
import XenStore
import XenWire

@Suite struct OtherLayoutTests {
    @Test(.timeLimit(.minutes(3)))
    func theStoresNumbersAreXens() throws {
        var probe = CompilerProbe()
        let names = [
            "CONTROL", "DIRECTORY", "READ", "GET_PERMS", "WATCH", "UNWATCH", "TRANSACTION_START", "TRANSACTION_END", "INTRODUCE",
            "RELEASE", "GET_DOMAIN_PATH", "WRITE", "MKDIR", "RM", "SET_PERMS", "WATCH_EVENT", "ERROR", "IS_DOMAIN_INTRODUCED",
            "RESUME", "SET_TARGET", "RESET_WATCHES", "DIRECTORY_PART",
        ]
        #expect(names.count == StoreMessageType.allCases.count)
        for (name, type) in zip(names, StoreMessageType.allCases) { probe.expect("XS_\(name)", Int(type.rawValue)) }
        probe.expect("XS_TYPE_COUNT", Int(StoreMessageType.allCases.map(\.rawValue).max()!) + 1)
        probe.expect("sizeof(struct xsd_sockmsg)", StoreWire.headerSize)
        probe.expect("XENSTORE_PAYLOAD_MAX", StoreWire.payloadMax)
        probe.expect("XENSTORE_ABS_PATH_MAX", StoreWire.absolutePathMax)
        probe.expect("XENSTORE_REL_PATH_MAX", StoreWire.relativePathMax)
        #expect(try probe.objections() == "")
    }

    @Test func aMessageIsXensStructure() {
        let message = StoreMessage(.write, request: 0x0102_0304, transaction: 0x0506_0708, payload: [9, 9, 9])
        let header = xsd_sockmsg(type: UInt32(XS_WRITE.rawValue), req_id: 0x0102_0304, tx_id: 0x0506_0708, len: 3)
        #expect(message.bytes == withUnsafeBytes(of: header, Array.init) + [9, 9, 9])
    }

    @Test(.timeLimit(.minutes(3)))
    func theGrantTablesNumbersAreXens() throws {
        var probe = CompilerProbe()
        for (name, flags) in [
            ("permit_access", GrantFlags.permitAccess), ("type_mask", .typeMask), ("readonly", .readOnly), ("reading", .reading),
            ("writing", .writing), ("sub_page", .subPage),
        ] { probe.expect("GTF_\(name)", Int(flags.rawValue)) }
        probe.expect("sizeof(struct grant_entry_v1)", SharedRegion.pageSize / grantsPerTableFrame)
        probe.expect("GNTTAB_NR_RESERVED_ENTRIES", Int(reservedGrants))
        #expect(try probe.objections() == "")
    }

    @Test func anEntryIsXensStructure() throws {
        let region = try SharedRegion(anonymous: 4096)
        let frame = SharedGrantTableFrame(region)
        frame.write(3, GrantHeader(flags: [.permitAccess, .readOnly], domain: DomainID(0x1234)), frame: 0x89AB_CDEF)
        let entry = grant_entry_v1(flags: UInt16(GTF_permit_access | GTF_readonly), domid: 0x1234, frame: 0x89AB_CDEF)
        #expect(region.bytes(at: 3 * MemoryLayout<grant_entry_v1>.stride, count: 8) == withUnsafeBytes(of: entry, Array.init))
        #expect(frame.header(3).domain == DomainID(0x1234) && frame.header(3).flags == [.permitAccess, .readOnly])
    }
}
