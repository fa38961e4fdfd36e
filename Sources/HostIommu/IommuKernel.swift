// The seam between the kernel back ends and the kernel: two calls. Tests put a kernel of their own behind it.

import CLinux
import Glibc
import LinuxSystem

/// What the back ends need of a kernel.
public protocol IommuKernel: Sendable {
    /// `open(2)` of a device node, for reading and writing.
    func open(_ path: String) throws(Errno) -> Descriptor
    /// `ioctl(2)`: its result, or a negative errno. The argument is the request's structure, or a number where the request takes one.
    @unsafe func control(_ descriptor: Descriptor, _ request: Int, _ argument: UnsafeMutableRawPointer?) -> Int
}

/// The kernel that we run on.
public struct RunningKernel: IommuKernel {
    /// The kernel that runs this process.
    public init() {}

    /// See `IommuKernel`.
    public func open(_ path: String) throws(Errno) -> Descriptor { try Descriptor.open(path, O_RDWR) }

    /// See `IommuKernel`.
    @unsafe public func control(_ descriptor: Descriptor, _ request: Int, _ argument: UnsafeMutableRawPointer?) -> Int {
        unsafe causeway_iommu_control(descriptor.rawValue, UInt(request), argument)
    }
}

extension IommuKernel {
    /// A call whose argument is a structure that the kernel reads and may write.
    func call<T: BitwiseCopyable>(_ descriptor: Descriptor, _ request: Int, _ argument: inout T) throws(Errno) -> Int {
        let result = unsafe withUnsafeMutableBytes(of: &argument) { bytes in
            // SAFETY: the structure is the request's own, and says its size.
            unsafe control(descriptor, request, bytes.baseAddress)
        }
        if result < 0 { throw Errno(Int32(-result)) }
        return result
    }

    /// A call whose argument is a number.
    func call(_ descriptor: Descriptor, _ request: Int, value: Int) throws(Errno) -> Int {
        let result = unsafe control(descriptor, request, UnsafeMutableRawPointer(bitPattern: value))
        if result < 0 { throw Errno(Int32(-result)) }
        return result
    }

    /// A call whose argument is a number of bytes, aligned for 64-bit words.
    func call(_ descriptor: Descriptor, _ request: Int, words: inout [UInt64]) throws(Errno) {
        let result = unsafe words.withUnsafeMutableBytes { unsafe control(descriptor, request, $0.baseAddress) }
        if result < 0 { throw Errno(Int32(-result)) }
    }
}
