// causeway ring: where both sides of a device's rings are, and what is in work.

import ArgumentParser
import CommandSupport
import DeviceControl

struct Ring: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows a device's rings: both sides' indices, events, and each request in work with its age.",
        discussion: """
            Of each queue: the shared words (req_prod and rsp_event are the frontend's, rsp_prod and req_event the backend's), how far the
            backend has taken requests (req_cons) and answered them (rsp_prod_pvt), doorbells both ways, and the requests that it has taken
            and not answered, the oldest first. Nothing is stopped for it.

            Of a device whose backend is dead, what its journals say: which requests its successor will do again.

              causeway ring vbd-1/51712
              causeway ring 1/xvda
            """)

    @OptionGroup var target: DeviceArgument
    @Flag(help: "One line of JSON instead of text.") var json = false

    func run() throws {
        let rings = try reports()
        if json {
            printJSON([
                "device": JSONValue.text(target.name), "rings": .array(rings.map(\.json)),
            ])
            return
        }
        if rings.isEmpty { printLine("\(target.name): no rings: no driver is connected") }
        for (index, ring) in rings.enumerated() {
            if index > 0 { printLine("") }
            for line in ring.text { printLine(line) }
        }
    }

    private func reports() throws(Failure) -> [RingReport] {
        do throws(Failure) { return RingReport.rings(try target.ask { .rings(device: $0) }) } catch {
            let left = DeadRings.find(target.name, in: try target.host.directory())
            if left.isEmpty { throw error }
            return left
        }
    }
}

extension RingReport {
    /// For people: the words in columns, then what is remarkable, then the requests.
    fileprivate var text: [String] {
        var lines = ["\(name):"]
        lines += Table.lines(fields.map { ["  \($0.name)", $0.value] })
        lines += notes.map { "  ! \($0)" }
        if let first = requests.first {
            lines += Table.lines([first.map(\.name)] + requests.map { $0.map(\.value) }).map { "  \($0)" }
        }
        return lines
    }

    fileprivate var json: JSONValue {
        var object = Self.object(fields)
        object["name"] = .text(name)
        object["notes"] = .array(notes.map(JSONValue.text))
        object["requests"] = .array(requests.map { .object(Self.object($0)) })
        return .object(object)
    }

    private static func object(_ fields: [Field]) -> [String: JSONValue] {
        Dictionary(fields.map { ($0.name, JSONValue($0.value)) }) { $1 }
    }
}
