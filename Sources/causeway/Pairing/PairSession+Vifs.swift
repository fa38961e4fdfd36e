// A pair's interfaces: for each a keeper of taps and namespace, then the directories, then the frontend.

import Glibc
import Toolstack
import XenWire

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
            return say(vifs[index].line)
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
        do { try begin(here, in: domain, devices) } catch {
            try? GuestDomain.destroy(other, in: directory.run, store: store)
            throw error
        }
        try begin(there, in: other, devices)
        for vif in [vifs[index], vifs[index + 1]] { try waitConnected(vif, devices) }
        say(vifs[index].line)
        say(vifs[index + 1].line)
    }

    /// Makes one interface's taps, directories and frontend. On failure its domain is gone, too.
    private mutating func begin(
        _ given: VifSpecification, in domain: DomainID, _ devices: DeviceDirectories
    ) throws(Failure) {
        let index = vifs.count
        var specification = given
        let mac = specification.mac ?? VifSpecification.randomAddress()
        specification.mac = mac
        specification.number = UInt32(index)
        if specification.peer == nil { specification.name = PairedVif.backName(specification, index) }
        let keeper: ChildProcess
        do { keeper = try startKeeper(specification, index) } catch {
            try? GuestDomain.destroy(domain, in: directory.run, store: devices.store)
            throw error
        }
        let paths: DevicePaths
        do { paths = try devices.create(specification, frontend: domain) } catch {
            try? GuestDomain.destroy(domain, in: directory.run, store: devices.store)
            keeper.stop(milliseconds: 2000)
            throw Failure("pair: \(error)")
        }
        vifs.append(
            PairedVif(
                specification: specification, index: index, domain: domain, paths: paths, mac: mac, keeper: keeper, frontend: nil))
        let vif = vifs[index]
        vifs[index].frontend = try ChildProcess.startRole(
            ["frontend", "vif", "\(index)", "--tap", vif.frontTap, "--netns", vif.namespace, "--domain", "\(domain)"]
                + vifFeatures.arguments + threads.arguments
                // A cable has one way through; more queues would only have more threads wait for it.
                + (vif.specification.peer != nil && vifFeatures.vifQueues == nil ? ["--vif-queues", "1"] : []), in: directory.run)
    }

    /// Starts what keeps an interface's taps, and waits until they are there.
    private mutating func startKeeper(_ vif: VifSpecification, _ index: Int) throws(Failure) -> ChildProcess {
        let namespace = PairedVif.namespace(index)
        let back = vif.peer == nil ? ["--back", PairedVif.backName(vif, index)] : []
        let keeper = try ChildProcess.startRole(
            [
                "vif-keeper", "--netns", namespace, "--front", "eth\(index)", "--mac", vif.mac?.description ?? "", "--mtu",
                "\(vif.mtu ?? 1500)",
            ] + back, in: directory.run)
        let end = ContinuousClock.now + .milliseconds(connectTimeout)
        while !NetworkNamespace.exists(namespace) {
            if let status = keeper.reap() { throw Failure("pair: vif \(index): its taps could not be made: the keeper \(status)") }
            guard ContinuousClock.now < end else {
                keeper.stop(milliseconds: 2000)
                throw Failure("pair: vif \(index): waiting for its taps: nothing after \(connectTimeout) ms")
            }
            do { try checkInterruption(milliseconds: 2) } catch {
                keeper.stop(milliseconds: 2000)
                throw error
            }
        }
        return keeper
    }

    private mutating func waitConnected(_ vif: PairedVif, _ devices: DeviceDirectories) throws(Failure) {
        let end = ContinuousClock.now + .milliseconds(connectTimeout)
        while true {
            try checkInterruption(milliseconds: 0)
            guard vifs[vif.index].frontend != nil else {
                throw Failure("pair: \(vif.name): its frontend ended before it was connected")
            }
            do { return try devices.waitConnected(vif.paths, milliseconds: 50) } catch .timedOut(let step, let seen, _) {
                guard ContinuousClock.now < end else {
                    throw Failure("pair: \(vif.name): \(step): not done after \(connectTimeout) ms (\(seen))")
                }
            } catch { throw Failure("pair: \(vif.name): \(error)") }
        }
    }

    /// Reaps frontends and keepers that ended.
    mutating func lookAfterVifs() {
        for index in vifs.indices {
            if let status = vifs[index].frontend?.reap() {
                vifs[index].frontend = nil
                complain("pair: \(vifs[index].name): the frontend \(status); its domain \(vifs[index].domain) is destroyed")
                release(index)
            }
            if let status = vifs[index].keeper?.reap() {
                vifs[index].keeper = nil
                complain("pair: \(vifs[index].name): what keeps its taps \(status)")
                NetworkNamespace.remove(vifs[index].namespace)
            }
        }
    }

    /// Ends every interface, the last first.
    mutating func endVifs() {
        for index in vifs.indices.reversed() {
            if let frontend = vifs[index].frontend {
                frontend.stop(milliseconds: 5000)
                vifs[index].frontend = nil
            }
            release(index)
        }
    }

    /// Clears an interface whose frontend is gone out of the store, the hypervisor and the host.
    private mutating func release(_ index: Int) {
        if let keeper = vifs[index].keeper {
            keeper.stop(milliseconds: 5000)
            vifs[index].keeper = nil
            // Its own business, unless it was killed.
            NetworkNamespace.remove(vifs[index].namespace)
        }
        guard let store, host != nil, !vifs[index].isReleased else { return }
        vifs[index].isReleased = true
        do { try GuestDomain.destroy(vifs[index].domain, in: directory.run, store: store) } catch {
            complain("pair: \(vifs[index].name): \(error.message ?? "")")
        }
    }
}
