// Dumps and the tables of domains, written by whoever wrote the input: any bytes as a file, any table in a good file
// against a model that takes entry after entry, and any frames as a domain's own p2m.

import DumpWriter
import FrameMapReaders
import FrameMaps
import FuzzSupport
import LinuxSystem

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(bytes, count)
    switch input.byte() % 3 {
    case 0: anyFile(input.take(max(0, count - 1)))
    case 1: anyTable(&input)
    default: anyFrames(&input)
    }
    return 0
}

/// What must hold of every table, however it came to be.
private func check(_ table: TableSnapshot) {
    require(table.map.audit().inconsistent.isEmpty, "a frame does not come back")
    require(table.usedCount <= table.entryCount, "\(table)")
    let shape = Contiguity(table.map)
    require(shape.classes.reduce(0) { $0 + $1.pages } == shape.pages && shape.pages <= table.usedCount, "\(shape)")
    require(TableDifference(table, table).count == 0, "a table differs from itself")
    for finding in table.findings.records { require(!finding.description.isEmpty, "a finding without words") }
}

private func anyFile(_ bytes: [UInt8]) {
    do throws(DumpError) {
        let dump = try CoreDump(MemorySource(bytes))
        check(dump.table)
        // Each page is there, or the file ends before it.
        var looked = 0
        dump.table.forEachPage { pfn, entry in
            looked += 1
            if looked > 64 { return }
            do throws(DumpError) {
                guard let page = try dump.contents(of: pfn) else { fatalError("\(pfn): in the table, not in the file") }
                require(page.count == 4096, "a page of \(page.count) bytes")
            } catch {
                require(error.description.contains(", offset 0x"), error.description)
            }
        }
        if let own = try? dump.guestTable(), let table = try? own.snapshot() { check(table) }
    } catch {
        require(error.description.contains(", offset 0x") && error.offset <= UInt64.max, error.description)
    }
}

/// Entries with numbers so small that they meet.
private func anyTable(_ input: inout ByteReader) {
    let kind: DumpWriter.Kind = input.byte() & 1 == 0 ? .paravirtual : .autoTranslated
    var entries: [(pfn: UInt64, frame: UInt64)?] = []
    while !input.isAtEnd, entries.count < 500 {
        let code = input.byte()
        switch code & 7 {
        case 0: entries.append(nil)
        case 1: entries.append((input.number(), input.number()))
        case 2...4:
            // As the last one, one on.
            let last = entries.last.flatMap { $0 } ?? (0, 0)
            entries.append((last.pfn &+ 1, last.frame &+ 1))
        default: entries.append((UInt64(input.byte()), UInt64(input.byte())))
        }
    }
    let writer = DumpWriter(kind, entries) { [UInt8](repeating: UInt8(truncatingIfNeeded: $0), count: 4096) }
    let dump: CoreDump
    do throws(DumpError) { dump = try CoreDump(MemorySource(writer.write().bytes)) } catch { fatalError("a good file: \(error)") }
    check(dump.table)

    // Entry after entry: the first for a pfn counts, and the first for a frame.
    let widest: UInt64 = 1 << 36
    var forward: [UInt64: (frame: UInt64, page: Int)] = [:]
    var backward: [UInt64: UInt64] = [:]
    for (page, entry) in entries.enumerated() {
        guard let entry else { continue }
        let frame = kind == .paravirtual ? entry.frame : entry.pfn
        guard entry.pfn < widest, frame < widest, forward[entry.pfn] == nil else { continue }
        forward[entry.pfn] = (frame, page)
        if backward[frame] == nil { backward[frame] = entry.pfn }
    }
    for (pfn, wanted) in forward {
        require(dump.table.translate(Pfn(rawValue: pfn))?.frame.rawValue == wanted.frame, "pfn \(pfn)")
        let contents = (try? dump.contents(of: Pfn(rawValue: pfn))) ?? nil
        require(contents?.first == UInt8(truncatingIfNeeded: wanted.page), "contents of \(pfn)")
    }
    for (frame, pfn) in backward {
        require(dump.table.pfn(of: BusFrame(rawValue: frame))?.pfn.rawValue == pfn, "frame \(frame)")
    }
    for number in 0..<300 as Range<UInt64> where forward[number] == nil {
        require(dump.table.translate(Pfn(rawValue: number)) == nil, "pfn \(number) is not there")
    }
}

/// Up to 16 frames with words anywhere, and a shared page that leads somewhere.
private struct Frames: MachineMemory {
    var frames: [UInt64: [UInt8]] = [:]
    func contents(of wanted: [Mfn]) throws(Errno) -> [[UInt8]?] { wanted.map { frames[$0.rawValue] } }
}

private func anyFrames(_ input: inout ByteReader) {
    let width = input.byte() & 1 == 0 ? 8 : 4
    var info = SharedInfo([UInt8](repeating: 0, count: 4096), width: width)
    info.entryCount = input.byte() & 1 == 0 ? UInt64(input.number(UInt16.self)) : input.number()
    if info.entryCount > 1 << 22 && info.entryCount <= GuestTable.mostEntries { info.entryCount %= 1 << 22 }
    info.frameListList = UInt64(input.byte() & 15)
    info.pageTables = UInt64(input.byte() & 15) << 12
    info.listAddress = (width == 8 ? 0xFFFF_C900_0000_0000 : 0xC000_0000) &+ input.number() << 12
    var memory = Frames()
    while !input.isAtEnd {
        let frame = UInt64(input.byte() & 15)
        let place = Int(input.number(UInt16.self)) % 512
        let count = Int(input.byte())
        var word = UInt64(input.byte() & 15)
        switch input.byte() & 3 {
        case 0: word = word << 12 | 0x63
        case 1: word |= input.number() << 48
        case 2: word = .max
        default: break
        }
        var page = memory.frames[frame] ?? [UInt8](repeating: 0, count: 4096)
        for index in place..<min(place + count + 1, 512) { page.put(word, at: index * 8) }
        memory.frames[frame] = page
    }
    do {
        let table = try GuestTable(info, in: memory)
        require(table.entryCount == info.entryCount, "\(table.entryCount) entries")
        check(try table.snapshot(frameLimit: 1 << 20))
    } catch let error as GuestTableError {
        require(!error.description.isEmpty, "an error without words")
    } catch { fatalError("\(error)") }
}
