// The connection to this host's hypervisor, for reading: a domain's facts, its frames, and Xen's own machine-to-phys
// table. The one file here that calls C.

import CXenControl
import FrameMapReaders
import FrameMaps
import Glibc
import LinuxSystem

/// Why a running domain cannot be read.
public enum LiveDomainError: Error, Hashable, Sendable, CustomStringConvertible {
    /// This host has no Xen, or this process may not ask it.
    case noXen(Errno)
    /// This Xen's requests for toolstacks have another version than this program was built with.
    case otherXen(built: UInt32)
    case noDomain(UInt32)
    /// Its machine frames are Xen's own business.
    case autoTranslated(UInt32)
    /// Who asks would not go on.
    case pausesItself(UInt32)
    /// A call failed.
    case failed(String, Errno)

    /// What is wrong, in one line.
    public var description: String {
        switch self {
        case .noXen(let error) where error.rawValue == 6: "no Xen on this host (there is no /dev/xen/privcmd)"
        case .noXen(let error): "Xen cannot be reached: \(error) (domain 0's root can)"
        case .otherXen(let version):
            "this Xen's control interface is not version 0x\(String(version, radix: 16)), which causeway was built with (0x15 is Xen 4.17's)"
        case .noDomain(let id): "no domain \(id)"
        case .autoTranslated(let id):
            "domain \(id) is auto-translated (HVM or PVH): its machine frames are known to Xen alone; take a dump with xl dump-core"
        case .pausesItself(let id): "domain \(id) is this one and cannot be paused by itself; its table is read as it runs"
        case .failed(let what, let error): "\(what): \(error)"
        }
    }
}

/// What Xen says of a domain.
public struct LiveDomainFacts: Hashable, Sendable {
    /// Its number.
    public var id: UInt16
    /// Whether it is HVM or PVH.
    public var isAutoTranslated: Bool
    /// Whether its processors stood still.
    public var isPaused: Bool
    /// Pages that it has.
    public var pages: UInt64
    var sharedInfoFrame: UInt64
    var guestWidth: Int
}

/// A connection to Xen. Used from one thread at a time.
public final class XenControl {
    private let connection: Int32
    /// This domain's number, where it is known: the initial domain's.
    private let own: UInt32?

    /// Connects; `noXen` where there is none.
    public init() throws(LiveDomainError) {
        let made = cxc_open()
        guard made >= 0 else { throw .noXen(Errno(-made)) }
        connection = made
        own = Self.isInitialDomain ? 0 : nil
    }

    /// Whether this is the domain that the machine started with, which is number 0.
    private static var isInitialDomain: Bool {
        if let capabilities = FileSystem.text(of: "/proc/xen/capabilities") { return capabilities.contains("control_d") }
        // XENFEAT_dom0 is bit 11 of the features; /proc/xen need not be mounted.
        let features = (FileSystem.text(of: "/sys/hypervisor/properties/features")) ?? ""
        return UInt64(features.prefix { $0.isHexDigit }, radix: 16).map { $0 >> 11 & 1 == 1 } ?? false
    }

    deinit { cxc_close(connection) }

    private func check(_ result: Int32, _ what: String) throws(LiveDomainError) {
        if result == -EPROTONOSUPPORT { throw .otherXen(built: cxc_interface_version()) }
        if result != 0 { throw .failed(what, Errno(-result)) }
    }

    /// What Xen says of a domain.
    public func facts(of id: UInt16) throws(LiveDomainError) -> LiveDomainFacts {
        let domain = cxc_facts(connection, UInt32(id))
        if domain.error == -ESRCH || domain.is_dying { throw .noDomain(UInt32(id)) }
        try check(domain.error, "asking Xen about domain \(id)")
        return LiveDomainFacts(
            id: id, isAutoTranslated: domain.is_auto_translated, isPaused: domain.is_paused, pages: domain.pages,
            sharedInfoFrame: domain.shared_info_frame, guestWidth: Int(domain.guest_width))
    }

    /// Stops a domain's processors while `body` runs.
    public func whilePaused<R>(_ id: UInt16, _ body: () throws -> R) throws -> R {
        if let own, own == UInt32(id) { throw LiveDomainError.pausesItself(own) }
        try check(cxc_pause(connection, UInt32(id)), "pausing domain \(id)")
        defer { _ = cxc_unpause(connection, UInt32(id)) }
        return try body()
    }

    /// One past the machine's highest frame of memory.
    public func frameLimit() throws(LiveDomainError) -> UInt64 {
        let highest = cxc_maximum_frame(connection)
        try check(Int32(min(highest, 0)), "asking Xen for the highest frame")
        return UInt64(highest) + 1
    }

    /// Copies of frames that belong to domain `id`; nil for those that do not.
    func copies(_ frames: [Mfn], of id: UInt32) throws(LiveDomainError) -> [[UInt8]?] {
        if frames.isEmpty { return [] }
        // Xen has no foreign domain of the asking domain's own number.
        let owner = id == own ? cxc_own_domain() : id
        let numbers = frames.map(\.rawValue)
        var errors = [Int32](repeating: 0, count: frames.count)
        var bytes = [UInt8](repeating: 0, count: frames.count * 4096)
        try check(Self.copy(connection, owner, numbers, &bytes, &errors), "mapping \(frames.count) frames of domain \(id)")
        return frames.indices.map { errors[$0] == 0 ? Array(bytes[$0 * 4096..<($0 + 1) * 4096]) : nil }
    }

    private static func copy(
        _ connection: Int32, _ id: UInt32, _ frames: [UInt64], _ bytes: inout [UInt8], _ errors: inout [Int32]
    ) -> Int32 {
        var out = bytes.mutableSpan
        var places = errors.mutableSpan
        return cxc_copy_frames(connection, id, frames.span, &out, &places)
    }

    /// Xen's machine-to-phys table.
    public func machineTable() throws(LiveDomainError) -> MachineTable { try MachineTable(self) }

    /// The frames of that table, one for each 2 MiB.
    func machineTableExtents(_ count: Int) throws(LiveDomainError) -> [UInt64] {
        var extents = [UInt64](repeating: 0, count: count)
        var places = extents.mutableSpan
        try check(cxc_machine_table(connection, &places), "asking Xen for its machine-to-phys table")
        return extents
    }
}
