import BlockDevices
import Glibc
import LinuxSystem
import ScriptedDevices
import Synchronization
import TestSupport
import Testing

@testable import NBDServer

/// Clients that come, go, and do not behave.
@Suite(.serialized) struct NBDClientTests {
    @Test("thousands of options at once are answered, a few at a time")
    func manyOptions() throws {
        let rig = try NBDRig(byteCount: 1 << 20)
        let client = try rig.client()
        try client.send([0, 0, 0, 3] + (0..<4000).flatMap { _ in NBDClient.option(3, []) })
        for _ in 0..<4000 {
            let listed = try client.answer()
            let end = try client.answer()
            try #require(listed.kind == NBDOptionReply.server.rawValue && end.kind == NBDOptionReply.acknowledge.rawValue)
        }
        rig.stop()
    }

    @Test("a client that hangs up in the midst of its requests, or of a write's bytes, leaves nothing behind")
    func hangingUp() throws {
        let rig = try NBDRig(byteCount: 4 << 20)
        let stays = try rig.client()
        try stays.begin()
        let open = Descriptor.openCount
        for round in 0..<40 {
            let client = try rig.client()
            try client.begin()
            // Long ones, and such as are sent from the buffer's own pages.
            for place in 0..<8 { try client.ask(.read, at: UInt64(place) << 18, count: place < 4 ? 1 << 17 : 1 << 18) }
            if round % 2 == 0 {
                try client.send(NBDClient.request(1, cookie: 1, offset: 0, byteCount: 1 << 20) + [UInt8](repeating: 1, count: 5000))
            }
            if round % 3 == 0 { _ = try client.receive(100) }
            client.socket.shutDown()
            try #require(try stays.perform(.read, count: 4096).error == 0)
        }
        #expect(eventually(5000) { rig.server.clientCount == 1 && Descriptor.openCount == open })
        let census = rig.server.census()
        #expect(census.sessions == 1 && census.freePages == NBDServer.leastBufferPages && census.writes == 0 && census.flights == 0)
        // Its buffer is free: it has room for all that one client may ask for at once.
        for place in 0..<16 { try stays.ask(.read, at: UInt64(place) << 18, count: 1 << 18) }
        for _ in 0..<16 { #expect(try stays.reply { _ in 1 << 18 }.error == 0) }
        rig.stop()
    }

    @Test("a client that takes no answers, and one that sends half a write, keep nobody else waiting")
    func stalled() throws {
        let rig = try NBDRig(byteCount: 4 << 20)
        var stalled: [NBDClient] = []
        for round in 0..<NBDServer.mostClients - 1 {
            let client = try rig.client()
            try client.begin()
            if round % 2 == 0 {
                // Each as long as a client's share: what is read stays in the buffer until it is sent.
                for place in 0..<64 { try client.ask(.read, at: UInt64(place % 16) << 18, count: 1 << (round % 4 == 0 ? 17 : 18)) }
            } else {
                try client.ask(.write, count: 1 << 20, data: [UInt8](repeating: 0, count: 100))
            }
            stalled.append(client)
        }
        let good = try rig.client()
        try good.begin()
        let start = monotonicMilliseconds()
        for place in 0..<100 { try #require(try good.perform(.read, at: UInt64(place) * 4096, count: 4096).error == 0) }
        #expect(try good.perform(.read, count: 1 << 20).error == 0)
        #expect(monotonicMilliseconds() - start < 5000)
        for client in stalled { client.socket.shutDown() }
        rig.stop()
    }

    @Test("who comes when there is no room waits until somebody goes")
    func mostClients() throws {
        let rig = try NBDRig(byteCount: 1 << 20)
        var clients = try (0..<NBDServer.mostClients).map { _ in try rig.client() }
        for client in clients { try client.begin() }
        let waiting = try StreamSocket.connect(path: rig.socket)
        try waiting.setTimeout(SO_RCVTIMEO, seconds: 1)
        #expect(throws: Errno.wouldBlock) { try StreamSocket.receive(waiting.rawValue, capacity: 18, wait: true) }
        try clients.removeLast().ask(.disconnect)
        #expect(try StreamSocket.receive(waiting.rawValue, capacity: 18, wait: true) == NBDHandshake.greeting)
        rig.stop()
    }

    @Test("a client that chooses no export in time is sent away; one that has chosen may be silent")
    func silent() throws {
        let scratch = try TemporaryDirectory()
        let path = try scratch.file(byteCount: 1 << 20)
        let rig = try NBDRig({ () throws(DeviceError) in try FileDisk(path: path) }, handshakeSeconds: 1)
        let (mute, quiet) = (try rig.client(), try rig.client())
        try quiet.begin()
        #expect(try mute.isEnded())
        #expect(try quiet.perform(.read, count: 512).error == 0)
        rig.stop()
    }

    @Test("what no request begins with ends the connection, and so does a write that is too long")
    func nonsense() throws {
        let rig = try NBDRig(byteCount: 1 << 20)
        for bytes in [
            NBDClient.request(0, cookie: 1, offset: 0, byteCount: 512, magic: 7),
            NBDClient.request(1, cookie: 1, offset: 0, byteCount: .max),
        ] {
            let client = try rig.client()
            try client.begin()
            try client.send(bytes)
            #expect(try client.isEnded())
        }
        #expect(eventually { rig.server.clientCount == 0 })
        rig.stop()
    }

    @Test("a client that says goodbye gets the answers to what it asked before; so does one whose server ends")
    func goodbye() throws {
        for endsServer in [false, true] {
            let disk = ScriptedDisk()
            let rig = try NBDRig { () throws(DeviceError) in disk }
            let client = try rig.client()
            try client.begin()
            let cookies = try (0..<4).map { try client.ask(.read, at: UInt64($0) * 4096, count: 4096) }
            try #require(disk.wait(for: 4))
            let server = rig.server
            let ending = endsServer ? try WorkerThread(name: "ending") { server.stop(milliseconds: 5000) } : nil
            if !endsServer { try client.ask(.disconnect) }
            sleepMilliseconds(50)
            for index in 0..<4 { disk.end(index) }
            let answered = try (0..<4).map { _ in try client.reply { _ in 4096 }.cookie }
            #expect(Set(answered) == Set(cookies))
            #expect(try client.isEnded())
            ending?.join()
            rig.stop()
        }
    }
}
