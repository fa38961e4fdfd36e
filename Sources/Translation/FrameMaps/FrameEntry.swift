// What a frame map holds for a frame, and what a look-up answers. Cases, never marker bits or magic numbers; how they
// are packed is nobody's business but `EntryWord`'s.

/// What may be done with a page.
public struct FramePermissions: OptionSet, Hashable, Sendable, CustomStringConvertible {
    /// The bits: 1 read, 2 write.
    public let rawValue: UInt8
    /// Takes any bits.
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// May be read.
    @inlinable public static var read: FramePermissions { FramePermissions(rawValue: 1) }
    /// May be written.
    @inlinable public static var write: FramePermissions { FramePermissions(rawValue: 2) }
    /// Both.
    @inlinable public static var readWrite: FramePermissions { FramePermissions(rawValue: 3) }
    /// `rw`, `r-`, `-w` or `--`.
    public var description: String { (contains(.read) ? "r" : "-") + (contains(.write) ? "w" : "-") }
}

/// What stands at one pfn.
public enum FrameEntry: Hashable, Sendable {
    /// No frame: a hole.
    case invalid
    /// The domain gave this page back; a foreign frame may be placed here.
    case ballooned
    /// Not memory of the domain; its number on the bus is its own (a device's window).
    case identity(Translation)
    /// The domain's own memory.
    case local(Translation)
    /// Another domain's page, mapped by a grant.
    case foreign(Translation)

    /// The translation, where there is one.
    public var translation: Translation? {
        switch self {
        case .invalid, .ballooned: nil
        case .identity(let answer), .local(let answer), .foreign(let answer): answer
        }
    }
}

/// Where a page is on the bus.
public struct Translation: Hashable, Sendable, CustomStringConvertible {
    /// The frame.
    public var frame: BusFrame
    /// The byte in it that was asked for.
    public var offset: PageOffset
    /// How many pages from here on are contiguous on the bus with the same permissions and of the same kind; at least
    /// 1, and no more than asked for. It is a lower bound: what is beyond the pages asked for is not looked at.
    public var pageCount: UInt64
    /// What may be done with it.
    public var permissions: FramePermissions

    /// An answer, as look-ups make it.
    @inlinable public init(frame: BusFrame, offset: PageOffset, pageCount: UInt64, permissions: FramePermissions) {
        self.frame = frame
        self.offset = offset
        self.pageCount = pageCount
        self.permissions = permissions
    }
    /// The byte's address on the bus.
    @inlinable public var address: BusAddress { BusAddress(frame, offset) }
    /// Contiguous bytes from the address on.
    @inlinable public var byteCount: UInt64 { (pageCount << frameShift) &- UInt64(offset.rawValue) }
    /// `b0x12+0x0 for 1 page, rw`.
    public var description: String {
        "\(frame)\(offset) for \(pageCount) page\(pageCount == 1 ? "" : "s"), \(permissions)"
    }
}

/// Which pfn a bus frame belongs to.
public struct ReverseTranslation: Hashable, Sendable {
    /// The page.
    public var pfn: Pfn
    /// Whether the page is another domain's.
    public var isForeign: Bool
    /// The map's generation when it was asked: the answer holds at least as long as the map says this generation is
    /// current.
    public var generation: UInt64
    @inlinable init(pfn: Pfn, isForeign: Bool, generation: UInt64) {
        self.pfn = pfn
        self.isForeign = isForeign
        self.generation = generation
    }
}

/// An entry as it is stored: kind in bits 0 to 2, permissions in bits 3 and 4, frame from bit 12 on. Zero is "nothing
/// recorded".
@usableFromInline
package enum EntryWord {
    @usableFromInline package static let hole: UInt64 = 1
    @usableFromInline package static let ballooned: UInt64 = 2
    @usableFromInline package static let identity: UInt64 = 3
    @usableFromInline package static let local: UInt64 = 4
    @usableFromInline package static let foreign: UInt64 = 5

    @inlinable @inline(__always) package static func kind(_ word: UInt64) -> UInt64 { word & 7 }
    @inlinable @inline(__always) package static func hasFrame(_ word: UInt64) -> Bool { word & 7 >= identity }
    @inlinable @inline(__always) package static func frame(_ word: UInt64) -> UInt64 { word >> frameShift }
    @inlinable @inline(__always) package static func permissions(_ word: UInt64) -> FramePermissions {
        FramePermissions(rawValue: UInt8(truncatingIfNeeded: word >> 3 & 3))
    }
    @inlinable @inline(__always)
    package static func make(_ kind: UInt64, _ frame: UInt64, _ permissions: FramePermissions) -> UInt64 {
        frame << frameShift | UInt64(permissions.rawValue & 3) << 3 | kind
    }
}
