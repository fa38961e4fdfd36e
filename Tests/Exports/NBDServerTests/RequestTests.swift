import BlockDevices
import Foundation
import LinuxSystem
import ScriptedDevices
import Synchronization
import TestSupport
import Testing

@testable import NBDServer

/// Requests and their answers, through a whole pair.
@Suite(.serialized) struct NBDRequestTests {
    @Test(
        "what is written is read: any ranges, any lengths, in chunks and without, held against a slow model",
        arguments: [false, true])
    func model(structured: Bool) throws {
        let byteCount = 3 << 20
        let rig = try NBDRig(byteCount: UInt64(byteCount))
        let client = try rig.client()
        try client.begin(structured: structured)
        let pattern = (0..<byteCount + 251).map { UInt8(truncatingIfNeeded: $0 % 251) }
        var (random, model) = (SplitMix(structured ? 1 : 2), [UInt8](repeating: 0, count: byteCount))
        for round in 0..<150 {
            // One in eight is longer than a piece, and than the buffer's share.
            let most = round % 16 == 0 ? byteCount : round % 2 == 0 ? 5000 : 70_000
            let count = 1 + Int(random.next() % UInt64(most))
            var offset = Int(random.next() % UInt64(byteCount - count + 1))
            var length = count
            if round % 3 == 0 { (offset, length) = (offset / 512 * 512, max(512, length / 512 * 512)) }
            let flags: NBDCommandFlags = random.next() % 4 == 0 ? .durable : []
            switch random.next() % 8 {
            case 0...2:
                let data = Array(pattern[round % 251..<round % 251 + length])
                #expect(try client.perform(.write, flags: flags, at: UInt64(offset), count: length, data: data).error == 0)
                model.replaceSubrange(offset..<offset + length, with: data)
            case 3:
                #expect(try client.perform(.writeZeroes, flags: flags, at: UInt64(offset), count: length).error == 0)
                model.replaceSubrange(offset..<offset + length, with: repeatElement(0, count: length))
            case 4: #expect(try client.perform(.flush).error == 0)
            default:
                let answer = try client.perform(.read, at: UInt64(offset), count: length)
                try #require(answer.error == 0 && answer.data == Array(model[offset..<offset + length]), "\(round)")
            }
        }
        let whole = try client.perform(.read, at: 0, count: byteCount)
        #expect(whole.data == model)
        rig.stop()
    }

    @Test("parts of one sector written by two clients at the same time are both there")
    func neighbours() throws {
        let rig = try NBDRig(byteCount: 1 << 20)
        let (left, right) = (try rig.client(), try rig.client())
        try left.begin()
        try right.begin()
        for round in 0..<200 {
            let value = UInt8(truncatingIfNeeded: round + 1)
            for turn in 0..<4 {
                try left.ask(.write, at: UInt64(turn * 512), count: 100, data: [UInt8](repeating: value, count: 100))
                try right.ask(.write, at: UInt64(turn * 512 + 100), count: 100, data: [UInt8](repeating: ~value, count: 100))
            }
            for _ in 0..<4 {
                #expect(try left.reply().error == 0)
                #expect(try right.reply().error == 0)
            }
            for turn in 0..<4 {
                let data = try left.perform(.read, at: UInt64(turn * 512), count: 200).data
                try #require(data == [UInt8](repeating: value, count: 100) + [UInt8](repeating: ~value, count: 100), "\(round)")
            }
        }
        rig.stop()
    }

    @Test("what cannot be done is refused with its own number, and the connection goes on", arguments: [false, true])
    func refusals(structured: Bool) throws {
        let rig = try NBDRig(byteCount: 1 << 20)
        let client = try rig.client()
        try client.begin(structured: structured)
        let end: UInt64 = 1 << 20
        let cases: [(NBDCommand, NBDCommandFlags, UInt64, Int, NBDError)] = [
            (.read, [], end, 1, .invalid), (.read, [], end - 1, 2, .invalid), (.read, [], .max, 2, .invalid),
            (.read, [], 0, 0, .invalid),
            (.read, .fastZero, 0, 1, .invalid), (.read, [], 0, 33 << 20, .overflow), (.write, [], end - 1, 2, .noSpace),
            (.write, .noHole, 0, 600, .invalid), (.write, [], .max - 1, 4, .noSpace), (.trim, [], end, 1, .invalid),
            (.trim, .noHole, 0, 512, .invalid), (.writeZeroes, [], end, 512, .noSpace),
            (.writeZeroes, .fastZero, 0, 512, .unsupported),
            (.flush, [], 1, 0, .invalid), (.flush, [], 0, 1, .invalid),
        ]
        for (command, flags, offset, count, error) in cases {
            let data = command == .write ? [UInt8](repeating: 9, count: count) : []
            let answer = try client.perform(command, flags: flags, at: offset, count: count, data: data)
            #expect(answer.error == error.rawValue, "\(command) \(flags.rawValue) \(offset) \(count)")
        }
        // A command that nobody knows.
        try client.send(NBDClient.request(77, cookie: 5, offset: 0, byteCount: 0))
        let unknown = try client.reply()
        #expect(unknown.cookie == 5 && unknown.error == NBDError.invalid.rawValue)
        #expect(try client.perform(.read, at: 0, count: 1 << 20).data == [UInt8](repeating: 0, count: 1 << 20))
        rig.stop()
    }

    @Test("nothing is written to a disk that can only be read")
    func readOnly() throws {
        let rig = try NBDRig(byteCount: 1 << 20, access: "r")
        let client = try rig.client()
        try client.begin()
        for command in [NBDCommand.write, .trim, .writeZeroes] {
            let answer = try client.perform(command, count: 512, data: command == .write ? [UInt8](repeating: 1, count: 512) : [])
            #expect(answer.error == NBDError.notPermitted.rawValue, "\(command)")
        }
        #expect(try client.perform(.read, count: 512).error == 0)
        rig.stop()
    }

    @Test("a write that is to be durable is flushed before it is answered; one that failed is not")
    func durable() throws {
        let operations = Mutex<[String]>([])
        let fails = Atomic<Bool>(false)
        let rig = try NBDRig { () throws(DeviceError) in
            ScriptedDisk { operation in
                switch operation {
                case .write:
                    operations.withLock { $0.append("write") }
                    return fails.load(ordering: .relaxed) ? .failed(.ioError) : .done
                case .flush: operations.withLock { $0.append("flush") }
                default: operations.withLock { $0.append("other") }
                }
                return .done
            }
        }
        let client = try rig.client()
        try client.begin()
        let data = [UInt8](repeating: 1, count: 4096)
        #expect(try client.perform(.write, count: 4096, data: data).error == 0)
        #expect(operations.withLock { $0 } == ["write"])
        #expect(try client.perform(.write, flags: .durable, count: 4096, data: data).error == 0)
        #expect(operations.withLock { $0 } == ["write", "write", "flush"])
        fails.store(true, ordering: .relaxed)
        #expect(try client.perform(.write, flags: .durable, count: 4096, data: data).error == NBDError.io.rawValue)
        #expect(operations.withLock { $0 } == ["write", "write", "flush", "write"])
        rig.stop()
    }
}
