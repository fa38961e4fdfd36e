// Where a table comes from: a dump file, or a running domain of this host.

import CommandSupport
import FoundationEssentials
import FrameMapReaders
import FrameMaps
import LinuxSystem
import LiveDomains
import Toolstack
import XenStore

struct TranslateSource {
    let name: String
    let snapshot: TableSnapshot
    /// Of a dump.
    let dump: CoreDump?
    /// Of a domain.
    let domain: LiveDomain?

    /// What is a path or exists as a file is a dump; the rest is a domain.
    init(_ name: String, own: Bool, pause: Bool) throws(Failure) {
        self.name = name
        if name.contains("/") || FileSystem.exists(name) {
            let dump = try failing(name) { try CoreDump(path: name) }
            domain = nil
            self.dump = dump
            snapshot = own ? try Self.ownTable(dump, name) : dump.table
            return
        }
        dump = nil
        let (id, control) = try Self.find(name)
        let domain = try failing("domain \(name)") { try LiveDomain(id, control) }
        self.domain = domain
        snapshot = try failing("domain \(name)") {
            try pause ? control.whilePaused(id) { try domain.snapshot() } : domain.snapshot()
        }
    }

    private static func ownTable(_ dump: CoreDump, _ name: String) throws(Failure) -> TableSnapshot {
        try failing(name) {
            guard let table = try dump.guestSnapshot() else {
                throw Failure(
                    "\(name): no table of the domain's own: it is auto-translated, or the dump has no section .xen_shared_info")
            }
            return table
        }
    }

    private static func find(_ name: String) throws(Failure) -> (UInt16, XenControl) {
        let control: XenControl
        do { control = try XenControl() } catch { throw Failure("\(name): no such file, and no domain either: \(error)") }
        if let id = UInt16(name) { return (id, control) }
        let paths = ["/run/xenstored/socket", "/var/run/xenstored/socket"]
        let path = ProcessInfo.processInfo.environment["XENSTORED_PATH"] ?? paths.first { FileSystem.exists($0) } ?? paths[0]
        let store: StoreClient
        do { store = try StoreClient(socketPath: path, time: .system) } catch {
            throw Failure("\(name): the domain's number cannot be asked for: \(path): \(error)")
        }
        defer { store.close() }
        return (try Guests.find(name, in: store).rawValue, control)
    }

    /// The table against Xen's own. A domain's frames must be its own: Xen's table is asked page by page.
    static func machineCheck(_ snapshot: TableSnapshot) throws -> TableFindings {
        let machine = try XenControl().machineTable()
        var problem: LiveDomainError?
        let findings = snapshot.check { frame in
            do throws(LiveDomainError) { return try machine.pfn(of: frame) } catch {
                problem = problem ?? error
                return nil
            }
        }
        if let problem { throw problem }
        return findings
    }

    /// `dump of a paravirtual domain`, `domain 3, …`.
    var what: String {
        if let header = dump?.header {
            let version = header.xenVersion.map { ", Xen \($0)" } ?? ""
            let plural = header.processors == 1 ? "" : "s"
            return
                "dump of \(header.kind == .autoTranslated ? "an" : "a") \(header.kind.rawValue) domain, \(header.processors) processor\(plural)\(version)"
        }
        return domain?.description ?? ""
    }
    var title: String { "\(shown(name)): \(what)" }

    /// A file's name may be anything; what would move a terminal's cursor is shown as a number.
    private func shown(_ name: String) -> String {
        name.unicodeScalars.map { scalar in
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator: "\\u{\(String(scalar.value, radix: 16))}"
            default: String(scalar)
            }
        }.joined()
    }

    /// The bytes of a page; nil if they are not to be had.
    func contents(_ pfn: UInt64?, _ frame: UInt64?, asked kind: TranslateQuestion.Kind) throws -> [UInt8]? {
        if let dump {
            switch kind {
            case .pfn: return try pfn.flatMap { try dump.contents(of: Pfn(rawValue: $0)) }
            case .mfn: return try frame.flatMap { try dump.contents(of: Mfn(rawValue: $0)) }
            }
        }
        guard let frame, let domain else { return nil }
        return try domain.contents(of: [Mfn(rawValue: frame)])[0]
    }
}
