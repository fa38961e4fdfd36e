// Hypercalls, as far as Xen's own programs need them to list and to watch domains: what Xen answers, from what the
// daemon knows. A call that is not here is one that Xen was built without.

import CLibxenCompat
import Glibc
import LinuxSystem
import Loopback
import XenTypes

/// One hypercall's maker.
///
/// SAFETY: the toolstack's structures have unions and pointers in them. Which member of a union counts, the command
/// says; `with` says what is known of the memory.
struct Hypercall {
    let link: LoopbackLink

    func make(_ operation: UInt32, _ arguments: [UInt64]) throws(LinkFailure) -> Int {
        switch Int32(bitPattern: operation) {
        case __HYPERVISOR_xen_version: return try version(arguments[0], arguments[1])
        case __HYPERVISOR_event_channel_op where arguments[0] == UInt64(EVTCHNOP_status): return try portStatus(arguments[1])
        case __HYPERVISOR_sysctl: return try systemControl(arguments[0])
        case __HYPERVISOR_domctl: return try domainControl(arguments[0])
        default: throw unknown
        }
    }

    private var unknown: LinkFailure { LinkFailure(Errno(ENOSYS), "no such hypercall") }

    /// The caller's structure at `address`, changed in place.
    ///
    /// SAFETY: a hypercall's argument is a structure of the kind that the operation has, in this process's memory; the
    /// caller says so by making the call, and nothing else can be known of an address.
    private func with<Structure, Result>(
        _ address: UInt64, _ type: Structure.Type, _ body: (inout Structure) throws(LinkFailure) -> Result
    ) throws(LinkFailure) -> Result {
        guard let pointer = unsafe UnsafeMutablePointer<Structure>(bitPattern: UInt(address)) else {
            throw LinkFailure(.badAddress, "no argument")
        }
        return try unsafe body(&pointer.pointee)
    }

    // MARK: xen_version

    /// Xen 4.17, the one whose headers this was built with.
    private func version(_ command: UInt64, _ address: UInt64) throws(LinkFailure) -> Int {
        switch Int32(truncatingIfNeeded: command) {
        case XENVER_version: return 4 << 16 | 17
        case XENVER_extraversion: return try put(".0-causeway", address, 16)
        case XENVER_compile_info: return try put("", address, MemoryLayout<xen_compile_info>.size)
        case XENVER_capabilities: return try put("xen-3.0-x86_64 ", address, 1024)
        case XENVER_changeset: return try put("", address, 64)
        case XENVER_platform_parameters: return try put("", address, MemoryLayout<xen_platform_parameters>.size)
        case XENVER_get_features:
            return try with(address, xen_feature_info.self) { (info) throws(LinkFailure) in
                info.submap = 0
                return 0
            }
        case XENVER_pagesize: return 4096
        case XENVER_guest_handle: return try put("", address, 16)
        case XENVER_commandline: return try put("", address, 1024)
        default: throw unknown
        }
    }

    /// Fills a field of `size` bytes with text and zeros.
    ///
    /// SAFETY: the command's structure has `size` bytes, as the headers say; see `with`.
    private func put(_ text: String, _ address: UInt64, _ size: Int) throws(LinkFailure) -> Int {
        guard let field = unsafe UnsafeMutablePointer<UInt8>(bitPattern: UInt(address)) else {
            throw LinkFailure(.badAddress, "no argument")
        }
        let bytes = Array(text.utf8.prefix(size - 1))
        for index in 0..<size { unsafe field[index] = index < bytes.count ? bytes[index] : 0 }
        return 0
    }

    // MARK: event_channel_op

    private func portStatus(_ address: UInt64) throws(LinkFailure) -> Int {
        try with(address, evtchn_status.self) { (answer) throws(LinkFailure) in
            let own = DomainID(answer.dom) == DomainID.myself ? link.domain : DomainID(answer.dom)
            let status = try link.status(of: EventPort(answer.port), in: own)
            answer.vcpu = 0
            switch status {
            case .closed: answer.status = UInt32(EVTCHNSTAT_closed)
            case .unbound(let remote):
                answer.status = UInt32(EVTCHNSTAT_unbound)
                unsafe answer.u.unbound.dom = remote.rawValue
            case .interdomain(let remote, let port):
                answer.status = UInt32(EVTCHNSTAT_interdomain)
                unsafe answer.u.interdomain.dom = remote.rawValue
                unsafe answer.u.interdomain.port = port.rawValue
            case .virtual(let interrupt):
                answer.status = UInt32(EVTCHNSTAT_virq)
                unsafe answer.u.virq = interrupt
            }
            return 0
        }
    }

    // MARK: sysctl

    private func systemControl(_ address: UInt64) throws(LinkFailure) -> Int {
        try privileged()
        return try unsafe with(address, xen_sysctl.self) { (request) throws(LinkFailure) in
            guard unsafe request.interface_version == UInt32(XEN_SYSCTL_INTERFACE_VERSION) else {
                throw LinkFailure(Errno(EACCES), "another interface's version")
            }
            switch unsafe Int32(bitPattern: request.cmd) {
            case XEN_SYSCTL_physinfo: unsafe request.u.physinfo = Self.machine
            case XEN_SYSCTL_getdomaininfolist: try unsafe list(&request.u.getdomaininfolist)
            default: throw unknown
            }
            return 0
        }
    }

    private static var machine: xen_sysctl_physinfo {
        var machine = xen_sysctl_physinfo()
        let processors = UInt32(clamping: max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
        machine.threads_per_core = 1
        machine.cores_per_socket = processors
        machine.nr_cpus = processors
        machine.max_cpu_id = processors - 1
        machine.nr_nodes = 1
        machine.total_pages = UInt64(clamping: sysconf(Int32(_SC_PHYS_PAGES)))
        machine.free_pages = UInt64(clamping: sysconf(Int32(_SC_AVPHYS_PAGES)))
        machine.max_mfn = machine.total_pages
        return machine
    }

    private func list(_ wanted: inout xen_sysctl_getdomaininfolist) throws(LinkFailure) {
        let domains = try unsafe link.describeDomains(from: DomainID(wanted.first_domain)).prefix(Int(wanted.max_domains))
        // SAFETY: room for `max_domains` of them, as the caller says beside the pointer.
        let places = unsafe wanted.buffer.p
        guard unsafe places != nil || domains.isEmpty else { throw LinkFailure(.badAddress, "no room for the answer") }
        for (index, domain) in domains.enumerated() { unsafe places?[index] = information(domain) }
        unsafe wanted.num_domains = UInt32(domains.count)
    }

    // MARK: domctl

    private func domainControl(_ address: UInt64) throws(LinkFailure) -> Int {
        try privileged()
        return try unsafe with(address, xen_domctl.self) { (request) throws(LinkFailure) in
            guard unsafe request.interface_version == UInt32(XEN_DOMCTL_INTERFACE_VERSION) else {
                throw LinkFailure(Errno(EACCES), "another interface's version")
            }
            let domain = unsafe DomainID(request.domain)
            switch unsafe Int32(bitPattern: request.cmd) {
            case XEN_DOMCTL_getdomaininfo:
                // The first from that number on; ESRCH is how a caller's loop ends.
                guard let found = try link.describeDomains(from: domain).first else {
                    throw LinkFailure(.noSuchProcess, "domain \(domain): no such domain")
                }
                unsafe request.domain = found.domain.rawValue
                unsafe request.u.getdomaininfo = information(found)
            case XEN_DOMCTL_destroydomain: try link.destroy(domain)
            default: throw unknown
            }
            return 0
        }
    }

    private func information(_ domain: DomainDescription) -> xen_domctl_getdomaininfo {
        var information = xen_domctl_getdomaininfo()
        information.domain = domain.domain.rawValue
        information.flags = UInt32(XEN_DOMINF_running) | (domain.isTranslated ? UInt32(XEN_DOMINF_hvm_guest) : 0)
        information.tot_pages = UInt64(domain.pages)
        information.max_pages = UInt64(domain.pages)
        information.nr_online_vcpus = 1
        // SAFETY: sixteen bytes into a field of sixteen.
        unsafe withUnsafeMutableBytes(of: &information.handle) { unsafe $0.copyBytes(from: domain.uuid.bytes) }
        return information
    }

    private func privileged() throws(LinkFailure) {
        guard link.domain == .zero else { throw LinkFailure(Errno(EPERM), "for domain 0 only") }
    }
}
