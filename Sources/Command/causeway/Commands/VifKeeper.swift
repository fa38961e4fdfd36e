// causeway vif-keeper: holds a pair's namespace and both of its taps while backends and frontends come and go, and
// removes the namespace when the pair ends, however it ends. The taps go with this process: they are not persistent.

import ArgumentParser
import CommandSupport
import LinuxSystem
import VifTaps

struct VifKeeper: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "vif-keeper", shouldDisplay: false)

    @OptionGroup var host: HostOptions
    @OptionGroup var confinement: ConfinementOptions
    @Option var netns: String
    @Option var front: String
    @Option var back: String?
    @Option var mac: String
    @Option var mtu: Int = 1500

    func run() throws {
        Signals.block(Signals.termination)
        // Until it follows its parent nothing is there that would have to be removed.
        try host.followParent()
        // It hears nobody; nothing is worth saying.
        if !confinement.noConfinement { _ = try confinement.confine(.keeper) }
        guard let address = MACAddress(mac) else { throw Failure.usage("--mac: \(mac)") }
        let keeper: TapKeeper
        do throws(TapKeeperError) {
            keeper = try TapKeeper(back: back, front: front, namespace: netns, address: address, mtu: mtu)
        } catch { throw Failure("\(error)") }
        while Signals.wait(for: Signals.termination, milliseconds: 1_000_000) == nil {}
        _ = consume keeper
    }
}
