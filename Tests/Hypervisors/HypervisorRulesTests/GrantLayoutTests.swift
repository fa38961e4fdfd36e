// The grant table's form, held against Xen's header by the C compiler.

import CXen
import HypervisorRules
import SharedMemory
import TestSupport
import Testing
import XenTypes

@Suite struct GrantLayoutTests {
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
