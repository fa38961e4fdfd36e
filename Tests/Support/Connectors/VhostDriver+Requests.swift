// A disk's requests as a test lays them out in its memory.

import LinuxSystem
import SharedMemory
import TestSupport
import Testing
import VhostUser
import VirtioRing
import VirtioWire

extension VhostDriver {
    /// A request as bytes: header, data for the device, room for its data, and a status; the status's place.
    package struct Request {
        package var chain = DescriptorChain()
        package var status = 0
        package var data = 0
        package init() {}
    }

    /// Lays a request out at page `page` of the data.
    package func request(
        _ kind: BlockRequestKind, sector: UInt64 = 0, page: Int = 0, give: [UInt8] = [], room: Int = 0, pieces: Int = 1
    ) -> Request {
        var request = Request()
        let place = Self.dataStart + page * SharedRegion.pageSize
        BlockRequestHeader(kind, sector: sector).store(region, at: place)
        request.chain.appendReadable(run(place, 16))
        request.data = place + 512
        if !give.isEmpty {
            region.write(give, at: request.data)
            for piece in cut(give.count, pieces) { request.chain.appendReadable(run(request.data + piece.0, piece.1)) }
        }
        for piece in cut(room, pieces) { request.chain.appendWritable(run(request.data + piece.0, piece.1)) }
        request.status = place + 16
        region.store(UInt8(0xFF), at: request.status)
        request.chain.appendWritable(run(request.status, 1))
        return request
    }

    private func cut(_ count: Int, _ pieces: Int) -> [(Int, Int)] {
        guard count > 0 else { return [] }
        let size = (count + pieces - 1) / pieces
        return stride(from: 0, to: count, by: size).map { ($0, min(size, count - $0)) }
    }

    /// Offers a request and kicks if that is wanted.
    @discardableResult
    package func offer(_ request: Request, on ring: Int = 0) throws -> ChainTicket {
        try offer(request.chain, on: ring)
    }

    /// Does a request; its status and how much was written.
    package func perform(_ request: Request, on ring: Int = 0) throws -> (status: UInt8, written: UInt32) {
        let ticket = try offer(request, on: ring)
        let used = try reap(on: ring)
        #expect(used.ticket == ticket)
        return (region.load(request.status), used.written)
    }
}
