// causeway vif-keeper: holds a pair's namespace and both of its taps while backends and frontends come and go, and removes the
// namespace when the pair ends, however it ends. The taps go with this process: they are not persistent.

import ArgumentParser
import Glibc
import HostDevices
import LinuxSystem
import XenWire

struct VifKeeper: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "vif-keeper", shouldDisplay: false)

    @OptionGroup var host: HostOptions
    @Option var netns: String
    @Option var front: String
    @Option var back: String?
    @Option var mac: String
    @Option var mtu: Int = 1500

    func run() throws {
        Signals.block(Signals.termination)
        // Until it follows its parent nothing is there that would have to be removed.
        try host.followParent()
        let backTap: TapDevice?
        do { backTap = try back.map { name throws(DeviceError) in try TapDevice(name: name) } } catch { throw Failure("\(error)") }
        guard let address = MACAddress(mac) else { throw Failure.usage("--mac: \(mac)") }
        try NetworkNamespace.make(netns)
        defer { NetworkNamespace.remove(netns) }
        let frontTap: TapDevice
        do {
            frontTap = try TapDevice(name: front)
            try HostInterface.setAddress(front, address)
            try HostInterface.setMTU(front, mtu)
            try HostInterface.setUp("lo")
            try HostInterface.setUp(front)
        } catch { throw Failure("\(front) in \(netns): \(error)") }
        while Signals.wait(for: Signals.termination, milliseconds: 1_000_000) == nil {}
        withExtendedLifetime((backTap, frontTap)) {}
    }
}
