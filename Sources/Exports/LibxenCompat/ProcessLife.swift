// What all handles of a process share: the connection to the host. A fork's child has nothing of it: a second process
// on one connection would give back its parent's pages and take its parent's answers.

import CLibxenCompat
import Glibc
import LinuxSystem
import Loopback
import Synchronization
import XenTypes

/// A process from its start, or from the fork that made it, to its end.
///
/// SAFETY: the mark is a page that is mapped for ever, written once before anybody else sees this object; afterwards
/// only the kernel changes it, in a child, before any code runs there.
@safe final class ProcessLife: @unchecked Sendable {
    private let mark: UnsafeMutablePointer<UInt32>
    private let opened = Mutex<[Place: LoopbackLink]>([:])
    private static let latest = unsafe Atomic<Unmanaged<ProcessLife>?>(nil)

    /// A host, and which of its domains this program is there.
    private struct Place: Hashable {
        let runDirectory: String
        let domain: DomainID
    }

    private init() throws(LinkFailure) {
        guard let mark = unsafe causeway_fork_mark() else { throw LinkFailure(.current, "a page for a mark") }
        unsafe self.mark = mark
        unsafe mark.pointee = 1
    }

    /// The calling process's own. A parent's is left as it is: its locks may be held by threads that are not here.
    static func current() throws(LinkFailure) -> ProcessLife {
        while true {
            let found = unsafe latest.load(ordering: .acquiring)
            // SAFETY: what is published stays retained for ever.
            if let life = unsafe found?.takeUnretainedValue(), life.isCurrent { return life }
            let made = try ProcessLife()
            let retained = unsafe Unmanaged.passRetained(made)
            if unsafe latest.compareExchange(expected: found, desired: retained, ordering: .acquiringAndReleasing).exchanged {
                return made
            }
            unsafe retained.release()
        }
    }

    /// Whether this process is the one that it was made in.
    var isCurrent: Bool { unsafe mark.pointee != 0 }

    /// The connection that new handles use: the one that there is to the place that the environment names, or after
    /// that host's end another.
    func link() throws(LinkFailure) -> LoopbackLink {
        let place = Place(runDirectory: try Surroundings.runDirectory(), domain: try Surroundings.domain())
        return try opened.withLock { opened throws(LinkFailure) in
            opened = opened.filter { !$0.value.isLost }
            if let link = opened[place] { return link }
            let link = try LoopbackLink(runDirectory: place.runDirectory, domain: place.domain, time: .system)
            opened[place] = link
            return link
        }
    }

    /// In a fork's child: closes its copies of what `link` holds, once, so that the parent's end is seen when it comes.
    /// Nothing is said to the host.
    func abandon(_ link: LoopbackLink) {
        if !isCurrent { link.abandon() }
    }
}

/// What the launcher, or whoever else started this program, put into its environment.
///
/// SAFETY: a variable's value is copied at once; nothing of ours changes the environment.
enum Surroundings {
    private static func variable(_ name: String) -> String? {
        guard let value = unsafe getenv(name) else { return nil }
        let text = unsafe String(cString: value)
        return text.isEmpty ? nil : text
    }

    /// The host's directory, as the command finds it.
    static func runDirectory() throws(LinkFailure) -> String {
        if let given = variable("CAUSEWAY_RUN_DIR") { return given }
        if geteuid() == 0 { return "/run/causeway" }
        if let home = variable("XDG_RUNTIME_DIR") { return home + "/causeway" }
        throw LinkFailure(.noSuchFile, "no host: neither CAUSEWAY_RUN_DIR nor XDG_RUNTIME_DIR is set")
    }

    /// Which domain this program is; without a word of it, domain 0.
    static func domain() throws(LinkFailure) -> DomainID {
        guard let text = variable("CAUSEWAY_DOMAIN") else { return .zero }
        guard let number = UInt16(text), DomainID(number).isOrdinary else {
            throw LinkFailure(.noSuchDevice, "CAUSEWAY_DOMAIN: \"\(text.prefix(20))\" is no domain's number")
        }
        return DomainID(number)
    }
}
