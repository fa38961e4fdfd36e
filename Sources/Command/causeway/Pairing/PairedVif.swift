// One interface of a pair: its guest, its frontend process, what keeps its taps, its place in the store.

import Glibc
import LinuxSystem
import Toolstack
import XenBus
import XenTypes

struct PairedVif {
    let specification: VifSpecification
    let index: Int
    let domain: DomainID
    let paths: DevicePaths
    let mac: MACAddress
    /// Holds the namespace and both taps.
    var keeper: ChildProcess?
    /// Nil while there is none: before the next start, or for good.
    var frontend: ChildProcess?
    /// When it starts again; nil until it was connected once.
    var restarts: RestartPolicy?
    /// Gone from the store and the hypervisor.
    var isReleased = false

    /// The name of a pair's interface number `index` on the backend's side: no other process's, and at most 15 bytes.
    static func backName(_ specification: VifSpecification, _ index: Int) -> String {
        specification.name ?? "cw\(getpid()).\(index)"
    }

    var name: String { "vif \(index)" }
    var backTap: String { Self.backName(specification, index) }
    var frontTap: String { "eth\(index)" }
    var namespace: String { Self.namespace(index) }
    static func namespace(_ index: Int) -> String { "causeway-\(getpid())-\(index)" }

    /// Whether a front end of vhost-user is to have it, and no frontend of Xen's.
    var isForVhostUser: Bool { specification.front == .vhostUser }
    /// Where that one finds it.
    func vhostSocket(in directory: String) -> String {
        VhostExports.path(of: DeviceID(frontend: domain, number: paths.device), in: directory)
    }

    /// What COMMAND sees.
    func variables(in directory: String) -> [String: String] {
        if isForVhostUser {
            var variables = ["CAUSEWAY_VHOST_\(index)": vhostSocket(in: directory)]
            if specification.peer == nil { variables["CAUSEWAY_TAP_BACK_\(index)"] = backTap }
            return variables
        }
        var variables = ["CAUSEWAY_TAP_FRONT_\(index)": frontTap, "CAUSEWAY_NETNS_\(index)": namespace]
        if specification.peer == nil { variables["CAUSEWAY_TAP_BACK_\(index)"] = backTap }
        return variables
    }

    /// The line that `pair` prints.
    func line(in directory: String) -> String {
        let bridge = specification.bridge.map { " on \($0)" } ?? ""
        var here = "\(backTap)\(bridge) here"
        if case .device(_, let number) = specification.peer { here = "a cable to vif \(number)" }
        if isForVhostUser { return "vif \(index): \(mac), \(here), domain \(domain), vhost-user at \(vhostSocket(in: directory))" }
        return "vif \(index): \(mac), \(here), \(frontTap) in namespace \(namespace), domain \(domain)"
    }
}
