// Device nodes and their requests (`ioctl(2)`), behind a seam: tests put a kernel of their own there. What differs
// between requests is what their argument is; each form has a function here, so that nobody else handles addresses.

import CLinux
import Glibc

/// A kernel as one that drives device nodes sees it.
public protocol DeviceControl: Sendable {
    /// `open(2)` of a device node, for reading and writing.
    func open(_ path: String) throws(Errno) -> Descriptor
    /// `ioctl(2)`: its result, or a negative errno. The argument is the request's structure, or a number where the
    /// request takes one.
    @unsafe func control(_ descriptor: Descriptor, _ request: Int, _ argument: UnsafeMutableRawPointer?) -> Int
}

/// The kernel that we run on.
public struct RunningKernel: DeviceControl {
    /// The kernel that runs this process.
    public init() {}

    /// See `DeviceControl`.
    public func open(_ path: String) throws(Errno) -> Descriptor { try Descriptor.open(path, O_RDWR) }

    /// See `DeviceControl`.
    @unsafe public func control(_ descriptor: Descriptor, _ request: Int, _ argument: UnsafeMutableRawPointer?) -> Int {
        // SAFETY: the caller's promise, which the attribute asks for: the argument is what the request takes.
        unsafe causeway_iommu_control(descriptor.rawValue, UInt(request), argument)
    }
}

extension DeviceControl {
    /// A call whose argument is a structure that the kernel reads and may write.
    package func call<T: BitwiseCopyable>(_ descriptor: Descriptor, _ request: Int, _ argument: inout T) throws(Errno) -> Int {
        // SAFETY: the structure is the request's own, and says its size.
        let result = unsafe withUnsafeMutableBytes(of: &argument) { unsafe control(descriptor, request, $0.baseAddress) }
        return try Self.checked(result)
    }

    /// A call whose argument is a number.
    package func call(_ descriptor: Descriptor, _ request: Int, value: Int) throws(Errno) -> Int {
        // SAFETY: such a request takes it for no address.
        try Self.checked(unsafe control(descriptor, request, UnsafeMutableRawPointer(bitPattern: value)))
    }

    /// A call whose argument is a number of bytes, aligned for 64-bit words.
    package func call(_ descriptor: Descriptor, _ request: Int, words: inout [UInt64]) throws(Errno) {
        // SAFETY: the bytes begin with their count.
        let result = unsafe words.withUnsafeMutableBytes { unsafe control(descriptor, request, $0.baseAddress) }
        _ = try Self.checked(result)
    }

    /// A call whose argument is a text.
    package func call(_ descriptor: Descriptor, _ request: Int, text: String) throws(Errno) -> Int {
        var bytes = Array(text.utf8) + [0]
        // SAFETY: the text ends with a NUL, and is there during the call.
        let result = unsafe bytes.withUnsafeMutableBytes { unsafe control(descriptor, request, $0.baseAddress) }
        return try Self.checked(result)
    }

    /// A call whose argument is a structure that names a list: its address is put into `address`, and how many elements
    /// there are the caller has put where the structure has it. The kernel reads or writes the list during the call
    /// only.
    package func call<T: BitwiseCopyable, E: BitwiseCopyable>(
        _ descriptor: Descriptor, _ request: Int, _ argument: inout T, list: inout [E], at address: WritableKeyPath<T, UInt64>
    ) throws(Errno) -> Int {
        // SAFETY: the list stands still during the call, and so does the structure.
        let result = unsafe list.withUnsafeMutableBytes { bytes in
            argument[keyPath: address] = UInt64(UInt(bitPattern: bytes.baseAddress))
            return unsafe withUnsafeMutableBytes(of: &argument) { unsafe control(descriptor, request, $0.baseAddress) }
        }
        return try Self.checked(result)
    }

    private static func checked(_ result: Int) throws(Errno) -> Int {
        if result < 0 { throw Errno(Int32(-result)) }
        return result
    }
}
