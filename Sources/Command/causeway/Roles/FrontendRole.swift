// What an interface's frontend process does; a disk's is in DiskServerRole.

import CommandSupport
import Hypervisor
import Libxen
import LinuxSystem
import Loopback
import NetworkDevices
import NetworkFrontend
import NetworkProtocol
import XenBus
import XenStore
import XenTypes

enum FrontendRole {
    /// Runs an interface's frontend until the process is asked to end or the interface is gone.
    /// - Parameter confine: gives up what is not needed any more, once the host is reached and before it is heard; what
    ///   is left, in a line.
    static func serve(
        in directory: RunDirectory, domain: DomainID, number: UInt32, tap name: String, options: NetworkFrontendOptions,
        confine: () throws(Failure) -> String?
    ) throws(Failure) {
        let claim = try claim("\(directory)/frontend-\(domain)-vif-\(number).lock", "vif \(number) of domain \(domain)")
        defer { withExtendedLifetime(claim) {} }
        let socket = try refusing("frontend") { () throws(HypervisorError) in
            try LoopbackHypervisor.openSocket(runDirectory: directory.path)
        }
        let confined = try confine()
        let hypervisor = try refusing("frontend") { () throws(HypervisorError) in
            try LoopbackHypervisor(connected: socket, domain: domain, time: .system)
        }
        defer { hypervisor.disconnect() }
        // A tap that is there already is as whoever made it wants it.
        let settings =
            HostInterface.exists(name) ? VifSettings() : try Self.settings(of: number, on: hypervisor, "frontend")
        var options = options
        options.takesFaults = true
        try serve(on: hypervisor, number: number, tap: name, settings, in: directory.path, options: options, confined)
    }

    private static func settings<H: Hypervisor>(of number: UInt32, on hypervisor: H, _ what: String) throws(Failure) -> VifSettings
    {
        try refusing(what) { () throws(HypervisorError) in
            let store = try hypervisor.connectStore()
            defer { store.close() }
            return VifSettings(of: number, in: hypervisor.domain, store)
        }
    }

    /// Two frontends of one device would take its rings from each other. Nil where the claim's file cannot be made.
    static func claim(_ path: String, _ device: String) throws(Failure) -> FileClaim? {
        do throws(ClaimError) { return try FileClaim(path, patience: 1000, time: SystemTime()) } catch {
            if case .taken(let holder) = error { throw Failure("frontend: \(device) is in use by \(holder)") }
            return nil
        }
    }

    /// The same for a vif of the domain that this process runs in, on the Xen below.
    /// - Parameter runDirectory: where `causeway status` looks for this process.
    static func serveXen(
        number: UInt32, tap name: String, runDirectory: String, options: NetworkFrontendOptions
    ) throws(Failure) {
        let hypervisor = try refusing("frontend: --xen") { () throws(HypervisorError) in try LibxenHypervisor(time: .system) }
        try serve(
            on: hypervisor, number: number, tap: name, try settings(of: number, on: hypervisor, "frontend: --xen"),
            in: runDirectory,
            options: options)
    }

    private static func serve<H: Hypervisor>(
        on hypervisor: H, number: UInt32, tap name: String, _ settings: VifSettings, in runDirectory: String,
        options: NetworkFrontendOptions, _ confined: String? = nil
    ) throws(Failure) {
        let frontend: NetworkFrontend<H>
        let kept: FrontendTap
        let domain = hypervisor.domain
        do {
            kept = try FrontendTap(name, of: DeviceID(frontend: domain, number: number), in: runDirectory)
            if !kept.isFound {
                if let address = settings.address { try HostInterface.setAddress(name, address) }
                if let mtu = settings.mtu { try HostInterface.setMTU(name, mtu) }
            }
            frontend = try NetworkFrontend(hypervisor: hypervisor, number: number, device: kept.tap, options: options) { line in
                complain("netfront: \(line)")
            }
            try frontend.start()
            if !kept.isFound { try HostInterface.setUp(name) }
            kept.note()
        } catch let error as NetworkFrontendError {
            throw Failure("netfront: \(error)")
        } catch { throw Failure("netfront: vif \(number): \(error)") }
        defer { kept.forget() }
        let status = StatusSocket(of: .frontend, in: runDirectory) { DeviceStatus.lines(frontend, in: domain) }
        defer { status?.close() }
        let place = options.takesFaults ? DeviceSocket.Place(of: .front, in: runDirectory) : nil
        let control = place.flatMap { place in
            DeviceSocket(at: place, removing: true) { [ControlledFrontend(frontend, in: domain)] }
        }
        defer { control?.close() }
        // Without it all is well until somebody sets an MTU that has no way, moves the tap, or deletes it while no
        // backend is there.
        let watch = try? InterfaceWatch { _ in
            kept.tap.look()
            kept.note()
            if let change = try? kept.tap.keepMTULimit() {
                note("netfront: vif \(number): \(name): \(change): more has no way")
            }
        }
        defer { watch?.stop() }
        var unsaid = confined
        while Signals.wait(for: Signals.termination, milliseconds: 250) == nil {
            // What is as it should be is of interest where there is an interface.
            if frontend.isLive, let line = unsaid.take() { note(line) }
            guard let failure = frontend.failure else { continue }
            frontend.close()
            if failure == .removed { return }
            // What is wrong is in the log already.
            throw Failure.silent(1)
        }
        frontend.close()
    }
}

/// What the toolstack wants a guest's interface to look like, where it says so in the guest's own directory.
struct VifSettings {
    var address: MACAddress?
    var mtu: Int?

    init() {}

    init(of number: UInt32, in domain: DomainID, _ store: StoreClient) {
        let path = FrontendPath(domain: domain, kind: .network, number: number).path
        address = ((try? store.text(path + "/mac")) ?? nil).flatMap { MACAddress($0) }
        mtu = (try? store.number(path + "/mtu", in: 68...65521)) ?? nil
    }
}
