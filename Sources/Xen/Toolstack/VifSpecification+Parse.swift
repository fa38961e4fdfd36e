// xl's vif syntax: `key=value` parameters between commas, in any order.

import LinuxSystem
import XenTypes

extension VifSpecification {
    /// Parses one specification; an empty one is all defaults. The error names the parameter and the column.
    public init(parsing specification: String) throws(ToolstackError) {
        do { self = try VifParser(specification).parse() } catch { throw .specification(error) }
    }
}

private struct VifParser {
    private let specification: String
    private var scanner: ParameterScanner

    init(_ specification: String) {
        self.specification = specification
        scanner = ParameterScanner(specification)
    }

    consuming func parse() throws(SpecificationError) -> VifSpecification {
        var vif = VifSpecification()
        var seen: Set<String> = []
        while scanner.skipBlanks() {
            // xl takes blanks on either side of a comma.
            var token = scanner.takeParameter()
            while token.text.last?.isWhitespace == true { token.text.removeLast() }
            guard let (key, value) = Self.flag(token) ?? token.keyAndValue else {
                throw error(nil, token, "`\(token.text)` is not of the form KEY=VALUE")
            }
            guard seen.insert(key).inserted else { throw error(key, token, "given twice") }
            guard !value.text.isEmpty else { throw error(key, value, "nothing given") }
            try set(key, value, &vif)
            if vif.peer != nil,
                let other = ["bridge", "vifname", "script", "gatewaydev", "vlan"].first(where: { seen.contains($0) })
            {
                throw error(other, token, "an interface with a peer has nothing on the backend's side")
            }
            if case .address(let other)? = vif.peer, other == vif.mac {
                throw error(key, value, "\(other) at both ends: an interface cannot be its own peer")
            }
        }
        return vif
    }

    /// The parameters that xl has without a value.
    private static func flag(_ token: SpecificationToken) -> (key: String, value: SpecificationToken)? {
        guard let value = ["trusted": "1", "untrusted": "0"][token.text] else { return nil }
        return ("trusted", SpecificationToken(text: value, column: token.column))
    }

    private func vlans(_ key: String, _ value: SpecificationToken) throws(SpecificationError) -> PortVlans {
        do throws(PortVlans.Fault) { return try PortVlans(value.text) } catch {
            let place = SpecificationToken(text: value.text, column: value.column + error.place)
            throw self.error(key, place, error.reason)
        }
    }

    private func set(_ key: String, _ value: SpecificationToken, _ vif: inout VifSpecification) throws(SpecificationError) {
        switch key {
        case "mac":
            guard let mac = Self.address(value.text) else { throw error(key, value, "`\(value.text)` is no Ethernet address") }
            vif.mac = try ordinary(mac, key, value)
        case "bridge": vif.bridge = try interface(key, value)
        // By its old name as well.
        case "gatewaydev", "netdev": vif.gatewayDevice = try interface(key, value)
        case "vifname": vif.name = try interface(key, value)
        case "script": vif.script = value.text
        case "ip": vif.ip = value.text
        case "backend": vif.backend = value.text
        case "rate": vif.rate = try rate(key, value)
        case "mtu": vif.mtu = try number(key, value, 68...65521)
        case "devid": vif.number = try number(key, value, 0...255)
        case "trusted":
            guard let flag = ["1": true, "0": false, "yes": true, "no": false][value.text] else {
                throw error(key, value, "neither 1 nor 0")
            }
            vif.trusted = flag
        case "peer": vif.peer = try peer(key, value)
        case "front":
            guard let front = DeviceFront(rawValue: value.text) else {
                throw error(key, value, "`\(value.text)` is neither xen nor vhost-user")
            }
            vif.front = front
        case "type":
            guard value.text == "vif" else { throw error(key, value, "only `vif` is Xen's network protocol") }
        case "vlan": vif.vlans = try vlans(key, value)
        case "model": throw error(key, value, "an emulated card's; this is Xen's network protocol")
        default: throw error(key, value, "no such parameter")
        }
    }

    private func peer(_ key: String, _ value: SpecificationToken) throws(SpecificationError) -> VifSpecification.Peer {
        if let mac = Self.address(value.text) { return .address(try ordinary(mac, key, value)) }
        let parts = value.text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, parts[1].allSatisfy({ $0.isDecimalDigit }), let number = UInt32(parts[1]) else {
            throw error(key, value, "`\(value.text)` is neither an Ethernet address nor DOMAIN/NUMBER")
        }
        return .device(domain: String(parts[0]), number: number)
    }

    /// As xl has it: `0:16:3e:1:2:3` and `00-16-3e-01-02-03` are some, too.
    private static func address(_ text: String) -> MACAddress? {
        let separator: Character = text.contains(":") ? ":" : "-"
        let octets = text.split(separator: separator, omittingEmptySubsequences: false)
        return MACAddress(octets.map { $0.count == 1 ? "0\($0)" : String($0) }.joined(separator: ":"))
    }

    private func ordinary(_ mac: MACAddress, _ key: String, _ value: SpecificationToken) throws(SpecificationError) -> MACAddress {
        guard !mac.isMulticast else { throw error(key, value, "\(mac) is a group's address") }
        guard mac.littleEndian != 0 else { throw error(key, value, "\(mac) is nobody's address") }
        return mac
    }

    /// `10Mb/s`, `1MB/s@20ms`: bits or bytes a second, and the interval over which that holds, 50 ms if not given.
    private func rate(_ key: String, _ value: SpecificationToken) throws(SpecificationError) -> VifSpecification.Rate {
        let parts = value.text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
        let digits = parts[0].prefix { $0.isDecimalDigit }
        let units: [String: UInt64] = [
            "b/s": 1, "Kb/s": 1000, "Mb/s": 1_000_000, "Gb/s": 1_000_000_000, "B/s": 8, "KB/s": 8000, "MB/s": 8_000_000,
            "GB/s": 8_000_000_000,
        ]
        guard let count = UInt64(digits), let unit = units[String(parts[0].dropFirst(digits.count))],
            case let (bits, overflow) = count.multipliedReportingOverflow(by: unit), !overflow
        else { throw error(key, value, "`\(value.text)` is no rate such as 10Mb/s or 1MB/s@20ms") }
        var microseconds: UInt32 = 50_000
        if parts.count == 2 {
            let digits = parts[1].prefix { $0.isDecimalDigit }
            let scales: [String: UInt32] = ["us": 1, "ms": 1000, "s": 1_000_000]
            guard let count = UInt32(digits), let scale = scales[String(parts[1].dropFirst(digits.count))],
                case let (time, overflow) = count.multipliedReportingOverflow(by: scale), !overflow, time > 0
            else { throw error(key, value, "`\(parts[1])` is no interval such as 20ms") }
            microseconds = time
        }
        let (high, low) = (bits / 8).multipliedFullWidth(by: UInt64(microseconds))
        guard high < 1_000_000 else { throw error(key, value, "more than there is") }
        let bytes = UInt64(1_000_000).dividingFullWidth((high, low)).quotient
        guard bytes > 0 else { throw error(key, value, "less than a byte in an interval") }
        return .init(bytesPerInterval: bytes, microseconds: microseconds)
    }

    private func interface(_ key: String, _ value: SpecificationToken) throws(SpecificationError) -> String {
        guard HostInterface.isName(value.text) else {
            throw error(key, value, "`\(value.text)` is no interface's name")
        }
        return value.text
    }

    private func number(
        _ key: String, _ value: SpecificationToken, _ range: ClosedRange<UInt32>
    ) throws(SpecificationError) -> UInt32 {
        guard value.text.allSatisfy({ $0.isDecimalDigit }), let number = UInt32(value.text), range.contains(number) else {
            throw error(key, value, "`\(value.text)` is no number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    private func error(_ key: String?, _ token: SpecificationToken, _ reason: String) -> SpecificationError {
        SpecificationError("vif", parameter: key, column: token.column, in: specification, reason)
    }
}
