// How one side of a connection is told that there is something. Beside the shared memory and no part of it: a ring and
// a flat page are signalled alike, and a signal carries nothing.

import LinuxSystem
import SharedMemory

/// What the other side is told by.
public enum BusSignal: Sendable {
    /// An eventfd that does not block.
    case descriptor(Descriptor)
    /// A function, called on whichever thread signals; it never blocks, and uses no verb of a connection but `signal`.
    case action(@Sendable () -> Void)

    /// Tells. Never blocks; what has been told and not been taken yet may be told once.
    public func raise() {
        switch self {
        case .descriptor(let descriptor): descriptor.tell()
        case .action(let body): body()
        }
    }
}

/// A place of the memory that both sides of a connection use: a ring, or a flat page.
public struct BusArea: Sendable {
    /// The memory, mapped.
    public let region: SharedRegion
    /// Where in it.
    public let offset: Int
    /// How many bytes.
    public let byteCount: Int
    /// What it is divided into: a ring's entries; 0 for a flat page.
    public let entries: Int

    /// A place; all of the region from `offset` on, where nothing else is said. Whether it is one is looked at when it
    /// is shared.
    public init(_ region: SharedRegion, at offset: Int = 0, byteCount: Int? = nil, entries: Int = 0) {
        self.region = region
        self.offset = offset
        self.byteCount = byteCount ?? region.byteCount &- offset
        self.entries = entries
    }

    /// Whether it lies in its region.
    var isPlace: Bool {
        offset >= 0 && offset <= region.byteCount && byteCount >= 0 && byteCount <= region.byteCount - offset && entries >= 0
    }
}
