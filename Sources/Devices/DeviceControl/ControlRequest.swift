// What is asked of a process about its devices, as a line of text: words with tabs between them, a state behind it in
// hexadecimal. The answer is a line too, and then what was asked for.

import DeviceFaults
import DeviceState

/// One question or order.
public enum ControlRequest: Equatable, Sendable {
    /// Which devices there are.
    case list
    /// What may be known of a device.
    case show(device: String)
    /// Do something.
    case perform(device: String, DeviceCommand)
    /// Where a device's rings are, and what is in work.
    case rings(device: String)
    /// The device's state, as bytes.
    case save(device: String)
    /// Take a state.
    case load(device: String, [UInt8])
    /// Which faults are set.
    case faults(device: String)
    /// Have something go wrong; answered by its name.
    case setFault(device: String, FaultPlan)
    /// Undo the fault of this name, or all.
    case clearFault(device: String, name: String)

    /// A request's bytes at most, its newline included.
    public static let mostBytes = 1 << 20

    /// Whether something is done, which may take its time; else only looked at.
    public var acts: Bool {
        switch self {
        case .perform, .save, .load: true
        default: false
        }
    }

    /// The line, without its end.
    public var line: String {
        switch self {
        case .list: "list"
        case .show(let device): "show\t\(device)"
        case .rings(let device): "rings\t\(device)"
        case .perform(let device, let command): "do\t\(device)\t\(command.words.joined(separator: "\t"))"
        case .save(let device): "save\t\(device)"
        case .load(let device, let bytes): "load\t\(device)\t\(Self.hexadecimal(bytes))"
        case .faults(let device): "faults\t\(device)"
        case .setFault(let device, let plan): "fault\t\(device)\t\(plan.words.joined(separator: "\t"))"
        case .clearFault(let device, let name): "clear\t\(device)\t\(name)"
        }
    }

    /// What a line asks.
    public init(_ line: String) throws(ControlError) {
        let words = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
        switch (words.first ?? "", words.count) {
        case ("list", 1): self = .list
        case ("show", 2): self = .show(device: words[1])
        case ("rings", 2): self = .rings(device: words[1])
        case ("do", 3...): self = .perform(device: words[1], try DeviceCommand(Array(words.dropFirst(2))))
        case ("save", 2): self = .save(device: words[1])
        case ("load", 3):
            guard let bytes = Self.bytes(words[2]) else { throw .badState(.notAState) }
            self = .load(device: words[1], bytes)
        case ("faults", 2): self = .faults(device: words[1])
        case ("fault", 3...):
            do throws(FaultError) {
                self = .setFault(device: words[1], try FaultPlan(words: Array(words.dropFirst(2))))
            } catch { throw .fault(words[1], error) }
        case ("clear", 3): self = .clearFault(device: words[1], name: words[2])
        default: throw .badArgument("device", "this process does not know what it is asked; it may be older")
        }
    }

    /// Bytes as text.
    public static func hexadecimal(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// Text as bytes; nil: it is no such text.
    public static func bytes(_ text: String) -> [UInt8]? {
        let digits = Array(text.utf8)
        guard digits.count % 2 == 0 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(digits.count / 2)
        for place in stride(from: 0, to: digits.count, by: 2) {
            guard let high = Self.digit(digits[place]), let low = Self.digit(digits[place + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x61...0x66: byte - 0x61 + 10
        default: nil
        }
    }
}

extension DeviceCommand {
    /// As `init` reads them.
    var words: [String] {
        switch self {
        case .pause(let milliseconds), .reset(let milliseconds): [name, "\(milliseconds)"]
        case .trace(let isOn): [name, isOn ? "on" : "off"]
        case .handover(let socket): [name, socket]
        case .inject(let queue), .kick(let queue): [name, "\(queue)"]
        case .resume, .close, .flush, .refresh, .announce, .cancel: [name]
        }
    }
}

/// What is answered: nothing but that it is done, or lines.
public enum ControlAnswer: Equatable, Sendable {
    /// Lines of words with tabs between them.
    case done([String])
    /// In words.
    case refused(String)

    /// Its text.
    public var text: String {
        switch self {
        case .done(let lines): (["done"] + lines).map { $0 + "\n" }.joined()
        case .refused(let reason): "refused\t\(reason)\n"
        }
    }

    /// From its text; nil: there is no end to it, or it is something else.
    public init?(_ text: String) {
        guard text.hasSuffix("\n") else { return nil }
        let lines = text.split(separator: "\n").map(String.init)
        guard let first = lines.first else { return nil }
        if first == "done" {
            self = .done(Array(lines.dropFirst()))
        } else if first.hasPrefix("refused\t") {
            self = .refused(String(first.dropFirst("refused\t".count)))
        } else {
            return nil
        }
    }
}

extension ControlRequest {
    /// The answer, from these devices.
    public func answer(_ devices: [any ControlledDevice]) -> ControlAnswer {
        do throws(ControlError) { return .done(try lines(devices)) } catch { return .refused(error.description) }
    }

    private func lines(_ devices: [any ControlledDevice]) throws(ControlError) -> [String] {
        func device(_ name: String) throws(ControlError) -> any ControlledDevice {
            guard let found = devices.first(where: { $0.name == name }) else {
                throw .noSuchDevice(name, known: devices.map(\.name))
            }
            return found
        }
        switch self {
        case .list: return devices.map { [$0.name, "\($0.kind)", "\($0.transport)", $0.phase.rawValue].joined(separator: "\t") }
        case .show(let name): return try device(name).described().map { "\($0.name)\t\(Self.oneLine($0.value))" }
        case .rings(let name): return RingReport.lines(try device(name).rings()).map(Self.onOneLine)
        case .perform(let name, let command):
            try device(name).perform(command)
            return []
        case .save(let name): return [Self.hexadecimal(try device(name).save().encoded)]
        case .load(let name, let bytes):
            let device = try device(name)
            let state: DeviceState
            do throws(DeviceStateError) {
                // What has to be understood and is not known here may be a session's: the device says what it makes of
                // it.
                state = try DeviceState(decoding: bytes) { group, _ in group <= DeviceState.Group.counters.rawValue }
            } catch { throw .badState(error) }
            try device.load(state)
            return []
        case .faults(let name): return try device(name).faultRecords().map { $0.words.joined(separator: "\t") }
        case .setFault(let name, let plan): return [try device(name).set(plan)]
        case .clearFault(let name, let fault):
            return try device(name).clearFault(fault).map { $0.words.joined(separator: "\t") }
        }
    }

    /// The tabs are between words.
    private static func onOneLine(_ text: String) -> String { String(text.map { $0.isNewline ? " " : $0 }) }

    /// A peer's words may be in a value.
    private static func oneLine(_ text: String) -> String {
        String(text.map { $0 == "\t" || $0.isNewline ? " " : $0 })
    }
}
