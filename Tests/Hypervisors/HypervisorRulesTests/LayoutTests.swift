// The grant table's layout against libxen-dev's header.

import CXen
import HypervisorRules
import SharedMemory
import Testing
import XenTypes

@Suite struct LayoutTests {
    @Test func anEntryIsXens() throws {
        #expect(MemoryLayout<grant_entry_v1>.size == 8)
        let page = try SharedRegion(anonymous: 4096)
        let frame = SharedGrantTableFrame(page)
        frame.write(5, GrantHeader(flags: [.permitAccess, .readOnly], domain: DomainID(0x1234)), frame: 0xCAFE_F00D)
        var entry = grant_entry_v1()
        let bytes = page.bytes(at: 5 * MemoryLayout<grant_entry_v1>.stride, count: 8)
        withUnsafeMutableBytes(of: &entry) { $0.copyBytes(from: bytes) }
        #expect(entry.flags == 5 && entry.domid == 0x1234 && entry.frame == 0xCAFE_F00D)
        frame.clear(5, .readOnly)
        #expect(frame.header(5) == GrantHeader(flags: .permitAccess, domain: DomainID(0x1234)))
    }

    @Test func theFlagsAreXens() {
        #expect(GrantFlags.readOnly.rawValue == 1 << _GTF_readonly)
        #expect(GrantFlags.reading.rawValue == 1 << _GTF_reading)
        #expect(GrantFlags.writing.rawValue == 1 << _GTF_writing)
        #expect(GrantFlags.subPage.rawValue == 1 << _GTF_sub_page)
        #expect(Int32(reservedGrants) == GNTTAB_NR_RESERVED_ENTRIES)
    }
}
