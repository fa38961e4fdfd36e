// Debian's own tools against this server, by the environment variable that libxenstore knows. Where one is missing the
// test fails: that they work is the point.

import Foundation
import Testing
@testable import XenStore
@testable import XenStoreServer
import XenTypes

@Suite(.serialized, .timeLimit(.minutes(2))) final class StockToolsTests {
    let directory: String
    let server = StoreServer(time: .system)
    var socket: String { directory + "/xenstored.sock" }

    init() throws {
        directory = NSTemporaryDirectory() + "store-tools-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try server.listen(onPath: directory + "/xenstored.sock")
        try server.start()
    }

    deinit {
        server.stop()
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// Runs a command with XENSTORED_PATH set; what it printed and its exit status.
    @discardableResult
    func run(_ command: String...) throws -> (output: String, status: Int32) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
        process.arguments = ["60"] + command
        process.environment = ["XENSTORED_PATH": socket, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"]
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (String(decoding: data, as: UTF8.self), process.terminationStatus)
    }

    @Test func theSocketIsTheOwnersAlone() throws {
        let attributes = try FileManager.default.attributesOfItem(atPath: socket)
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        #expect(throws: StoreError.self) { try StoreServer(time: .system).listen(onPath: socket) }
        server.stop()
        #expect(!FileManager.default.fileExists(atPath: socket))
    }

    @Test func writeReadListRemoveExists() throws {
        #expect(try run("xenstore-write", "/vm/name", "demo", "/vm/uuid", "1234") == ("", 0))
        #expect(try run("xenstore-read", "/vm/name", "/vm/uuid") == ("demo\n1234\n", 0))
        #expect(try run("xenstore-read", "-p", "/vm/name") == ("/vm/name: demo\n", 0))
        #expect(try run("xenstore-list", "/vm") == ("name\nuuid\n", 0))
        #expect(try run("xenstore-list", "-p", "/vm") == ("/vm/name\n/vm/uuid\n", 0))
        #expect(try run("xenstore-exists", "/vm/name").status == 0)
        #expect(try run("xenstore-rm", "/vm/name") == ("", 0))
        #expect(try run("xenstore-exists", "/vm/name").status == 1)
        let missing = try run("xenstore-read", "/vm/name")
        #expect(missing.status == 1 && missing.output.contains("couldn't read path /vm/name"))
        #expect(try run("xenstore-read", "/bad//path").status == 1)
        #expect(server.checkInvariants() == [])
    }

    @Test func removeTidiesEmptyParents() throws {
        try run("xenstore-write", "/a/b/c", "x", "/a/d", "y")
        #expect(try run("xenstore-rm", "-t", "/a/b/c") == ("", 0))
        #expect(try run("xenstore-list", "/a") == ("d\n", 0))
    }

    @Test func lsInItsForms() throws {
        try run("xenstore-write", "/local/domain/5/device/vbd/51712/state", "4", "/local/domain/5/name", "guest")
        #expect(try run("xenstore-chmod", "/local/domain/5/name", "n0", "r5", "b7") == ("", 0))
        #expect(
            try run("xenstore-ls", "/local") == (
                """
                domain = ""
                 5 = ""
                  device = ""
                   vbd = ""
                    51712 = ""
                     state = "4"
                  name = "guest"

                """, 0
            ))
        #expect(
            try run("xenstore-ls", "-f", "-p", "/local/domain/5") == (
                """
                /local/domain/5/device = ""   (n0)
                /local/domain/5/device/vbd = ""   (n0)
                /local/domain/5/device/vbd/51712 = ""   (n0)
                /local/domain/5/device/vbd/51712/state = "4"   (n0)
                /local/domain/5/name = "guest"   (n0,r5,b7)

                """, 0
            ))
        #expect(try run("xenstore-ls").output.hasPrefix("tool = \"\"\n xenstored = \"\"\nlocal = \"\"\n"))
    }

    @Test func chmodRecursively() throws {
        try run("xenstore-write", "/r/a/b", "x")
        #expect(try run("xenstore-chmod", "-r", "/r", "n3", "r4").status == 0)
        let client = try StoreClient(socketPath: socket, time: .system)
        #expect(try client.permissions("/r/a/b").map(\.wire) == ["n3", "r4"])
        #expect(server.usage(of: DomainID(3)).nodes == 3)
    }

    @Test("xenstore-ls and -list on a list longer than a message use DIRECTORY_PART")
    func longLists() throws {
        let client = try StoreClient(socketPath: socket, time: .system)
        let names = (0..<500).map { "a-rather-long-name-\($0)" }
        for name in names { try client.write("/long/" + name, "v") }
        #expect(try run("xenstore-list", "/long") == (names.map { $0 + "\n" }.joined(), 0))
        #expect(try run("xenstore-ls", "/long") == (names.map { $0 + " = \"v\"\n" }.joined(), 0))
    }

    @Test func watchPrintsEachChange() throws {
        let output = try run(
            "sh", "-c",
            "xenstore-watch -n 3 /w > \"$0/log\" & while ! [ -s \"$0/log\" ]; do sleep 0.02; done; "
                + "xenstore-write /w/x 1; xenstore-rm /w/x; wait; cat \"$0/log\"", directory)
        #expect(output == ("/w\n/w/x\n/w/x\n", 0))
    }

    static let control = "/usr/lib/xen-4.17/bin/xenstore-control"

    @Test func control() throws {
        #expect(try run(Self.control, "check").status == 0)
        let help = try run(Self.control, "help")
        #expect(help.status == 0 && help.output.contains("quota"))
        #expect(try run(Self.control, "quota").output.contains("nodes"))
        #expect(try run(Self.control, "live-update").status != 0)
    }

    @Test func pyxs() throws {
        let script = """
            import os, pyxs
            with pyxs.Client(unix_socket_path=os.environ["XENSTORED_PATH"]) as c:
                c.write(b"/py/x", b"1")
                print(c.read(b"/py/x"), c.list(b"/py"), c.exists(b"/py/y"), c.get_perms(b"/py/x"))
                c.set_perms(b"/py/x", [b"n0", b"r9"])
                print(c.get_perms(b"/py/x"), c.get_domain_path(4), c.is_domain_introduced(4))
                c.transaction()
                c.write(b"/py/x", b"2")
                print(c.commit(), c.read(b"/py/x"))
                m = c.monitor()
                m.watch(b"/py", b"token")
                print(next(m.wait()))
                c.write(b"/py/z", b"3")
                print(next(m.wait()))
                m.unwatch(b"/py", b"token")
                try:
                    c.read(b"/none")
                except pyxs.PyXSError as e:
                    print(e)
                c.introduce_domain(12, 1, 2)
                print(c.is_domain_introduced(12))
                c.delete(b"/py")
                print(c.exists(b"/py"))
            """
        let result = try run("/usr/bin/python3", "-c", script)
        #expect(
            result == (
                """
                b'1' [b'x'] False [b'n0']
                [b'n0', b'r9'] b'/local/domain/4' False
                True b'2'
                Event(path=b'/py', token=b'token')
                Event(path=b'/py/z', token=b'token')
                (2, 'No such file or directory')
                True
                False

                """, 0
            ))
    }

    @Test func upstreamsTestXenstore() throws {
        let result = try run("/usr/lib/xen-4.17/bin/test-xenstore", "-i", "3")
        print(result)
        #expect(result.status == 0)
        #expect(!result.output.contains("failed"))
        let random = try run("/usr/lib/xen-4.17/bin/test-xenstore", "-r", "3")
        print(random)
        #expect(random.status == 0)
        #expect(server.checkInvariants() == [])
    }
}
