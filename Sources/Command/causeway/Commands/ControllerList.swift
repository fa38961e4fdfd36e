// causeway devices: the NVMe controllers of this machine, which of them can be driven from here, and what the others
// lack.

import ArgumentParser
import CommandSupport
import HostIommu
import LinuxSystem

struct ControllerList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "devices", abstract: "Lists NVMe controllers, and which of them can be driven from here.",
        discussion: """
            One that can is a disk: --disk nvme:ADDRESS/NAMESPACE,raw,xvda,w. What another lacks is said with the commands that mend it, for root's \
            shell: nothing is unbound here, for the kernel may be using it.
            """)

    @OptionGroup var format: ListFormat

    func run() throws {
        let controllers = PCIDevice.all().filter { $0.classCode == 0x010802 }
        guard !controllers.isEmpty || format.json else { return printLine("no NVMe controllers") }
        let obstacles = controllers.map { $0.obstacle() }
        let rows = zip(controllers, obstacles).map { device, obstacle in
            [
                "nvme:\(device.address)", device.identity, device.driver ?? "-", device.group ?? "-",
                obstacle.map { "no: \($0.what)" }
                    ?? (device.isUIO ? "yes, by uio; not safe against kill -9 without a keeper" : "yes"),
            ]
        }
        format.show(["TARGET", "IDENTITY", "DRIVER", "GROUP", "HERE"], rows)
        if format.json { return }
        for (device, obstacle) in zip(controllers, obstacles) {
            guard let remedy = obstacle?.remedy, !remedy.isEmpty else { continue }
            printLine("\nTo drive \(device.address) from here, as root:")
            for command in remedy { printLine("  \(command)") }
        }
    }
}
