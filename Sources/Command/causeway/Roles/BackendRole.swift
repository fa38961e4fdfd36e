// What a backend's process does: disks on one thread, interfaces on another.

import BlockBackend
import CommandSupport
import DriverRuntime
import Glibc
import Hypervisor
import Libxen
import LinuxSystem
import Loopback
import NetworkBackend
import DeviceTrace
import VifTaps
import XenTypes

enum BackendRole {
    /// Serves a domain's disks and interfaces until the process is asked to end.
    static func serve(in directory: RunDirectory, domain: DomainID, _ work: BackendWork) throws(Failure) {
        Signals.block(Signals.termination)
        let hypervisor = try refusing("backend") { () throws(HypervisorError) in
            try LoopbackHypervisor.connect(runDirectory: directory.path, domain: domain, time: .system)
        }
        var work = work
        work.takeFaults()
        try serve(
            hypervisor, work, runDirectory: directory.path,
            scriptStore: work.interfaces.waitsForScript ? nil : directory.storeSocket)
        hypervisor.disconnect()
    }

    /// Serves this domain's disks and interfaces on the Xen below, until the process is asked to end.
    /// - Parameter scripts: whether to wait for hot-plug scripts; nil: in dom0, where xl runs them.
    static func serveXen(_ given: BackendWork, scripts: Bool?, runDirectory: String) throws(Failure) {
        Signals.block(Signals.termination)
        // Before there are threads, and before anything of a guest's is looked at.
        let forInterfaces: [Capability] = given.servesInterfaces ? [.administerNetwork] : []
        do { try Privileges.keepOnly([.overrideFilePermissions, .lockMemory] + forInterfaces) } catch {
            throw Failure("backend: cannot give up capabilities: \(error)")
        }
        // On a Xen host nobody else makes it: there is no host's daemon.
        FileSystem.makeDirectory(runDirectory, mode: 0o700)
        let hypervisor = try refusing("backend: --xen") { () throws(HypervisorError) in
            try LibxenHypervisor(time: .system, deviceJournal: "\(runDirectory)/device-grants")
        }
        var work = given
        let waits = scripts ?? (hypervisor.domain == .zero)
        work.waitForScripts(waits)
        // Where scripts are waited for there is an xl that clears up, too.
        work.removeDirectories(!waits && hypervisor.domain != .zero)
        note("backend: user \(geteuid()), capabilities \(Privileges.summary)")
        note("backend: store \(hypervisor.storePath), \(GrantLimits.read())")
        DeviceSuccession.end(hypervisor)
        try serve(hypervisor, work, runDirectory: runDirectory)
    }

    /// Serves until the process is asked to end; asked to become another program, it does that, or goes on if it
    /// cannot.
    private static func serve<H: Hypervisor>(
        _ hypervisor: H, _ work: BackendWork, runDirectory: String, scriptStore: String? = nil
    ) throws(Failure) {
        // On a Xen host nobody else makes it: there is no host's daemon.
        FileSystem.makeDirectory(runDirectory, mode: 0o700)
        let claims = try claim(work, hypervisor.domain, runDirectory)
        defer { withExtendedLifetime(claims) {} }
        let ending = BackendEnding()
        try onTermination { ending.end() }
        let keeper = work.keeper
        let left = try work.left.map { (path) throws(Failure) in try ExportSuccession(takenFrom: path, for: "backend") }
        var predecessor = ExportPredecessor(left, keeper, devices: 1)
        let place = try RunDirectory(runDirectory)
        while true {
            let exports = try work.vhostDirectory.map { (path) throws(Failure) in
                try VhostExports(in: path, threads: work.disks.reactors, predecessor, keeper)
            }
            defer { exports?.stop() }
            let services = BackendServices(hypervisor, work, exports, runDirectory, scriptStore)
            guard let order = try services.run(ending, predecessor.report) else { return }
            let held = exports?.hold() ?? []
            BackendUpgrade.become(order, held, keeper, in: place)
            complain("backend: could not be upgraded, and goes on")
            predecessor = ExportPredecessor(held, exports?.letGo() ?? [:], keeper, devices: 1)
        }
    }

    /// What this process alone serves from now on: two backends would take the same devices from each other, back and
    /// forth.
    private static func claim(_ work: BackendWork, _ domain: DomainID, _ runDirectory: String) throws(Failure) -> [FileClaim] {
        var claims: [FileClaim] = []
        let kinds = (work.servesDisks ? [work.disks.kind] : []) + (work.servesInterfaces ? [work.interfaces.kind] : [])
        for kind in kinds {
            // A predecessor may be on its last steps.
            do throws(ClaimError) {
                claims.append(try FileClaim("\(runDirectory)/backend-\(domain)-\(kind).lock", patience: 1000, time: SystemTime()))
            } catch {
                // Who may not write there may not share the directory with another backend either.
                if case .taken(let holder) = error {
                    throw Failure("backend: domain \(domain)'s \(kind) is served already, by \(holder)")
                }
            }
        }
        return claims
    }
}
