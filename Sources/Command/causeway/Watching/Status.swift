// causeway status: what is in use on a host; every number returns to where it was when a guest is gone.

import ArgumentParser
import CommandSupport

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what each domain of a host holds: grants, mappings, ports, store nodes, watches, descriptors.",
        discussion: """
            Below that, for each disk and interface: requests or frames, DMA mappings live and made, pieces bounced by reason (mask, straddle,
            alignment, segments, foreign, sub-granule, untrusted), the bounce pool's fill, the IOTLB's hits and misses, ranges unmapped but
            still within the device's reach (deferred mode), accesses that the IOMMU refused, and transfers that could not be mapped.
            """)

    @OptionGroup var host: HostOptions
    @Flag(help: "One line of JSON instead of a table.") var json = false

    func run() throws {
        let directory = try host.directory()
        let devices = DeviceReading.all(in: directory)
        let usages = try HostCounters.all(of: directory, mayBeNone: !devices.isEmpty)
        if json {
            let objects = usages.map { usage in
                let fields = usage.counters.map { "\"\($0.name)\": \($0.count)" }.joined(separator: ", ")
                return "{\"domain\": \"\(usage.domain ?? "host")\", \(fields)}"
            }
            let objectsOfDevices = devices.map { device in
                let fields = device.numbers.map { "\"\($0.name)\": \($0.value)" }.joined(separator: ", ")
                return "{\"device\": \"\(device.subject.text)\", \(fields)}"
            }
            return printLine(
                "{\"usage\": [\(objects.joined(separator: ", "))], \"devices\": [\(objectsOfDevices.joined(separator: ", "))]}")
        }
        if let first = usages.first {
            let heading = ["Domain"] + first.counters.map(\.name)
            for line in Table.lines([heading] + usages.map { [$0.domain ?? "host"] + $0.counters.map { "\($0.count)" } }) {
                printLine(line)
            }
        }
        for (index, device) in devices.enumerated() {
            if index > 0 || !usages.isEmpty { printLine("") }
            printLine(device.subject.text)
            // What is 0 in every healthy run is shown all the same: its absence would have to be trusted.
            for line in Table.lines(device.numbers.map { ["  " + $0.name, "\($0.value)"] }) { printLine(line) }
        }
    }
}
