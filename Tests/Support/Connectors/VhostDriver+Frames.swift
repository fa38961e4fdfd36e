// An interface's frames as a test lays them out in its memory.

import LinuxSystem
import SharedMemory
import TestSupport
import Testing
import VhostUser
import VirtioRing
import VirtioWire

extension VhostDriver {
    /// Lays a frame with its header out at a page of the data, cut so, and offers it for sending.
    @discardableResult
    package func send(
        frame bytes: [UInt8], _ header: NetworkHeader = NetworkHeader(), page: Int = 0, cut: [Int] = [], on ring: Int = 1
    ) throws -> ChainTicket {
        header.store(region, at: place(page))
        region.write(bytes, at: place(page) + NetworkHeader.byteCount)
        var chain = DescriptorChain()
        var done = 0
        for count in cut + [NetworkHeader.byteCount + bytes.count - cut.reduce(0, +)] where count > 0 {
            chain.appendReadable(run(place(page) + done, count))
            done += count
        }
        return try offer(chain, on: ring)
    }

    /// Gives memory for frames: so many bytes at a page of the data, cut so.
    @discardableResult
    package func give(_ count: Int, page: Int, cut: [Int] = [], on ring: Int = 0) throws -> ChainTicket {
        var chain = DescriptorChain()
        var done = 0
        for part in cut + [count - cut.reduce(0, +)] {
            chain.appendWritable(run(place(page) + done, part))
            done += part
        }
        return try offer(chain, on: ring)
    }

    /// Expects that this chain is used next.
    package func expectUsed(_ ticket: ChainTicket, written: UInt32, on ring: Int) throws {
        let used = try reap(on: ring)
        #expect(used.ticket == ticket && used.written == written, "\(used)")
    }

    /// The header at a page of the data.
    package func header(page: Int) -> NetworkHeader {
        var bytes = InlineArray<12, UInt8>(repeating: 0)
        for (index, byte) in region.bytes(at: place(page), count: 12).enumerated() { bytes[index] = byte }
        return NetworkHeader(bytes)
    }
}
