// How many grants one process can map and offer here, as far as this kernel tells; the hypervisor's own maptrack limit
// (gnttab_max_maptrack_frames) can only be learnt by reaching it.

import Glibc
import Hypervisor
import LinuxSystem

/// The limits of this system.
public struct GrantLimits: Sendable, Equatable, CustomStringConvertible {
    /// Mappings that a process may have: each grant mapped by itself is one (`vm.max_map_count`).
    public var mappings: Int?
    /// Pages that one gntdev map may have (module parameter `xen_gntdev.limit`).
    public var pagesInMap: Int?
    /// Pages that this domain's processes may offer together (module parameter `xen_gntalloc.limit`).
    public var offered: Int?

    /// Reads them; nil where the kernel does not say.
    public static func read() -> GrantLimits {
        GrantLimits(
            mappings: number("/proc/sys/vm/max_map_count"),
            pagesInMap: number("/sys/module/xen_gntdev/parameters/limit"),
            offered: number("/sys/module/xen_gntalloc/parameters/limit"))
    }

    /// What is left to this process of its mappings: each grant mapped by itself takes one. nil where the kernel does
    /// not say.
    public static func room() -> GrantRoom? {
        guard let limit = number("/proc/sys/vm/max_map_count") else { return nil }
        var used = 0
        guard read("/proc/self/maps", { used += $0.count { $0 == 10 } }) else { return nil }
        return GrantRoom(limit: limit, used: used, setting: "vm.max_map_count")
    }

    private static func number(_ path: String) -> Int? {
        var digits: [UInt8] = []
        guard read(path, { digits += $0.filter { $0 > 32 } }) else { return nil }
        return Int(String(decoding: digits, as: UTF8.self))
    }

    /// Hands a file's bytes over, piece by piece; false if it cannot be read.
    private static func read(_ path: String, _ take: (ArraySlice<UInt8>) -> Void) -> Bool {
        guard let file = try? Descriptor.open(path, O_RDONLY) else { return false }
        var bytes = [UInt8](repeating: 0, count: 65536)
        while let count = try? file.read(into: &bytes) {
            if count == 0 { return true }
            take(bytes[..<count])
        }
        return false
    }

    /// `vm.max_map_count 65530, xen_gntdev.limit 65536, xen_gntalloc.limit 1024`.
    public var description: String {
        func text(_ value: Int?) -> String { value.map(String.init) ?? "unknown" }
        return
            "vm.max_map_count \(text(mappings)), xen_gntdev.limit \(text(pagesInMap)), xen_gntalloc.limit \(text(offered))"
    }
}
