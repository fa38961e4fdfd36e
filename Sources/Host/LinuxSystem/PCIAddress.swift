// Where a device is on the PCI bus, as lspci and sysfs write it.

/// `0000:00:04.0`: domain, bus, device and function, hexadecimal.
public struct PCIAddress: Hashable, Sendable, CustomStringConvertible {
    /// The segment of the machine.
    public let domain: UInt32
    /// In the domain.
    public let bus: UInt8
    /// 0 to 31.
    public let device: UInt8
    /// 0 to 7.
    public let function: UInt8

    /// As given; the device is below 32, the function below 8.
    public init(domain: UInt32, bus: UInt8, device: UInt8, function: UInt8) {
        precondition(device < 32 && function < 8, "no address on the PCI bus")
        (self.domain, self.bus) = (domain, bus)
        (self.device, self.function) = (device, function)
    }

    /// Parses `0000:00:04.0`, or `00:04.0` in domain 0; nil for anything else.
    public init?(_ text: some StringProtocol) {
        let halves = text.split(separator: ".", omittingEmptySubsequences: false)
        guard halves.count == 2 else { return nil }
        var parts = halves[0].split(separator: ":", omittingEmptySubsequences: false)
        if parts.count == 2 { parts.insert("0000", at: 0) }
        guard parts.count == 3, let domain = Self.number(parts[0], digits: 4...8), let bus = Self.number(parts[1], digits: 2...2),
            let device = Self.number(parts[2], digits: 2...2), device < 32,
            let function = Self.number(halves[1], digits: 1...1), function < 8
        else { return nil }
        (self.domain, self.bus) = (domain, UInt8(bus))
        (self.device, self.function) = (UInt8(device), UInt8(function))
    }

    private static func number(_ text: some StringProtocol, digits: ClosedRange<Int>) -> UInt32? {
        guard digits.contains(text.utf8.count), text.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }) else {
            return nil
        }
        return UInt32(text, radix: 16)
    }

    /// `0000:00:04.0`.
    public var description: String {
        func padded(_ number: UInt32, _ digits: Int) -> String {
            let text = String(number, radix: 16)
            return String(repeating: "0", count: max(0, digits - text.count)) + text
        }
        return "\(padded(domain, 4)):\(padded(UInt32(bus), 2)):\(padded(UInt32(device), 2)).\(function)"
    }
}
