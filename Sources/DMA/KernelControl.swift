// Asking the kernel's IOMMU interfaces: one call, `ioctl`, with a structure given and taken back as bytes. Behind a protocol,
// because a test has no IOMMU and must be able to refuse, to lie and to count.

import CLinux
import Glibc
import LinuxSystem

/// Something that answers `ioctl`.
public protocol KernelControl: AnyObject {
    /// Makes a request about `bytes`, which it may change. Returns what `ioctl` does, or a negative errno.
    func control(_ request: UInt, _ bytes: inout [UInt8]) -> Int
}

extension KernelControl {
    /// A request whose argument is a number.
    func controlNumber(_ request: UInt, _ number: UInt32) -> Int {
        var bytes: [UInt8] = (0..<4).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) }
        return control(request, &bytes)
    }
}

/// The kernel's own, by way of an open file.
public final class KernelFile: KernelControl {
    private let descriptor: Descriptor

    /// Opens a device node.
    public init(_ path: String) throws(DMAError) {
        do throws(Errno) { descriptor = try Descriptor.open(path, O_RDWR) } catch {
            throw .refused(operation: "opening \(path)", errno: error.rawValue)
        }
    }

    /// A container that is open already.
    public init(_ descriptor: Descriptor) { self.descriptor = descriptor }

    /// See the protocol.
    public func control(_ request: UInt, _ bytes: inout [UInt8]) -> Int {
        // VFIO has requests whose argument is the number itself: those of four bytes.
        var number: UInt = 0
        if bytes.count == 4 { for index in 0..<4 { number |= UInt(bytes[index]) << UInt(index * 8) } }
        while true {
            if bytes.count <= 4 {
                let result = unsafe causeway_ioctl(descriptor.rawValue, request, UnsafeMutableRawPointer(bitPattern: number))
                if result >= 0 { return Int(result) }
                if errno != EINTR { return -Int(errno) }
                continue
            }
            let result = unsafe bytes.withUnsafeMutableBytes { buffer in
                unsafe causeway_ioctl(descriptor.rawValue, request, buffer.baseAddress)
            }
            if result >= 0 { return Int(result) }
            if errno != EINTR { return -Int(errno) }
        }
    }
}

/// A kernel structure as it is in memory: fields by their offsets, in the host's order.
struct KernelBytes {
    var bytes: [UInt8]

    /// A structure of `count` zero bytes whose first field is its size, as both interfaces want it.
    init(sized count: Int) {
        bytes = [UInt8](repeating: 0, count: count)
        put(UInt32(count), at: 0)
    }

    mutating func put<N: FixedWidthInteger>(_ value: N, at offset: Int) {
        for index in 0..<N.bitWidth / 8 { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> N(index * 8)) }
    }

    /// The field, or nil if the structure ends before it.
    func get<N: FixedWidthInteger>(_ offset: Int, as type: N.Type = N.self) -> N? {
        guard offset >= 0, offset <= bytes.count - N.bitWidth / 8 else { return nil }
        var value: N = 0
        for index in 0..<N.bitWidth / 8 { value |= N(truncatingIfNeeded: bytes[offset + index]) << N(index * 8) }
        return value
    }
}

/// What memory this process may lock.
struct LockLimit {
    /// Bytes; nil: any number (`CAP_IPC_LOCK`, or no limit set).
    static func current() -> Int? {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(8), &limit) == 0 else { return nil }
        if limit.rlim_cur == rlim_t.max || causeway_has_capability(14) == 1 { return nil }
        return Int(clamping: limit.rlim_cur)
    }
}
