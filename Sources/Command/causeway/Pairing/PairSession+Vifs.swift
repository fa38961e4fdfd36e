// A pair's interfaces: for each a keeper of taps and namespace, then the directories, then the frontend.

import CommandSupport
import LinuxSystem
import Toolstack
import XenTypes

extension PairSession {
    /// Attaches an interface, or both of a cable, and waits until it is of use.
    mutating func attach(_ specification: VifSpecification) throws(Failure) {
        guard let store else { return }
        let index = vifs.count
        let devices = DeviceDirectories(store: store)
        let domain = try GuestDomain.create(name: "guest", in: directory.run, store: store)
        guard case .address(let address) = specification.peer else {
            try begin(specification, in: domain, devices)
            try waitConnected(vifs[index], devices)
            return say(vifs[index].line(in: directory.run.path))
        }
        // Each end names the other, so both domains have to be there first.
        let other: DomainID
        do { other = try GuestDomain.create(name: "guest", in: directory.run, store: store) } catch {
            try? GuestDomain.destroy(domain, in: directory.run, store: store)
            throw error
        }
        var (here, there) = (specification, specification)
        here.peer = .device(domain: "\(other)", number: UInt32(index + 1))
        there.peer = .device(domain: "\(domain)", number: UInt32(index))
        there.mac = address
        // A socket is at one end of a cable; the other is a frontend's of this host.
        here.front = nil
        do { try begin(here, in: domain, devices) } catch {
            try? GuestDomain.destroy(other, in: directory.run, store: store)
            throw error
        }
        try begin(there, in: other, devices)
        for vif in [vifs[index], vifs[index + 1]] { try waitConnected(vif, devices) }
        say(vifs[index].line(in: directory.run.path))
        say(vifs[index + 1].line(in: directory.run.path))
    }

    /// Makes one interface's taps, directories and frontend. On failure its domain is gone, too.
    private mutating func begin(
        _ given: VifSpecification, in domain: DomainID, _ devices: DeviceDirectories
    ) throws(Failure) {
        let index = vifs.count
        var specification = given
        let mac = specification.mac ?? VifSpecification.randomAddress(from: .system)
        specification.mac = mac
        specification.number = UInt32(index)
        // Both ends of the wire have the bridge's, as Xen's vif-bridge sees to where nothing is said.
        if specification.mtu == nil, let bridge = specification.bridge, let mtu = HostInterface.mtu(of: bridge) {
            specification.mtu = UInt32(min(max(mtu, 68), 65521))
        }
        if specification.peer == nil { specification.name = PairedVif.backName(specification, index) }
        // A virtio driver has no tap here, and the backend keeps its own.
        let isForVhostUser = specification.front == .vhostUser
        let keeper: ChildProcess?
        do { keeper = isForVhostUser ? nil : try startKeeper(specification, index) } catch {
            try? GuestDomain.destroy(domain, in: directory.run, store: devices.store)
            throw error
        }
        let paths: DevicePaths
        do { paths = try devices.create(specification, frontend: domain, random: .system) } catch {
            try? GuestDomain.destroy(domain, in: directory.run, store: devices.store)
            keeper?.stop(milliseconds: 2000)
            throw Failure("pair: \(error)")
        }
        vifs.append(
            PairedVif(
                specification: specification, index: index, domain: domain, paths: paths, mac: mac, keeper: keeper, frontend: nil))
        if !isForVhostUser { try startVifFrontend(index) }
    }

    private mutating func startVifFrontend(_ index: Int) throws(Failure) {
        let vif = vifs[index]
        vifs[index].frontend = try ChildProcess.startRole(
            ["frontend", "vif", "\(index)", "--tap", vif.frontTap, "--netns", vif.namespace, "--domain", "\(vif.domain)"]
                + plan.loudness.arguments + plan.confinement.arguments + plan.userArguments + plan.vifFeatures.arguments
                + plan.threads.arguments
                // A cable has one way through; more queues would only have more threads wait for it.
                + (vif.specification.peer != nil && plan.vifFeatures.vifQueues == nil ? ["--vif-queues", "1"] : []),
            in: directory.run)
        vifs[index].restarts?.started()
    }

    /// Starts what keeps an interface's taps, and waits until they are there.
    private mutating func startKeeper(_ vif: VifSpecification, _ index: Int) throws(Failure) -> ChildProcess {
        let namespace = PairedVif.namespace(index)
        let back = vif.peer == nil ? ["--back=\(PairedVif.backName(vif, index))"] : []
        let keeper = try ChildProcess.startRole(
            [
                "vif-keeper", "--netns", namespace, "--front", "eth\(index)", "--mac", vif.mac?.description ?? "", "--mtu",
                "\(vif.mtu ?? 1500)",
            ] + back + plan.confinement.arguments, in: directory.run)
        let end = ContinuousClock.now + .milliseconds(plan.connectTimeout)
        while !NetworkNamespace.exists(namespace) {
            if let status = keeper.reap() { throw Self.failure("vif \(index): its taps could not be made: the keeper", status) }
            guard ContinuousClock.now < end else {
                keeper.stop(milliseconds: 2000)
                throw Failure("pair: vif \(index): waiting for its taps: nothing after \(plan.connectTimeout) ms")
            }
            do { try checkInterruption(milliseconds: 2) } catch {
                keeper.stop(milliseconds: 2000)
                throw error
            }
        }
        return keeper
    }

    private mutating func waitConnected(_ vif: PairedVif, _ devices: DeviceDirectories) throws(Failure) {
        if vif.isForVhostUser { return try waitServed(vif.paths, at: vif.vhostSocket(in: directory.run.path), vif.name) }
        let end = ContinuousClock.now + .milliseconds(plan.connectTimeout)
        while true {
            try checkInterruption(milliseconds: 0)
            guard vifs[vif.index].frontend != nil else {
                // That it did is said already.
                throw Failure.silent(1)
            }
            do {
                try devices.waitConnected(vif.paths, milliseconds: 50)
                var restarts = RestartPolicy()
                restarts.started()
                vifs[vif.index].restarts = restarts
                return
            } catch .timedOut(let step, let seen, _) {
                guard ContinuousClock.now < end else {
                    throw Failure("pair: \(vif.name): \(step): not done after \(plan.connectTimeout) ms (\(seen))")
                }
            } catch { throw Failure("pair: \(vif.name): \(error)") }
        }
    }

    /// Reaps frontends and keepers that ended, and starts frontends again.
    mutating func lookAfterVifs() throws(Failure) {
        for index in vifs.indices {
            if let status = vifs[index].frontend?.reap() { vifFrontendEnded(index, status) }
            if vifs[index].frontend == nil, vifs[index].restarts?.isDue == true, host != nil { try startVifFrontend(index) }
            if let status = vifs[index].keeper?.reap() {
                vifs[index].keeper = nil
                complain("pair: \(vifs[index].name): what keeps its taps \(status)")
                NetworkNamespace.remove(vifs[index].namespace)
            }
        }
    }

    private mutating func vifFrontendEnded(_ index: Int, _ status: ExitStatus) {
        vifs[index].frontend = nil
        vifs[index].restarts?.ended(status)
        let name = vifs[index].name
        // Without what keeps its taps it has nothing to come back to.
        if let restarts = vifs[index].restarts, status != .exited(0), !restarts.isExhausted, vifs[index].keeper != nil {
            return complain("pair: \(name): the frontend \(status); starting it again")
        }
        let often = vifs[index].restarts?.isExhausted == true ? ", again and again" : ""
        vifs[index].restarts = nil
        complain("pair: \(name): the frontend \(status)\(often); its domain \(vifs[index].domain) is destroyed")
        releaseVif(index)
    }

    /// Ends every interface, the last first.
    mutating func endVifs() {
        for index in vifs.indices.reversed() {
            ending.step()
            if let frontend = vifs[index].frontend {
                frontend.stop(milliseconds: 5000)
                vifs[index].frontend = nil
            }
            releaseVif(index)
        }
    }

    /// Clears an interface whose frontend is gone out of the store, the hypervisor and the host.
    private mutating func releaseVif(_ index: Int) {
        ending.step()
        if let keeper = vifs[index].keeper {
            keeper.stop(milliseconds: 5000)
            vifs[index].keeper = nil
            // Its own business, unless it was killed.
            NetworkNamespace.remove(vifs[index].namespace)
        }
        ending.step()
        guard let store, host != nil, !vifs[index].isReleased else { return }
        vifs[index].isReleased = true
        do { try GuestDomain.destroy(vifs[index].domain, in: directory.run, store: store) } catch {
            complain("pair: \(vifs[index].name): \(error.message ?? "")")
        }
    }
}
