// causeway top: what each disk and interface does now.

import ArgumentParser
import CommandSupport
import Glibc

struct Top: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what each disk and interface does now, again and again, until interrupted.",
        discussion: """
            Rates are of the time since the table before: requests and MiB a second of disks, frames and Mb (10^6 bits) a second of interfaces,
            to and from the frontend; what was refused or dropped in that time; and doorbells both ways for each request or frame. On a
            terminal each table takes the place of the one before.
            """)

    @OptionGroup var host: HostOptions
    @Option(help: "Seconds between tables.") var interval = 1.0
    @Option(help: "Ends after so many tables.") var count: Int?

    func validate() throws {
        // usleep's argument, and what a person waits for.
        guard interval >= 0.05, interval <= 3600 else {
            throw ValidationError("--interval: \(interval): from 0.05 to 3600 seconds")
        }
        guard count ?? 1 > 0 else { throw ValidationError("--count: at least 1") }
    }

    func run() throws {
        let directory = try host.directory()
        let isTerminal = isatty(1) == 1
        // A backend without devices says nothing; one that is not there neither.
        guard Self.isAnybodyThere(in: directory) else {
            // Without a host there is nothing for a backend to run on; on Xen there is no such host.
            if !RunDirectory.isOnXen { try directory.connectStore().close() }
            throw Failure("top: \(directory): no backend answers there; is `causeway backend` running, and as this user?")
        }
        var before = DeviceReading.all(in: directory)
        var since = ContinuousClock.now
        var shown = 0
        while shown < count ?? .max, !StandardOutput.isLost {
            usleep(UInt32(interval * 1e6))
            let now = DeviceReading.all(in: directory)
            let moment = ContinuousClock.now
            let rates = DeviceRates.all(before: before, now: now, seconds: (moment - since) / .seconds(1))
            (before, since) = (now, moment)
            if isTerminal { printLine("\u{1B}[H\u{1B}[J") } else if shown > 0 { printLine("") }
            // One that was killed may be back for the next table.
            let isGone = now.isEmpty && !Self.isAnybodyThere(in: directory)
            for line in isGone ? ["no backend answers"] : Self.lines(rates) { printLine(line) }
            shown += 1
        }
    }

    private static func isAnybodyThere(in directory: RunDirectory) -> Bool {
        StatusClient.isAnybodyThere(in: directory.path)
    }

    private static let diskHeading = [
        "Disk", "queues", "reads/s", "read MiB/s", "writes/s", "written MiB/s", "flushes/s", "errors", "doorbells/request",
    ]
    private static let interfaceHeading = [
        "Interface", "queues", "to/s", "to Mb/s", "from/s", "from Mb/s", "dropped", "errors", "doorbells/frame",
    ]

    private static func lines(_ rates: [DeviceRates]) -> [String] {
        let disks = rates.filter { $0.subject.kind == "vbd" }.map { disk in
            [
                disk.subject.device, "\(disk.now["queues"])", disk.rate("reads"), disk.mebibytes("read-bytes"), disk.rate("writes"),
                disk.mebibytes("written-bytes"), disk.rate("flushes"), disk.grown(["rejected", "failed"]),
                disk.doorbells(["requests"]),
            ]
        }
        let interfaces = rates.filter { $0.subject.kind == "vif" }.map { vif in
            [
                vif.subject.device, "\(vif.now["queues"])", vif.rate("received"), vif.megabits("received-bytes"),
                vif.rate("transmitted"), vif.megabits("transmitted-bytes"), vif.grown(["receive-dropped", "transmit-dropped"]),
                vif.grown(["transmit-errors"]), vif.doorbells(["received", "transmitted"]),
            ]
        }
        var lines: [String] = []
        if !disks.isEmpty { lines += Table.lines([diskHeading] + disks) }
        if !interfaces.isEmpty {
            if !lines.isEmpty { lines.append("") }
            lines += Table.lines([interfaceHeading] + interfaces)
        }
        return lines.isEmpty ? ["no disks and no interfaces"] : lines
    }
}

/// What one device did between two readings.
struct DeviceRates {
    let subject: DeviceSubject
    let now: DeviceReading
    private let before: DeviceReading?
    private let seconds: Double

    /// Those that are there now.
    static func all(before: [DeviceReading], now: [DeviceReading], seconds: Double) -> [DeviceRates] {
        now.map { reading in
            DeviceRates(
                subject: reading.subject, now: reading, before: before.first { $0.subject == reading.subject }, seconds: seconds)
        }
    }

    /// By how much a counter grew. One that is smaller than it was began anew with another connection, or another
    /// backend.
    private func growth(_ name: String) -> UInt64 {
        let (new, old) = (now[name], before?[name] ?? 0)
        return new >= old ? new - old : new
    }

    private func perSecond(_ name: String) -> Double { Double(growth(name)) / seconds }

    func rate(_ name: String) -> String { "\(Int(perSecond(name).rounded()))" }
    func mebibytes(_ name: String) -> String { Self.tenths(perSecond(name) / 1_048_576) }
    func megabits(_ name: String) -> String { Self.tenths(perSecond(name) * 8 / 1e6) }
    func grown(_ names: [String]) -> String { "\(names.reduce(0) { $0 + growth($1) })" }

    /// Both ways, for each of what `names` count.
    func doorbells(_ names: [String]) -> String {
        let moved = names.reduce(0) { $0 + growth($1) }
        if moved == 0 { return "-" }
        return Self.hundredths(Double(growth("doorbells-sent") + growth("doorbells-taken")) / Double(moved))
    }

    private static func tenths(_ number: Double) -> String { "\((number * 10).rounded() / 10)" }
    private static func hundredths(_ number: Double) -> String { "\((number * 100).rounded() / 100)" }
}
