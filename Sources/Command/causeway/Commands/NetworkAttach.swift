// causeway network-attach: puts an interface before a guest, as xl does.

import ArgumentParser
import CommandSupport
import LinuxSystem
import Toolstack

struct NetworkAttach: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "network-attach", abstract: "Attaches a network interface to a guest.",
        usage: "causeway network-attach [DOMAIN] [PARAMETER=VALUE…]",
        discussion: """
            Parameters are xl's: mac=00:16:3e:01:02:03 bridge=br0 vifname=tap0 rate=10Mb/s mtu=9000. On a host without a guest, one is made.
            peer=DOMAIN/NUMBER wires it to another interface of the same backend, back to back; attach the other with this one as its peer.
            Then: causeway frontend vif NUMBER --tap NAME --domain DOMAIN
            """)

    @OptionGroup var host: HostOptions
    @OptionGroup var loudness: QuietOption
    @Argument(help: "A domain, if there are several, then the interface's parameters.") var words: [String] = []
    @Option(help: "How long the backend may take, in seconds.") var timeout = 10

    func run() throws {
        let names = words.prefix { !$0.contains("=") }
        guard names.count <= 1 else { throw Failure.usage("network-attach: [DOMAIN] [PARAMETER=VALUE…]") }
        var vif = try parseVif(words.dropFirst(names.count).joined(separator: ","))
        guard vif.front == nil else {
            throw Failure.usage("network-attach: front: for `pair`; a backend with --vhost-user serves every interface so")
        }
        let directory = try host.directory()
        let store = try directory.connectStore()
        defer { store.close() }
        switch vif.peer {
        case .address: throw Failure.usage("network-attach: peer: DOMAIN/NUMBER, not an address; attach the other end likewise")
        case .device(let name, let number): vif.peer = .device(domain: "\(try Guests.find(name, in: store))", number: number)
        case nil: break
        }
        let guest = try Guests.forAttaching("interface", named: names.first, in: directory, store)
        let devices = DeviceDirectories(store: store)
        let number = try guest.undoingIfFails(in: directory, store, say: loudness.say) {
            try failing("network-attach") {
                let backend = try vif.backend.map { try Guests.find($0, in: store) } ?? .zero
                let paths = try devices.create(vif, frontend: guest.domain, backend: backend, random: .system)
                try devices.waitServedOrRemove(paths, milliseconds: timeout * 1000)
                return paths.device
            }
        }
        loudness.say("vif \(number): attached to domain \(guest.domain)")
    }
}

/// Refuses VLANs that the interface's bridge, which is here, would not keep apart.
func expectVLANs(_ vif: VifSpecification) throws(Failure) {
    // A script may do otherwise.
    guard let vlans = vif.vlans, let bridge = vif.bridge, vif.script == nil || vif.script?.hasSuffix("vif-bridge") == true else {
        return
    }
    let isFiltering: Bool
    do { isFiltering = try HostInterface.filtersVLANs(bridge) } catch {
        throw .usage("--vif: vlan: \(vlans): bridge \(bridge) knows no VLANs: \(error)")
    }
    if !isFiltering {
        throw .usage(
            "--vif: vlan: \(vlans): bridge \(bridge) does not look at VLANs; `ip link set \(bridge) type bridge vlan_filtering 1` lets it"
        )
    }
}

/// Parses an interface and refuses what no backend here can serve.
func parseVif(_ text: String) throws(Failure) -> VifSpecification {
    let vif: VifSpecification
    do { vif = try VifSpecification(parsing: text) } catch { throw .usage("\(error)") }
    return vif
}
