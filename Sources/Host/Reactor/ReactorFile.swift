// Files that a reactor does I/O on. Where the ring has a table of its own for them, an operation spares the kernel a
// look-up and two atomic counts in the process's table.

import CUring
import Glibc
import LinuxSystem

/// A descriptor as operations name it.
package struct ReactorFile {
    /// Kept open as long as the file is used.
    let descriptor: Descriptor
    /// The place in the ring's table, or the descriptor.
    let number: Int32
    let isFixed: Bool
}

struct FixedFileTable {
    static let capacity: Int32 = 256
    private var free: [Int32] = []

    /// Makes an empty table; where the kernel has none (before 5.19), files go by their descriptor.
    mutating func register(_ uring: borrowing Uring) {
        // SAFETY: `raw` lives as long as the ring, which is borrowed.
        if unsafe io_uring_register_files_sparse(uring.raw, UInt32(Self.capacity)) == 0 {
            free = (0..<Self.capacity).reversed()
        }
    }

    mutating func add(_ descriptor: Descriptor, _ uring: borrowing Uring) -> ReactorFile {
        if let place = free.popLast() {
            var raw = descriptor.rawValue
            // SAFETY: the kernel reads one number, and takes a reference to the file of its own.
            if unsafe io_uring_register_files_update(uring.raw, UInt32(place), &raw, 1) == 1 {
                return ReactorFile(descriptor: descriptor, number: place, isFixed: true)
            }
            free.append(place)
        }
        return ReactorFile(descriptor: descriptor, number: descriptor.rawValue, isFixed: false)
    }

    mutating func remove(_ file: ReactorFile, _ uring: borrowing Uring) {
        guard file.isFixed else { return }
        var none: Int32 = -1
        // SAFETY: the kernel reads one number.
        if unsafe io_uring_register_files_update(uring.raw, UInt32(file.number), &none, 1) == 1 { free.append(file.number) }
    }
}

extension Reactor {
    /// Makes `descriptor` known to the ring.
    package func addFile(_ descriptor: Descriptor) -> ReactorFile { fixedFiles.add(descriptor, uring) }
    /// Forgets it; call when nothing that names it is in flight or prepared.
    package func removeFile(_ file: ReactorFile) { fixedFiles.remove(file, uring) }
}
