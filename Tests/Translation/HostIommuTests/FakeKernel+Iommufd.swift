// iommufd's half of the kernel: spaces of IO addresses, their areas, and devices that are attached to them.

import CLinux
import Glibc

extension FakeKernel {
    func allocate(_ bytes: UnsafeMutableRawPointer) -> Int {
        guard half(bytes, 4) == 0 else { return -Int(EOPNOTSUPP) }
        spaces[nextID] = Space()
        bytes.storeBytes(of: nextID, toByteOffset: 8, as: UInt32.self)
        nextID += 1
        return 0
    }

    func destroy(_ id: UInt32) -> Int {
        guard spaces[id] != nil else { return -Int(ENOENT) }
        if attachments.values.contains(id) { return -Int(EBUSY) }
        spaces[id] = nil
        return 0
    }

    private func usableRanges(_ space: Space) -> [ClosedRange<UInt64>] {
        var result: [ClosedRange<UInt64>] = [], next: UInt64 = 0
        for hole in space.reserved.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if hole.lowerBound > next { result.append(next...hole.lowerBound - 1) }
            if hole.upperBound == .max { return result }
            next = hole.upperBound + 1
        }
        return result + [next...UInt64.max]
    }

    func ranges(_ bytes: UnsafeMutableRawPointer) -> Int {
        guard let space = spaces[half(bytes, 4)] else { return -Int(ENOENT) }
        let all = usableRanges(space), room = Int(half(bytes, 8))
        bytes.storeBytes(of: 4096, toByteOffset: 24, as: UInt64.self)
        bytes.storeBytes(of: UInt32(all.count), toByteOffset: 8, as: UInt32.self)
        let list = UnsafeMutablePointer<UInt64>(bitPattern: UInt(word(bytes, 16)))!
        for (index, range) in all.prefix(room).enumerated() {
            list[index * 2] = range.lowerBound
            list[index * 2 + 1] = range.upperBound
        }
        return all.count > room ? -Int(EMSGSIZE) : 0
    }

    func allow(_ bytes: UnsafeMutableRawPointer) -> Int {
        let id = half(bytes, 4)
        guard let space = spaces[id] else { return -Int(ENOENT) }
        let list = UnsafeMutablePointer<UInt64>(bitPattern: UInt(word(bytes, 16)))
        var allowed: [ClosedRange<UInt64>] = []
        for index in 0..<Int(half(bytes, 8)) {
            let (start, last) = (list![index * 2], list![index * 2 + 1])
            guard start < last, !allowed.contains(where: { $0.overlaps(start...last) }) else { return -Int(EINVAL) }
            if space.reserved.contains(where: { $0.overlaps(start...last) }) { return -Int(EADDRINUSE) }
            allowed.append(start...last)
        }
        spaces[id]!.allowed = allowed
        return 0
    }

    /// The address for an area, or a negative errno.
    private func place(_ space: Space, _ flags: UInt32, _ wanted: UInt64, _ length: UInt64) -> (UInt64, Int) {
        guard length > 0, flags & ~7 == 0, flags & 6 != 0 else { return (0, -Int(EINVAL)) }
        if flags & 1 != 0 {
            let (last, overflow) = wanted.addingReportingOverflow(length - 1)
            if overflow { return (0, -Int(EOVERFLOW)) }
            if (wanted | length) & 4095 != 0 { return (0, -Int(EINVAL)) }
            if space.reserved.contains(where: { $0.overlaps(wanted...last) }) { return (0, -Int(EINVAL)) }
            if space.areas.contains(where: { $0.iova <= last && wanted < $0.end }) { return (0, -Int(EEXIST)) }
            return (wanted, 0)
        }
        // From the second page up, among what is allowed.
        for range in space.allowed.isEmpty ? usableRanges(space) : space.allowed {
            var start = max(range.lowerBound, 4096)
            while start <= range.upperBound, range.upperBound - start >= length - 1 {
                let last = start + (length - 1)
                let ends =
                    space.areas.filter { $0.iova <= last && start < $0.end }.map(\.end)
                    + space.reserved.filter { $0.overlaps(start...last) }.map { $0.upperBound &+ 1 }
                guard let next = ends.max() else { return (start, 0) }
                start = next
            }
        }
        return (0, -Int(ENOSPC))
    }

    func mapArea(_ bytes: UnsafeMutableRawPointer) -> Int {
        let (flags, id, address, length) = (half(bytes, 4), half(bytes, 8), word(bytes, 16), word(bytes, 24))
        guard let space = spaces[id] else { return -Int(ENOENT) }
        let (iova, error) = place(space, flags, word(bytes, 32), length)
        if error < 0 { return error }
        spaces[id]!.areas.append(Area(iova: iova, length: length, pages: Pages(address, length, flags & 2 != 0), flags: flags))
        if locked > lockLimit {
            spaces[id]!.areas.removeLast()
            return -Int(ENOMEM)
        }
        bytes.storeBytes(of: iova, toByteOffset: 32, as: UInt64.self)
        return 0
    }

    func copyArea(_ bytes: UnsafeMutableRawPointer) -> Int {
        let (flags, id, source) = (half(bytes, 4), half(bytes, 8), half(bytes, 12))
        let (length, from) = (word(bytes, 16), word(bytes, 32))
        guard let space = spaces[id], let other = spaces[source] else { return -Int(ENOENT) }
        guard let area = other.areas.first(where: { $0.iova == from && $0.length == length }) else { return -Int(ENOENT) }
        // Pages that were pinned for reading cannot be written through another mapping.
        if flags & 2 != 0 && !area.pages.isWritable { return -Int(EPERM) }
        let (iova, error) = place(space, flags, word(bytes, 24), length)
        if error < 0 { return error }
        spaces[id]!.areas.append(Area(iova: iova, length: length, pages: area.pages, flags: flags))
        bytes.storeBytes(of: iova, toByteOffset: 24, as: UInt64.self)
        return 0
    }

    func unmapAreas(_ bytes: UnsafeMutableRawPointer) -> Int {
        let (id, iova, length) = (half(bytes, 4), word(bytes, 8), word(bytes, 16))
        guard let space = spaces[id] else { return -Int(ENOENT) }
        if shortUnmaps > 0 {
            shortUnmaps -= 1
            bytes.storeBytes(of: 0, toByteOffset: 16, as: UInt64.self)
            return 0
        }
        let isAll = iova == 0 && length == .max
        let last = isAll ? UInt64.max : iova &+ (length &- 1)
        if length == 0 || last < iova { return -Int(EOVERFLOW) }
        let hit = space.areas.filter { $0.iova <= last && iova <= $0.iova + ($0.length - 1) }
        if hit.contains(where: { $0.iova < iova || $0.iova + ($0.length - 1) > last }) { return -Int(ENOENT) }
        if hit.isEmpty && !isAll { return -Int(ENOENT) }
        spaces[id]!.areas.removeAll { $0.iova <= last && iova <= $0.iova + ($0.length - 1) }
        bytes.storeBytes(of: hit.reduce(0) { $0 + $1.length }, toByteOffset: 16, as: UInt64.self)
        return 0
    }

    func option(_ bytes: UnsafeMutableRawPointer) -> Int {
        guard half(bytes, 4) == 0, half(bytes, 12) == 0 else { return -Int(EOPNOTSUPP) }
        if bytes.load(fromByteOffset: 8, as: UInt16.self) == 1 {
            bytes.storeBytes(of: byProcess ? 1 : 0, toByteOffset: 16, as: UInt64.self)
            return 0
        }
        if !maySetOptions { return -Int(EPERM) }
        if !spaces.isEmpty { return -Int(EBUSY) }
        guard word(bytes, 16) < 2 else { return -Int(EINVAL) }
        byProcess = word(bytes, 16) == 1
        return 0
    }

    func makeFaultQueue(_ bytes: UnsafeMutableRawPointer) -> Int {
        var pair: [Int32] = [0, 0]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0 else { return -Int(errno) }
        faultPeer = pair[1]
        bytes.storeBytes(of: nextID, toByteOffset: 8, as: UInt32.self)
        bytes.storeBytes(of: pair[0], toByteOffset: 12, as: Int32.self)
        nextID += 1
        return 0
    }

    func attach(_ device: Int32, _ bytes: UnsafeMutableRawPointer) -> Int {
        let id = half(bytes, 8)
        guard bound.contains(device), var space = spaces[id] else { return -Int(ENOENT) }
        // The gaps of what the device can use.
        var next: UInt64 = 0, holes: [ClosedRange<UInt64>] = []
        for range in usable {
            if range.lowerBound > next { holes.append(next...range.lowerBound - 1) }
            next = range.upperBound &+ 1
        }
        if next != 0 { holes.append(next...UInt64.max) }
        for hole in holes
        where (space.areas.contains { $0.iova <= hole.upperBound && hole.lowerBound < $0.end })
            || space.allowed.contains(where: { $0.overlaps(hole) })
        { return -Int(EADDRINUSE) }
        space.reserved += holes
        spaces[id] = space
        attachments[device] = id
        if locked > lockLimit {
            attachments[device] = nil
            return -Int(ENOMEM)
        }
        return 0
    }
}
