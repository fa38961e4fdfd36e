// causeway top: what each disk and interface does now.

import ArgumentParser
import CommandSupport
import Glibc

struct Top: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what each disk and interface does now, again and again, until interrupted.",
        discussion: """
            Rates are of the time since the table before: requests and MiB a second of disks, frames and Mb (10^6 bits) a second of interfaces,
            to and from the frontend; how long half of the requests took at most, and 99 of 100; what was refused or dropped in that time; and
            doorbells both ways for each request or frame. On a terminal each table takes the place of the one before, with what each device
            did lately drawn behind it, and keys choose the order: n(ame), r(ate), b(ytes), l(atency); q ends it.
            """)

    @OptionGroup var host: HostOptions
    @Option(help: "Seconds between tables.") var interval = 1.0
    @Option(help: "Ends after so many tables.") var count: Int?
    @Option(help: ArgumentHelp("name, rate, bytes or latency.", valueName: "order")) var sort = TopOrder.name

    func validate() throws {
        // poll's argument, and what a person waits for.
        guard interval >= 0.05, interval <= 3600 else {
            throw ValidationError("--interval: \(interval): from 0.05 to 3600 seconds")
        }
        guard count ?? 1 > 0 else { throw ValidationError("--count: at least 1") }
    }

    func run() throws {
        let directory = try host.directory()
        // A backend without devices says nothing; one that is not there neither.
        guard Self.isAnybodyThere(in: directory) else {
            // Without a host there is nothing for a backend to run on; on Xen there is no such host.
            if !RunDirectory.isOnXen { try directory.connectStore().close() }
            throw Failure("top: \(directory): no backend answers there; is `causeway backend` running, and as this user?")
        }
        let screen = TopScreen()
        var order = sort
        var history = screen.isTerminal ? RateHistory() : nil
        var names = GuestNames()
        var before = DeviceReading.all(in: directory)
        var since = ContinuousClock.now
        var shown = 0
        while shown < count ?? .max, !StandardOutput.isLost {
            var keys: [Character] = []
            while let key = screen.wait(until: since + .seconds(interval)) { keys.append(key) }
            if keys.contains("q") { return }
            order = keys.compactMap { key in TopOrder.allCases.first { $0.key == key } }.last ?? order
            let now = DeviceReading.all(in: directory)
            let moment = ContinuousClock.now
            let rates = DeviceRates.all(before: before, now: now, seconds: (moment - since) / .seconds(1))
            (before, since) = (now, moment)
            names.learn(Set(now.map(\.subject.domain)), in: directory)
            if screen.isTerminal { screen.clear() } else if shown > 0 { printLine("") }
            // One that was killed may be back for the next table.
            let isGone = now.isEmpty && !Self.isAnybodyThere(in: directory)
            for line in isGone ? ["no backend answers"] : Self.lines(rates, order, names.byDomain, &history) { printLine(line) }
            shown += 1
        }
    }

    private static func isAnybodyThere(in directory: RunDirectory) -> Bool {
        StatusClient.isAnybodyThere(in: directory.path)
    }

    private static func lines(
        _ rates: [DeviceRates], _ order: TopOrder, _ names: [String: String], _ history: inout RateHistory?
    ) -> [String] {
        let disks = TopTable.disks.lines(rates.filter { $0.subject.kind == "vbd" }, by: order, names, &history)
        let interfaces = TopTable.interfaces.lines(rates.filter { $0.subject.kind == "vif" }, by: order, names, &history)
        let lines = disks + (disks.isEmpty || interfaces.isEmpty ? [] : [""]) + interfaces
        return lines.isEmpty ? ["no disks and no interfaces"] : lines
    }
}

extension TopOrder: ExpressibleByArgument {}
