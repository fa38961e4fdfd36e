// causeway dma-backends: the names of the translation library's DMA back ends, and which of them can be had here.

import ArgumentParser
import CommandSupport
import HostIommu

struct DMABackEndList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dma-backends", abstract: "Lists the translation library's DMA back ends, and which of them this machine has.",
        discussion: """
            direct, identity and vp are the memory models of --memory-model, iommu is the software IOMMU of --iommu; vfio-type1 and iommufd map memory in \
            the machine's IOMMU, for a driver in user space that chooses one by name: DMABackEnds.make("vfio-type1:/dev/vfio/12", settings). A \
            backend's disks and interfaces are the kernel's own and need none.
            """)

    @OptionGroup var format: ListFormat

    func run() throws {
        let rows = DMABackEnds.allCases.map { kind in
            [kind.rawValue, kind.argument ?? "-", kind.obstacle().map { "no: \($0)" } ?? "yes"]
        }
        format.show(["NAME", "ARGUMENT", "HERE"], rows)
    }
}
