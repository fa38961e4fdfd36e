// What a backend that was killed has left with its controllers: pages that Xen keeps for them. Whoever comes next stops
// the controllers first, and only then are the pages anybody's.

import CommandSupport
import Hypervisor
import Libxen
import LinuxSystem
import NVMe

enum DeviceSuccession {
    /// Ends what was left, if a journal says that something was. Where a controller cannot be stopped its pages stay as
    /// they are, no controller gets others, and a line says so.
    static func end(_ hypervisor: LibxenHypervisor) {
        do throws(HypervisorError) {
            guard let left = try hypervisor.leftDeviceGrants() else { return }
            for controller in left.controllers {
                do throws(NVMeError) { try NVMeControllers.stop(controller, time: .system) } catch {
                    return complain(
                        "backend: \(left.count) pages left by a backend that was killed stay with \(controller), which cannot be stopped: \(error)"
                    )
                }
            }
            let unknown = try hypervisor.endLeftDeviceGrants()
            let names = left.controllers.map(\.description).joined(separator: ", ")
            complain(
                "backend: \(left.count) pages left by a backend that was killed are taken from \(names), stopped before"
                    + (unknown == 0 ? "" : "; Xen knew \(unknown) of them no more"))
        } catch { complain("backend: \(error)") }
    }
}
