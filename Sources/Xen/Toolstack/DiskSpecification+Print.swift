// A disk in xl's syntax, in the one form that can say everything: named parameters, the target last.

extension DiskSpecification: CustomStringConvertible {
    /// Parses back to the same value.
    public var description: String {
        var parts: [String] = []
        // `empty` follows from a CD drive without a target, and xl's scanner would take it for no other.
        parts.append("format=\(format.rawValue)")
        parts.append("vdev=\(vdev.name)")
        parts.append(isReadOnly ? "access=ro" : isShared ? "access=w!" : "access=rw")
        if isCDROM { parts.append("devtype=cdrom") } else if isRemovable { parts.append("removable") }
        if let backend { parts.append("backend=\(backend)") }
        if let backendType { parts.append("backendtype=\(backendType.rawValue)") }
        if let script { parts.append("script=\(script)") }
        if isDirectIOSafe { parts.append("direct-io-safe") }
        if let discard { parts.append(discard ? "discard" : "no-discard") }
        if let trusted { parts.append(trusted ? "trusted" : "untrusted") }
        if specification != .xen { parts.append("specification=\(specification.rawValue)") }
        if let grantUsage { parts.append("grant_usage=\(grantUsage ? 1 : 0)") }
        if let front { parts.append("front=\(front.rawValue)") }
        if let reconnectDelay { parts.append("reconnect-delay=\(reconnectDelay)") }
        parts += replication.parameters
        // One comma at the very end is dropped when read, so a target that ends in one needs another.
        parts.append("target=\(target)\(target.hasSuffix(",") ? "," : "")")
        return parts.joined(separator: ",")
    }
}

extension DiskSpecification.Replication {
    fileprivate var parameters: [String] {
        var parts: [String] = []
        if let isEnabled { parts.append(isEnabled ? "colo" : "no-colo") }
        if let host { parts.append("colo-host=\(host)") }
        if let port { parts.append("colo-port=\(port)") }
        if let export { parts.append("colo-export=\(export)") }
        if let activeDisk { parts.append("active-disk=\(activeDisk)") }
        if let hiddenDisk { parts.append("hidden-disk=\(hiddenDisk)") }
        return parts
    }
}
