// The plugin's parameters: nbdkit's key=value words.

import BlockFrontend
import BlockProtocol
import Confinement
import LinuxSystem
import XenBus
import XenTypes

/// What the plugin was told on nbdkit's command line.
struct PluginParameters {
    var device: UInt32?
    var runDirectory: String?
    /// On this machine's Xen instead of a loopback host; the domain is the one that we run in.
    var isOnXen = false
    /// Whether the log gets only what is wrong.
    var isQuiet = false
    var domain = DomainID(1)
    var options = BlockFrontendOptions()
    /// What this process gives up once it is connected; nil: nothing.
    var confinement: ConfinementPlan?
    /// How long the first connection may take.
    var timeoutMilliseconds: Int32 = 15_000

    /// What `nbdkit … --help` prints.
    static let help = """
        vdev=NUMBER        (required) The disk's number, such as 51712 for xvda.
        run-dir=DIRECTORY  (required, but with xen=1) The loopback host's run directory.
        xen=1              Stands on this machine's Xen instead, in the domain that this process runs in.
        domain=NUMBER      The domain that this frontend acts in; 1.
        queues=COUNT       Queues to ask for.
        ring-page-order=N  Order of ring pages to ask for, 0 to 5.
        segments=COUNT     Segments of a request to ask for; 11 or less: no indirect requests.
        persistent=0       Does not let the backend keep grants mapped.
        abi=NAME           Ring layout: native, x86_32 or x86_64.
        buffer-pages=COUNT Pages that a queue offers for data; 2048. On Xen xen_gntalloc.limit bounds them.
        confined=1         Gives up files, network, capabilities and system calls once it is connected.
        confined=FIRST-LAST  The same, and becomes a user of this range; for root.
        removes=DIRECTORY  Where a confined process may still remove files.
        quiet=1            Says only what is wrong.
        timeout=SECONDS    How long the first connection may take; 15.
        """

    /// Takes one parameter; returns what is wrong with it.
    mutating func set(_ key: String, _ value: String) -> String? {
        func number<N: FixedWidthInteger>(_ range: ClosedRange<N>) -> N? {
            guard let number = StoreNumber.parse(value, as: N.self), range.contains(number) else { return nil }
            return number
        }
        switch key {
        case "vdev":
            guard let number = number(0...UInt32.max) else { return "not a device number" }
            device = number
        case "run-dir": runDirectory = value
        case "xen": isOnXen = value == "1"
        case "quiet":
            isQuiet = value == "1"
            if isQuiet { options.notes = { _ in } } else { options.notes = nil }
        case "buffer-pages":
            guard let number = number(1...65536) else { return "not a number from 1 to 65536" }
            options.bufferPages = number
        case "domain":
            guard let number: UInt16 = number(0...0x7FEF) else { return "not a domain number" }
            domain = DomainID(number)
        case "queues":
            guard let number = number(1...64) else { return "not a number from 1 to 64" }
            options.queues = number
        case "ring-page-order":
            guard let number: UInt32 = number(0...BlockOffer.mostRingPageOrder) else { return "not a number from 0 to 5" }
            options.ringPageOrder = number
        case "segments":
            guard let number = number(1...4096) else { return "not a number from 1 to 4096" }
            options.segments = number
        case "confined":
            var plan = confinement ?? ConfinementPlan(.blockFrontend)
            if value != "1" {
                guard let users = UserRange(value) else { return "neither 1 nor FIRST-LAST" }
                plan.user = users.user(of: ChildProcess.own)
            }
            confinement = plan
        case "removes":
            guard confinement != nil else { return "only with confined=, before it" }
            confinement?.files?.append(FileRule(value, .remove))
        case "persistent": options.persistentGrants = value != "0"
        case "abi":
            switch value {
            case "native": options.abi = .native
            case "x86_32": options.abi = .x86_32
            case "x86_64": options.abi = .x86_64
            default: return "native, x86_32 or x86_64"
            }
        case "timeout":
            guard let seconds: Int32 = number(1...3600) else { return "not a number from 1 to 3600" }
            timeoutMilliseconds = seconds * 1000
        default: return "no such parameter"
        }
        return nil
    }
}
