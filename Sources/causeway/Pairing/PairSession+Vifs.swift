// A pair's interfaces: for each a keeper of taps and namespace, then the directories, then the frontend.

import Glibc
import Toolstack

extension PairSession {
    mutating func attach(_ specification: VifSpecification) throws(Failure) {
        guard let store else { return }
        let index = vifs.count
        var specification = specification
        let mac = specification.mac ?? VifSpecification.randomAddress()
        specification.mac = mac
        specification.number = UInt32(index)
        if specification.peer == nil { specification.name = PairedVif.backName(specification, index) }
        let devices = DeviceDirectories(store: store)
        let keeper = try startKeeper(specification, index)
        let domain = try GuestDomain.create(name: "guest", in: directory.run, store: store)
        let paths: DevicePaths
        do { paths = try devices.create(specification, frontend: domain) } catch {
            try? GuestDomain.destroy(domain, in: directory.run, store: store)
            keeper.stop(milliseconds: 2000)
            throw Failure("pair: \(error)")
        }
        vifs.append(
            PairedVif(
                specification: specification, index: index, domain: domain, paths: paths, mac: mac, keeper: keeper, frontend: nil))
        let vif = vifs[index]
        vifs[index].frontend = try ChildProcess.startRole(
            ["frontend", "vif", "\(index)", "--tap", vif.frontTap, "--netns", vif.namespace, "--domain", "\(domain)"]
                + vifFeatures.arguments, in: directory.run)
        try waitConnected(vifs[index], devices)
        say(vif.line)
    }

    /// Starts what keeps an interface's taps, and waits until they are there.
    private mutating func startKeeper(_ vif: VifSpecification, _ index: Int) throws(Failure) -> ChildProcess {
        let namespace = PairedVif.namespace(index)
        let keeper = try ChildProcess.startRole(
            [
                "vif-keeper", "--netns", namespace, "--front", "eth\(index)", "--mac", vif.mac?.description ?? "", "--mtu",
                "\(vif.mtu ?? 1500)",
            ] + (vif.peer == nil ? ["--back", PairedVif.backName(vif, index)] : []), in: directory.run)
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
            guard vifs[vif.index].frontend != nil else { throw Failure("pair: \(vif.name): its frontend ended before it was connected") }
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
