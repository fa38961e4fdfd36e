// Records through shared memory: what goes in comes out, a full ring refuses, and neither side can lead the other
// astray.

import Glibc
import LinuxSystem
import Synchronization
import TestSupport
import Testing

@testable import SharedMemory

/// Ends as objects: macros copy what they look at, and an end cannot be copied.
private final class Writer {
    private var end: RecordWriter
    init(_ region: SharedRegion) { end = RecordWriter(region) }
    var longest: Int { end.longest }
    func reserve(_ count: Int) -> Int? { end.reserve(count) }
    func commit() { end.commit() }
    func lose() { end.lose() }
    func takeReaderRequest() -> Bool { end.takeReaderRequest() }
    func requestRoom() { end.requestRoom() }
    func hasRoom(records: Int, byteCount: Int) -> Bool { end.hasRoom(records: records, byteCount: byteCount) }
}

private final class Reader {
    private var end: RecordReader
    init(_ region: SharedRegion) { end = RecordReader(region) }
    var isBroken: Bool { end.isBroken }
    var hasEnded: Bool { end.hasEnded }
    var lost: UInt32 { end.lost }
    func next() -> (offset: Int, byteCount: Int)? { end.next() }
    func release() { end.release() }
    func discardAll() { end.discardAll() }
    func requestRecords() -> Bool { end.requestRecords() }
    func takeWriterRequest() -> Bool { end.takeWriterRequest() }
}

@Suite struct RecordRingTests {
    private static func region(_ capacity: Int = 1 << 16) throws -> SharedRegion {
        try SharedRegion(anonymous: RecordRing.byteCount(capacity: capacity))
    }

    private static func record(_ number: Int, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ number) }
    }

    @Test func recordsOfEverySizeComeOutAsTheyWentIn() throws {
        let region = try Self.region()
        let writer = Writer(region)
        let reader = Reader(region)
        var random = SystemRandomNumberGenerator()
        var waiting: [(number: Int, count: Int)] = []
        var refused = 0
        for number in 0..<1500 {
            let count = Int.random(in: 0...(number % 3 == 0 ? 20_000 : 300), using: &random)
            if let offset = writer.reserve(count) {
                region.write(Self.record(number, count), at: offset)
                writer.commit()
                waiting.append((number, count))
            } else {
                refused += 1
            }
            while !waiting.isEmpty, refused % 5 != 0 || Bool.random(using: &random) {
                let (number, count) = waiting.removeFirst()
                let found = try #require(reader.next())
                #expect(found.byteCount == count)
                expectSame(region.bytes(at: found.offset, count: count), Self.record(number, count))
                reader.release()
                if refused % 5 != 0 { refused += 1 }
            }
            if writer.reserve(writer.longest) == nil { refused += waiting.isEmpty ? 0 : 1 }
        }
        #expect(!reader.isBroken)
        #expect(writer.reserve(writer.longest + 1) == nil)
    }

    @Test func anEmptyRingTakesTheLongestWhereverItsEndIs() throws {
        let region = try Self.region(4096)
        let writer = Writer(region)
        let reader = Reader(region)
        for count in 0..<3000 {
            for length in [count % 200, writer.longest] {
                #expect(writer.reserve(length) != nil, "\(length) bytes after \(count)")
                writer.commit()
                #expect(reader.next()?.byteCount == length)
                reader.release()
            }
        }
    }

    @Test(.timeLimit(.minutes(1))) func twoThreads() throws {
        let region = try Self.region(1 << 14)
        let total = 4000
        let thread = try WorkerThread(name: "writer") {
            let writer = Writer(region)
            var number = 0
            while number < total {
                let count = number % 977
                guard let offset = writer.reserve(count + 8) else {
                    sched_yield()
                    continue
                }
                region.store(UInt64(number), at: offset)
                region.fill(offset + 8, count: count, with: UInt8(truncatingIfNeeded: number))
                writer.commit()
                number += 1
            }
            RecordWriter.end(region)
        }
        let reader = Reader(region)
        var number = 0
        while number < total {
            guard let (offset, count) = reader.next() else {
                if reader.isBroken { break }
                sched_yield()
                continue
            }
            let seen: UInt64 = region.load(offset)
            guard seen == number, count == number % 977 + 8,
                region.bytes(at: offset + 8, count: count - 8).allSatisfy({ $0 == UInt8(truncatingIfNeeded: number) })
            else {
                Issue.record("record \(seen) of \(count) bytes in place \(number)")
                break
            }
            reader.release()
            number += 1
        }
        thread.join()
        #expect(reader.hasEnded && !reader.isBroken)
    }

    @Test func requestsAreAnsweredOnce() throws {
        let region = try Self.region(4096)
        let writer = Writer(region)
        let reader = Reader(region)
        let early = writer.takeReaderRequest()
        #expect(!early)
        let isThere = reader.requestRecords()
        #expect(!isThere)
        #expect(writer.reserve(1500) != nil)
        writer.commit()
        let (first, second) = (writer.takeReaderRequest(), writer.takeReaderRequest())
        #expect(first && !second)
        let isThereNow = reader.requestRecords()
        #expect(isThereNow)
        #expect(writer.reserve(1500) != nil)
        writer.commit()
        #expect(writer.reserve(1500) == nil)
        writer.requestRoom()
        let tooEarly = reader.takeWriterRequest()
        #expect(!tooEarly, "more than half is still full")
        _ = reader.next()
        reader.release()
        let (granted, again) = (reader.takeWriterRequest(), reader.takeWriterRequest())
        #expect(granted && !again)
    }

    /// A reader who lies about how far it is: the writer refuses and goes on.
    @Test(arguments: [1, 4096, 1 << 20, UInt32.max]) func aReaderThatLies(_ lie: UInt32) throws {
        let region = try Self.region(4096)
        let writer = Writer(region)
        for _ in 0..<100 {
            region.storeRelaxed(lie, at: RecordRing.consumed)
            if writer.reserve(100) != nil { writer.commit() }
            writer.lose()
            _ = writer.hasRoom(records: 3, byteCount: 100)
        }
        let honest = Reader(region)
        #expect(honest.lost == 100)
        _ = honest.next()
    }

    /// A writer whose counters or lengths make no sense: nothing is read, and nothing is touched outside.
    @Test func aWriterThatLies() throws {
        for (produced, length) in [
            (UInt32(12), UInt32(4)), (4104, 8), (.max, 8), (16, 100), (16, 4000), (16, .max), (8, .max), (4096, .max),
            (64, 1 << 31),
        ] {
            let region = try Self.region(4096)
            region.store(length, at: RecordRing.start)
            region.storeRelaxed(produced, at: RecordRing.produced)
            let reader = Reader(region)
            #expect(reader.next() == nil)
            #expect(reader.isBroken, "\(produced), \(length)")
            reader.discardAll()
        }
    }
}
