// Offsets, sizes and constants, held against the C compiler's own.

import BlockProtocol
import CXen
import TestSupport
import Testing
import XenTypes

/// The claims that a layout makes about xen/io/blkif.h.
private func claims(of layout: BlockLayout, _ probe: inout CompilerProbe) {
    for (name, offset) in [
        ("blkif_request, operation", 0), ("blkif_request, nr_segments", 1), ("blkif_request, handle", 2),
        ("blkif_request, id", layout.id), ("blkif_request, sector_number", layout.sector),
        ("blkif_request, seg", layout.payload), ("blkif_request, seg[10]", layout.payload + 80),
        ("blkif_request_discard, operation", 0), ("blkif_request_discard, flag", 1), ("blkif_request_discard, handle", 2),
        ("blkif_request_discard, id", layout.id), ("blkif_request_discard, sector_number", layout.sector),
        ("blkif_request_discard, nr_sectors", layout.payload),
        ("blkif_request_indirect, operation", 0), ("blkif_request_indirect, indirect_op", 1),
        ("blkif_request_indirect, nr_segments", 2), ("blkif_request_indirect, id", layout.id),
        ("blkif_request_indirect, sector_number", layout.sector), ("blkif_request_indirect, handle", layout.payload),
        ("blkif_request_indirect, indirect_grefs", layout.indirectReferences),
        ("blkif_response, id", 0), ("blkif_response, operation", 8), ("blkif_response, status", 10),
        ("blkif_request_segment, gref", 0), ("blkif_request_segment, first_sect", 4), ("blkif_request_segment, last_sect", 5),
        ("blkif_sring, req_prod", 0), ("blkif_sring, req_event", 4), ("blkif_sring, rsp_prod", 8),
        ("blkif_sring, rsp_event", 12), ("blkif_sring, ring", 64), ("blkif_sring, ring[1]", 64 + layout.slotSize),
    ] {
        probe.expect("offsetof(struct \(name))", offset)
    }
    probe.expect("sizeof(struct blkif_request)", layout.requestSize)
    probe.expect("sizeof(struct blkif_request_discard)", layout.discardSize)
    probe.expect("sizeof(struct blkif_request_indirect)", layout.indirectSize)
    probe.expect("sizeof(struct blkif_response)", layout.responseSize)
    probe.expect("sizeof(union blkif_sring_entry)", layout.slotSize)
    probe.expect("sizeof(struct blkif_request_segment)", BlockSegment.size)
}

@Suite struct BlockLayoutTests {
    static let compilers: [(abi: BlockABI, flags: [String])] = {
        #if arch(x86_64)
            [(.native, []), (.x86_32, ["-m32"]), (.x86_64, ["-m64"])]
        #else
            [(.native, [])]
        #endif
    }()

    @Test(.timeLimit(.minutes(3)), arguments: compilers)
    func theCompilerAgreesWithEachLayout(abi: BlockABI, flags: [String]) throws {
        var probe = CompilerProbe(flags: flags)
        claims(of: abi.layout, &probe)
        #expect(try probe.objections() == "")
    }

    @Test(.timeLimit(.minutes(3)), arguments: compilers)
    func theCompilerWouldObjectToAWrongLayout(abi: BlockABI, flags: [String]) throws {
        var probe = CompilerProbe(flags: flags)
        claims(of: abi.layout == .packed ? .aligned : .packed, &probe)
        #expect(try probe.objections() != "")
    }

    @Test(.timeLimit(.minutes(3)))
    func constantsAreXens() throws {
        var probe = CompilerProbe()
        for (name, code) in [
            ("READ", BlockOperationCode.read), ("WRITE", .write), ("WRITE_BARRIER", .barrier), ("FLUSH_DISKCACHE", .flush),
            ("RESERVED_1", .reserved), ("DISCARD", .discard), ("INDIRECT", .indirect),
        ] { probe.expect("BLKIF_OP_\(name)", Int(code.rawValue)) }
        probe.expect("BLKIF_RSP_OKAY", Int(BlockStatus.okay.rawValue))
        probe.expect("BLKIF_RSP_ERROR", Int(BlockStatus.error.rawValue))
        probe.expect("BLKIF_RSP_EOPNOTSUPP", Int(BlockStatus.unsupported.rawValue))
        probe.expect("BLKIF_MAX_SEGMENTS_PER_REQUEST", BlockLimits.maximumDirectSegments)
        probe.expect("BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST", BlockLimits.maximumIndirectPages)
        probe.expect("BLKIF_DISCARD_SECURE", Int(BlockLimits.secureDiscardFlag))
        probe.expect("VDISK_CDROM", Int(BlockDeviceInfo.cdrom.rawValue))
        probe.expect("VDISK_REMOVABLE", Int(BlockDeviceInfo.removable.rawValue))
        probe.expect("VDISK_READONLY", Int(BlockDeviceInfo.readOnly.rawValue))
        for (name, state) in zip(
            [
                "Unknown", "Initialising", "InitWait", "Initialised", "Connected", "Closing", "Closed", "Reconfiguring",
                "Reconfigured",
            ],
            XenbusState.allCases)
        { probe.expect("XenbusState\(name)", state.rawValue) }
        for (name, status) in zip(
            [
                "okay", "general_error", "bad_domain", "bad_gntref", "bad_handle", "bad_virt_addr", "bad_dev_addr",
                "no_device_space", "permission_denied", "bad_page", "bad_copy_arg", "address_too_big", "eagain", "no_space",
            ], GrantStatus.allCases)
        { probe.expect("GNTST_\(name)", Int(status.rawValue)) }
        probe.expect("DOMID_SELF", Int(DomainID.myself.rawValue))
        probe.expect("DOMID_FIRST_RESERVED - 1", Int((0...UInt16.max).map { DomainID($0) }.last { $0.isOrdinary }!.rawValue))
        probe.expect("sizeof(domid_t)", MemoryLayout<DomainID>.size)
        probe.expect("sizeof(grant_ref_t)", MemoryLayout<GrantReference>.size)
        probe.expect("sizeof(evtchn_port_t)", MemoryLayout<EventPort>.size)
        #expect(try probe.objections() == "")
        #expect(XenbusState.allCases.count == 9 && GrantStatus.allCases.count == 14)
    }

    /// The structures as Swift's importer sees them: a second opinion on this host's own layout.
    @Test func theImporterAgreesWithTheNativeLayout() {
        let layout = BlockABI.native.layout
        #expect(MemoryLayout<blkif_request>.offset(of: \.id) == layout.id)
        #expect(MemoryLayout<blkif_request>.offset(of: \.sector_number) == layout.sector)
        #expect(MemoryLayout<blkif_request>.offset(of: \.seg) == layout.payload)
        #expect(MemoryLayout<blkif_request>.stride == layout.requestSize)
        #expect(MemoryLayout<blkif_request_discard>.offset(of: \.nr_sectors) == layout.payload)
        #expect(MemoryLayout<blkif_request_indirect>.offset(of: \.indirect_grefs) == layout.indirectReferences)
        #expect(MemoryLayout<blkif_request_indirect>.stride == layout.indirectSize)
        #expect(MemoryLayout<blkif_response>.stride == layout.responseSize)
        #expect(MemoryLayout<blkif_sring_entry>.stride == layout.slotSize)
    }

    @Test func protocolNodes() {
        #expect(BlockABI.x86_32.node == XEN_IO_PROTO_ABI_X86_32 && BlockABI.x86_64.node == XEN_IO_PROTO_ABI_X86_64)
        #expect(BlockABI.native.node == XEN_IO_PROTO_ABI_NATIVE)
        for abi in BlockABI.allCases { #expect(BlockABI(node: abi.node)?.layout == abi.layout) }
        #if arch(x86_64)
            #expect(BlockABI(node: nil) == .x86_32, "as Linux, QEMU and tapdisk have it")
        #endif
        #expect(BlockABI(node: nil, whenMissing: .native) == .native)
        for unknown in ["", "x86_64", "x86_64-abi ", "X86_64-ABI", "ppc-abi"] { #expect(BlockABI(node: unknown) == nil) }
    }
}
