// xl's disk syntax, as xl-disk-configuration(5) gives it and libxlu's scanner takes it: named and positional
// parameters, flags, deprecated prefixes, `target=` that eats the rest. Beyond xl: an NBD URI, or an image of Ceph's
// with its options, is a positional target of its own.

extension DiskSpecification {
    /// Parses one specification. The error names the parameter and the column.
    public init(parsing specification: String) throws(ToolstackError) {
        var parser = DiskParser(specification)
        do { self = try parser.parse() } catch { throw .specification(error) }
    }
}

/// What has been given so far; nil: not yet.
private struct DiskParser {
    private let specification: String
    private var scanner: ParameterScanner
    private var disk: DiskSpecification

    private var target: SpecificationToken?
    private var format: DiskSpecification.Format?
    private var vdev: SpecificationToken?
    private var access: Access?
    /// `r`, `w`, `w!`.
    private enum Access { case readOnly, readWrite, shared }
    private var deviceType: Bool?
    private var backendSpecification: DiskSpecification.Specification?
    private var reconnectDelay: SpecificationToken?
    private var hasDeprecatedPrefix = false
    /// A prefix that nothing stands behind.
    private var bare: SpecificationToken?
    private var hasPositionalAccess = false

    init(_ specification: String) {
        self.specification = specification
        scanner = ParameterScanner(specification)
        disk = DiskSpecification(target: "", vdev: .placeholder)
    }

    mutating func parse() throws(SpecificationError) -> DiskSpecification {
        do throws(SpecificationError) {
            if !scanner.skipBlanks() {
                throw error("vdev", end, "none given, for all is empty; write TARGET,FORMAT,VDEV,ACCESS: disk.img,raw,xvda,w")
            }
            while scanner.skipBlanks() { try parseNext() }
            return try finish()
        } catch {
            // What follows a prefix without a path is taken for another parameter, and its error is about that one.
            if let bare { throw self.error("target", bare, "`\(bare.text)` names no file") }
            throw error
        }
    }

    /// Behind the last character.
    private var end: SpecificationToken { .init(text: "", column: specification.count + 1) }

    private mutating func parseNext() throws(SpecificationError) {
        if scanner.rest.starts(with: "target=") {
            _ = scanner.take("target=".count)
            return try set(&target, scanner.takeRest(), "target")
        }
        if let scheme = scanner.word(allowing: ["+"]), DiskSpecification.uriSchemes.contains(scheme),
            scanner.rest.starts(with: "\(scheme)://")
        {
            return try parsePositional(scanner.takeParameter())
        }
        if scanner.rest.starts(with: "rbd:") { return try parsePositional(scanner.takeParameter()) }
        if let scheme = scanner.word(allowing: ["+"]), scheme == "nbds" || scheme.hasPrefix("nbd+") || scheme.hasPrefix("nbds+") {
            throw error(
                "target", .init(text: scheme, column: scanner.column),
                "an NBD URI has two slashes behind its colon: \(scheme)://"
                    + (scheme.hasSuffix("+unix") ? "/EXPORT?socket=PATH" : "HOST:PORT/EXPORT"))
        }
        if let word = scanner.word(), try parsePrefix(word) { return }
        let token = scanner.takeParameter()
        if try parseFlag(token) { return }
        if let (key, value) = token.keyAndValue { return try parseNamed(key, value, at: token.column) }
        guard !token.text.contains("=") else {
            throw error(nil, token, "bad syntax: a target that contains `=` must be given last, as target=…")
        }
        try parsePositional(token)
    }

    // Deprecated prefixes: known ones count wherever a parameter begins; any other word with a colon only if what
    // follows could not be part of a name (so that `hdc:cdrom` and `null:1G` are ordinary).
    private mutating func parsePrefix(_ word: String) throws(SpecificationError) -> Bool {
        let column = scanner.column
        switch word {
        case "null", "nvme": return false
        case "raw", "qcow", "qcow2", "vhd":
            try setFormat(scanner.take(word.count))
        case "iscsi", "nbd", "enbd", "drbd":
            try setString(\.script, .init(text: "block-\(word)", column: scanner.column), "script")
            _ = scanner.take(word.count)
        case "tapdisk", "tap", "tap2", "aio", "ioemu", "file", "phy":
            _ = scanner.take(word.count)
        default:
            let following = scanner.rest.dropFirst(word.count + 1).first
            if let following, following.isLowercaseLetter || following.isDecimalDigit { return false }
            throw error(
                nil, .init(text: word, column: scanner.column),
                "nothing that can be served begins with `\(word):`; a path, null:SIZE, rbd:POOL/IMAGE or an NBD URI can "
                    + "(nbd://HOST/EXPORT, nbd+unix:///EXPORT?socket=PATH)")
        }
        _ = scanner.take(1)
        hasDeprecatedPrefix = true
        if scanner.rest.first == nil || scanner.rest.first == "," { bare = .init(text: "\(word):", column: column) }
        return true
    }

    private mutating func parseFlag(_ token: SpecificationToken) throws(SpecificationError) -> Bool {
        switch token.text {
        case "cdrom": try set(&deviceType, true, token, "devtype")
        case "removable": disk.isRemovable = true
        case "direct-io-safe": disk.isDirectIOSafe = true
        case "discard", "no-discard": try set(&disk.discard, token.text == "discard", token, "discard")
        case "trusted", "untrusted": try set(&disk.trusted, token.text == "trusted", token, "trusted")
        case "colo", "no-colo": try set(&disk.replication.isEnabled, token.text == "colo", token, "colo")
        default: return false
        }
        return true
    }

    private mutating func parseNamed(
        _ key: String, _ value: SpecificationToken, at column: Int
    ) throws(SpecificationError) {
        switch key {
        case "format": try setFormat(value)
        case "vdev": try set(&vdev, value, "vdev")
        case "access": try setAccess(value)
        case "devtype":
            guard ["cdrom", "disk"].contains(value.text) else { throw unknown("devtype", value, ["cdrom", "disk"]) }
            try set(&deviceType, value.text == "cdrom", value, "devtype")
        case "backend": try setString(\.backend, value, key)
        case "backendtype": try setEnumeration(&disk.backendType, value, key)
        case "specification": try setEnumeration(&backendSpecification, value, key)
        case "script": try setString(\.script, value, key)
        case "grant_usage":
            guard ["0", "1"].contains(value.text) else { throw unknown(key, value, ["0", "1"]) }
            try set(&disk.grantUsage, value.text == "1", value, key)
        case "front":
            guard !value.text.isEmpty else { throw unknown(key, value, DeviceFront.allCases.map(\.rawValue)) }
            try setEnumeration(&disk.front, value, key)
        case "reconnect-delay":
            guard value.text.allSatisfy(\.isDecimalDigit), let seconds = UInt32(value.text) else {
                throw error(key, value, "`\(printable(value.text))` is no number of seconds")
            }
            try set(&disk.reconnectDelay, seconds, value, key)
            reconnectDelay = value
        case "colo-host": try setString(\.replication.host, value, key)
        case "colo-port":
            guard let port = UInt16(value.text), port > 0 else {
                throw error(key, value, "`\(value.text)` is no port number")
            }
            try set(&disk.replication.port, port, value, key)
        case "colo-export": try setString(\.replication.export, value, key)
        case "active-disk": try setString(\.replication.activeDisk, value, key)
        case "hidden-disk": try setString(\.replication.hiddenDisk, value, key)
        default: throw error(key, .init(text: key, column: column), "unknown parameter")
        }
    }

    private mutating func parsePositional(_ token: SpecificationToken) throws(SpecificationError) {
        if target == nil {
            target = token
        } else if !hasDeprecatedPrefix && format == nil {
            // xend's empty CD drive, `,hdc:cdrom,r`, has no format.
            if target?.text == "", try setVdevAndType(token) {
                format = .empty
            } else {
                try setFormat(token)
            }
        } else if vdev == nil {
            if try !setVdevAndType(token) { vdev = token }
        } else if !hasPositionalAccess {
            hasPositionalAccess = true
            if !token.text.isEmpty { try setAccess(token) }
        } else {
            throw error(nil, token, "too many positional parameters: target, format, vdev and access are already given")
        }
    }

    /// Takes the deprecated `vdev:cdrom` and `vdev:disk`; false, doing nothing, if there is no colon.
    private mutating func setVdevAndType(_ token: SpecificationToken) throws(SpecificationError) -> Bool {
        guard let colon = token.text.lastIndex(of: ":") else { return false }
        let type = token.suffix(from: token.text.index(after: colon))
        guard ["cdrom", "disk"].contains(type.text) else { throw unknown("devtype", type, ["cdrom", "disk"]) }
        try set(&vdev, .init(text: String(token.text[..<colon]), column: token.column), "vdev")
        try set(&deviceType, type.text == "cdrom", type, "devtype")
        return true
    }

    private func finish() throws(SpecificationError) -> DiskSpecification {
        var disk = self.disk
        guard let vdev, !vdev.text.isEmpty else {
            throw error("vdev", vdev ?? end, "none given, and there is no default")
        }
        guard let device = VirtualDevice(vdev.text) else {
            throw error(
                "vdev", vdev, "`\(printable(vdev.text))` is no virtual device (xvda, sda1, hda, d0p0 or a number)")
        }
        disk.vdev = device
        disk.isCDROM = deviceType ?? false
        if disk.isCDROM { disk.isRemovable = true }
        disk.isReadOnly = disk.isCDROM || access == .readOnly
        disk.isShared = !disk.isReadOnly && access == .shared
        disk.specification = backendSpecification ?? .xen
        disk.target = target?.text ?? ""
        disk.format = format ?? .raw
        if disk.target.isEmpty {
            guard disk.isRemovable else {
                throw error("target", target ?? end, "none given, and the device is not removable")
            }
            if disk.isCDROM { disk.format = .empty }
        }
        if disk.target.contains(where: { $0 == "\0" || $0.isNewline }) {
            throw error("target", target ?? end, "contains a line break or a NUL")
        }
        if disk.target.hasPrefix("null:"), disk.script == nil, disk.nullDeviceSize ?? 0 < 512 {
            throw error("target", target ?? end, "a null device is null:SIZE, bytes (at least 512) or with K, M, G or T: null:1G")
        }
        if let reconnectDelay, !disk.isNBD, !disk.isRBD {
            throw error("reconnect-delay", reconnectDelay, "it is for NBD servers and Ceph clusters, and this target is none")
        }
        return disk
    }
}

// Setting once. Saying the same thing twice is no contradiction, as in xl.
extension DiskParser {
    private func set(
        _ slot: inout SpecificationToken?, _ value: SpecificationToken, _ name: String
    ) throws(SpecificationError) {
        if let old = slot, !old.text.isEmpty { throw error(name, value, "given twice") }
        slot = value
    }

    private func set<Value: Equatable>(
        _ slot: inout Value?, _ value: Value, _ token: SpecificationToken, _ name: String
    ) throws(SpecificationError) {
        if let old = slot, old != value { throw error(name, token, "given twice, with different values") }
        slot = value
    }

    private mutating func setString(
        _ path: WritableKeyPath<DiskSpecification, String?>, _ value: SpecificationToken, _ name: String
    ) throws(SpecificationError) {
        if disk[keyPath: path] != nil { throw error(name, value, "given twice") }
        disk[keyPath: path] = value.text.isEmpty ? nil : value.text
    }

    private mutating func setFormat(_ value: SpecificationToken) throws(SpecificationError) {
        guard let new = value.text.isEmpty ? .raw : DiskSpecification.Format(rawValue: value.text) else {
            throw unknown("format", value, ["raw", "qcow", "qcow2", "vhd", "qed"])
        }
        try set(&format, new, value, "format")
    }

    private mutating func setAccess(_ value: SpecificationToken) throws(SpecificationError) {
        switch value.text {
        case "r", "ro": try set(&access, .readOnly, value, "access")
        case "w", "rw": try set(&access, .readWrite, value, "access")
        // Not xl's, but its block script's.
        case "w!": try set(&access, .shared, value, "access")
        case "": break
        default: throw unknown("access", value, ["r", "ro", "w", "rw", "w!"])
        }
    }

    private func setEnumeration<Value: RawRepresentable & CaseIterable & Equatable>(
        _ slot: inout Value?, _ value: SpecificationToken, _ name: String
    ) throws(SpecificationError) where Value.RawValue == String {
        if value.text.isEmpty { return }
        guard let new = Value(rawValue: value.text) else {
            throw unknown(name, value, Value.allCases.map(\.rawValue))
        }
        try set(&slot, new, value, name)
    }

    private func unknown(_ name: String, _ value: SpecificationToken, _ known: [String]) -> SpecificationError {
        error(name, value, "unknown value `\(printable(value.text))` (known: \(known.joined(separator: ", ")))")
    }

    private func error(_ name: String?, _ token: SpecificationToken, _ reason: String) -> SpecificationError {
        SpecificationError("disk", parameter: name, column: token.column, in: specification, reason)
    }
}
