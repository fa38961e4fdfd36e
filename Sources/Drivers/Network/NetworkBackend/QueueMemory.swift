// A queue's memory: private pages, made before anything of the frontend's is mapped, and the DMA by which the queue's
// device reaches those and the frontend's. The kernel gives pages only to what is used.

import DMA
import DriverRuntime
import FrameMaps
import LinuxSystem
import SharedMemory

/// Why a queue's memory could not be had.
enum QueueMemoryError: Error, CustomStringConvertible {
    /// The system has none.
    case system(Errno)
    /// The device cannot be made.
    case dma(String, DMAError)
    /// The device's limits leave no room for it.
    case unreachable(String)

    var description: String {
        switch self {
        case .system(let error): "\(error)"
        case .dma(let name, let error): "\(name): \(error)"
        case .unreachable(let text): text
        }
    }
}

/// What one queue has. On its reactor's thread.
final class QueueMemory {
    /// Pages that the largest frame takes: 65535 bytes, and an Ethernet header more from a device.
    static let pagesPerFrame = 17
    /// Frames that are on their way to the frontend in one turn at most, if its pages are not mapped.
    static let stagedFrames = 16

    /// Bytes of bounce pool that the largest frame takes: its pages, or one run of slots that holds it.
    static let leastBounce = 128 << 10

    /// The only way by which the device reaches pages.
    let dma: DMADevice
    /// First bytes of packets from the frontend.
    let heads: PrivatePages
    /// Packets from the frontend whose pages are not mapped: as many bytes as a ring's slots can name.
    let bounce: PrivatePages
    /// Frames for the frontend, and behind them room for one more, whose head is looked at there.
    let staging: PrivatePages

    /// - Parameters:
    ///   - name: the device's, for messages.
    ///   - pool: the bounce pool that the interface's queues share; nil: none, or one of this queue's own.
    init(name: String, options: DMAOptions = DMAOptions(), pool: BouncePool? = nil) throws(QueueMemoryError) {
        let dma: DMADevice
        do throws(DMAError) { dma = try DMADevice(name: name, options: options, pool: pool) } catch { throw .dma(name, error) }
        // A frame's pages are mapped before its size is known, so room for the largest is needed whatever comes.
        if let pool = dma.pool?.pool, pool.arenaBytes < Self.leastBounce {
            throw .unreachable(
                "\(name): a bounce pool of \(pool.maximum) bytes for \(pool.sharers) queues is too small: each needs \(Self.leastBounce)"
            )
        }
        self.dma = dma
        heads = try PrivatePages(TurnLimits.frames * GuestTransmit.headSize, dma)
        bounce = try PrivatePages(256 * SharedRegion.pageSize, dma)
        staging = try PrivatePages((Self.stagedFrames + 1) * Self.pagesPerFrame * SharedRegion.pageSize, dma)
    }

    /// Takes the private pages away from the device; what was left mapped, if anything was.
    func close() -> String? {
        for pages in [heads, bounce, staging] { dma.detachIdle(pages.region) }
        do throws(DMAError) { try dma.close() } catch { return "\(error)" }
        return nil
    }
}

/// Memory that only this process reaches, and its place in the queue's frame map.
struct PrivatePages {
    let region: SharedRegion
    /// The first page.
    let first: Pfn

    init(_ byteCount: Int, _ dma: DMADevice) throws(QueueMemoryError) {
        do throws(Errno) { region = try SharedRegion(anonymous: byteCount) } catch { throw .system(error) }
        guard let first = dma.attach(region) else {
            throw .unreachable("\(dma.name): no frame numbers left for a queue's own pages")
        }
        self.first = first
    }

    /// The bytes at `offset`, of which all lie in one page.
    @inline(__always)
    func piece(_ offset: Int, _ byteCount: Int) -> PagePiece {
        PagePiece(
            pfn: Pfn(rawValue: first.rawValue &+ UInt64(offset / SharedRegion.pageSize)),
            offset: UInt32(offset % SharedRegion.pageSize), byteCount: UInt32(byteCount))
    }

    /// Appends `byteCount` bytes from `offset` on, page by page.
    func append(_ offset: Int, _ byteCount: Int, to pieces: inout [PagePiece]) {
        var (place, left) = (offset, byteCount)
        while left > 0 {
            let count = min(left, SharedRegion.pageSize - place % SharedRegion.pageSize)
            pieces.append(piece(place, count))
            place += count
            left -= count
        }
    }
}
