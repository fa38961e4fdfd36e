// An IO address space against what each of its pages must be.

import FrameMaps
import FuzzSupport

@testable import DMA

/// What should be so, page by page.
private struct SpaceModel {
    let limit: UInt64
    /// Frame and permissions by page.
    var links: [UInt64: (frame: UInt64, permissions: FramePermissions)] = [:]
    /// Pages of each reservation, by its first.
    var reservations: [UInt64: UInt64] = [:]

    func isRange(_ page: UInt64, _ pages: Int) -> Bool {
        pages > 0 && page < limit && UInt64(pages) <= limit - page
    }
}

/// 300, 4096 or 65536 pages, of which the first 256 are never reserved.
func anySpace(_ input: inout ByteReader) {
    let head = input.byte()
    let limit: UInt64 = [300, 4096, 1 << 16, 257][Int(head & 3)]
    let domain = made {
        try IommuDomain(
            device: "f", mode: head & 4 == 0 ? .strict : .deferred, mask: limit << 12 - 1, batchLimit: 1 + Int(head >> 4),
            tableLimit: 64)
    }
    domain.tracksDirty = head & 8 != 0
    var model = SpaceModel(limit: limit)
    for _ in 0..<200 where !input.isAtEnd { call(domain, &model, &input) }
    // All of it can be ended, and nothing is left.
    for page in model.links.keys { made { try domain.unlink(Iova(rawValue: page << 12), pages: 1) } }
    for (page, pages) in model.reservations { made { try domain.release(Iova(rawValue: page << 12), pages: Int(pages)) } }
    domain.flush()
    // The request that cannot be met looks for everything that could be given back.
    require((try? domain.reserve(pages: 1 << 40)) == nil, "more pages than there are")
    require(domain.freePages == Int(limit) - 256, "\(domain.freePages) of \(limit) pages are free")
    require(domain.tableByteCount == 0, "tables without links")
}

private func call(_ domain: IommuDomain, _ model: inout SpaceModel, _ input: inout ByteReader) {
    let code = input.byte()
    let page = input.page(model.limit)
    // Most often the start of a page.
    let iova = Iova(rawValue: page << 12 | (code & 0xE0 == 0xE0 ? 1 : 0))
    let pages = input.count()
    let isRange = model.isRange(iova.page, pages) && iova.offset == .zero
    switch code & 7 {
    case 0: reserve(domain, &model, pages)
    case 1, 2: link(domain, &model, iova, pages, isRange, &input)
    case 3:
        do throws(DMAError) {
            try domain.unlink(iova, pages: pages)
            require(isRange, "unlinked \(pages) at \(iova)")
            for page in iova.page..<iova.page + UInt64(pages) { model.links[page] = nil }
        } catch { require(!isRange || error == .tableMemory, "\(error)") }
    case 4: end(domain, &model, iova, pages, isRelease: code & 8 != 0)
    case 5:
        do throws(DMAError) {
            let dirty = try domain.takeDirty(iova, pages: pages)
            require(isRange && dirty.count == pages, "dirty: \(pages) at \(iova)")
        } catch { require(!isRange, "\(error)") }
    case 6:
        do throws(DMAError) {
            try domain.invalidate(iova, pages: pages)
            require(isRange, "forgot \(pages) at \(iova)")
        } catch { require(!isRange, "\(error)") }
        if code & 8 != 0 { domain.flush() }
    default:
        let found = domain.lookup(iova)
        let wanted = model.links[iova.page]
        require(found?.frame.rawValue == wanted?.frame, "at \(iova): \(String(describing: found))")
        require(found?.permissions == wanted?.permissions, "at \(iova): \(String(describing: found))")
        // What the IOTLB remembers of before may say otherwise.
        _ = domain.translate(iova, writes: code & 8 != 0)
    }
}

private func reserve(_ domain: IommuDomain, _ model: inout SpaceModel, _ pages: Int) {
    do throws(DMAError) {
        let iova = try domain.reserve(pages: pages)
        require(pages > 0 && iova.page >= 256 && iova.offset == .zero, "\(pages) pages at \(iova)")
        require(model.isRange(iova.page, pages), "\(pages) pages at \(iova), beyond the mask")
        let range = iova.page..<iova.page + UInt64(pages)
        for (start, count) in model.reservations {
            require(!range.overlaps(start..<start + count), "\(iova) is reserved already")
        }
        for page in range { require(model.links[page] == nil, "\(iova): linked at a fixed address") }
        model.reservations[iova.page] = UInt64(pages)
    } catch {
        switch error {
        case .badCount: require(pages < 1, "\(error)")
        case .noIova: require(pages > 0, "\(error)")
        default: fatalError("\(error)")
        }
    }
}

private func link(
    _ domain: IommuDomain, _ model: inout SpaceModel, _ iova: Iova, _ pages: Int, _ isRange: Bool, _ input: inout ByteReader
) {
    let frame = input.page(1 << 52)
    let permissions = FramePermissions(rawValue: input.byte())
    let isFrames = pages > 0 && frame < 1 << 52 && UInt64(pages) <= 1 << 52 - frame
    do throws(DMAError) {
        try domain.link(iova, to: BusFrame(rawValue: frame), pages: pages, permissions)
        require(isRange && isFrames, "linked \(pages) at \(iova) to \(frame)")
        for step in 0..<UInt64(pages) {
            require(model.links[iova.page + step] == nil, "\(iova): linked over another")
            model.links[iova.page + step] = (frame + step, FramePermissions(rawValue: permissions.rawValue & 3))
        }
    } catch {
        switch error {
        case .alreadyLinked(let taken): require(isRange && model.links[taken.page] != nil, "\(error)")
        case .tableMemory: require(isRange && isFrames, "\(error)")
        default: require(!isRange || !isFrames, "\(error)")
        }
    }
}

private func end(_ domain: IommuDomain, _ model: inout SpaceModel, _ iova: Iova, _ pages: Int, isRelease: Bool) {
    let known = iova.offset == .zero ? model.reservations[iova.page] : nil
    // Of so many pages, or of as many as its power of two has.
    let isKnown = known.map { pages > 0 && UnitAllocator.order(pages) == UnitAllocator.order(Int($0)) } ?? false
    do throws(DMAError) {
        if isRelease { try domain.release(iova, pages: pages) } else { try domain.free(iova, pages: pages) }
        require(isKnown, "ended \(pages) at \(iova)")
        model.reservations[iova.page] = nil
        if isRelease { for page in iova.page..<iova.page + UInt64(pages) { model.links[page] = nil } }
    } catch {
        if error == .tableMemory { return }
        require(!isKnown && error == .notReserved(iova, pages: pages), "\(error)")
    }
}
