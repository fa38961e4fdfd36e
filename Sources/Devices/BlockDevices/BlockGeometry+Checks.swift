// The device side's own look at an operation. The backend has validated it already; this is the second lock on the same
// door, because a write past the end would make a file grow, and a write to a read-only image must not depend on one
// check (attacks.md A23).

import LinuxSystem

extension BlockGeometry {
    /// Why `operation` over `transfer` bytes of memory cannot be done here, or nil if it can.
    @inline(__always)
    package func refusal(of operation: DeviceOperation, byteCount transfer: UInt64) -> Errno? {
        switch operation {
        case .read(let offset): return isInside(offset, transfer) ? nil : .invalidArgument
        case .write(let offset, let isDurable):
            if isReadOnly { return .readOnlyFileSystem }
            if isDurable && canFlush && !writesDurably { return .notSupported }
            return isInside(offset, transfer) ? nil : .invalidArgument
        case .flush: return nil
        case .discard(let offset, let count, let secure):
            if isReadOnly { return .readOnlyFileSystem }
            guard let discard, !secure || discard.secure else { return .notSupported }
            return isInside(offset, count) ? nil : .invalidArgument
        case .writeZeroes(let offset, let count, _):
            if isReadOnly { return .readOnlyFileSystem }
            guard zeroes != nil else { return .notSupported }
            return isInside(offset, count) ? nil : .invalidArgument
        }
    }

    @inline(__always)
    private func isInside(_ offset: UInt64, _ count: UInt64) -> Bool {
        count > 0 && offset <= byteCount && count <= byteCount &- offset
    }
}
