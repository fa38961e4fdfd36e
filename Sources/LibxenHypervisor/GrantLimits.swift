// How many grants one process can map and offer here, as far as this kernel tells; the hypervisor's own maptrack limit
// (gnttab_max_maptrack_frames) can only be learnt by reaching it.

import Glibc
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

    private static func number(_ path: String) -> Int? {
        guard let file = try? Descriptor.open(path, O_RDONLY) else { return nil }
        var bytes = [UInt8](repeating: 0, count: 32)
        let count = unsafe bytes.withUnsafeMutableBytes { unsafe Glibc.read(file.rawValue, $0.baseAddress, $0.count) }
        guard count > 0 else { return nil }
        return Int(String(decoding: bytes[..<count].filter { $0 > 32 }, as: UTF8.self))
    }

    /// `vm.max_map_count 65530, xen_gntdev.limit 65536, xen_gntalloc.limit 1024`.
    public var description: String {
        func text(_ value: Int?) -> String { value.map(String.init) ?? "unknown" }
        return
            "vm.max_map_count \(text(mappings)), xen_gntdev.limit \(text(pagesInMap)), xen_gntalloc.limit \(text(offered))"
    }
}
