import Testing
@testable import Toolstack
import XenTypes

@Suite("A disk's directories")
struct DeviceDirectoriesTests {
    typealias Attachment = DeviceDirectories.Attachment

    static func attach(_ text: String, to store: MemoryStore, frontend: UInt16 = 3, backend: UInt16 = 0) throws
        -> DevicePaths
    {
        let attachment = Attachment(
            try DiskSpecification(parsing: text), frontend: DomainID(frontend), backend: DomainID(backend))
        let paths = try DeviceDirectories.paths(for: attachment)
        #expect(try DeviceDirectories.write(attachment, at: paths, in: store))
        return paths
    }

    static func nodes(_ path: String, in store: MemoryStore) throws -> [String: String] {
        Dictionary(uniqueKeysWithValues: try store.directory(path).map { ($0, store.values["\(path)/\($0)"] ?? "") })
    }

    @Test("libxl's keys on both sides, at state 1")
    func keys() throws {
        let store = MemoryStore()
        let paths = try Self.attach("/dev/vg/v,,xvda,w,direct-io-safe", to: store)
        let frontend = "/local/domain/3/device/vbd/51712"
        let backend = "/local/domain/0/backend/vbd/3/51712"
        #expect(paths.frontendPath == frontend && paths.backendPath == backend)
        #expect(
            try Self.nodes(frontend, in: store) == [
                "backend": backend, "backend-id": "0", "state": "1", "virtual-device": "51712", "device-type": "disk",
                "trusted": "1",
            ])
        let expected = [
            "frontend": frontend, "params": "/dev/vg/v", "script": "/etc/xen/scripts/block", "frontend-id": "3",
            "online": "1",
            "removable": "0", "bootable": "1", "state": "1", "dev": "xvda", "type": "phy", "mode": "w",
            "device-type": "disk",
            "direct-io-safe": "1", "discard-enable": "1", "specification": "xen",
        ]
        #expect(try Self.nodes(backend, in: store) == expected)
        var record = expected
        record["backend"] = backend
        #expect(try Self.nodes("/libxl/3/device/vbd/51712", in: store) == record)
        #expect(store.permissionLists[frontend] == [.init(.none, DomainID(3)), .init(.read, .zero)])
        #expect(store.permissionLists[backend] == [.init(.none, .zero), .init(.read, DomainID(3))])
    }

    @Test(
        "TS4: mode=r survives on the way to the backend, for each kind of target",
        arguments: [
            "/a.img,,xvda,r", "nbd+unix:///?socket=/x,,xvda,r", "null:1M,,xvda,ro", "/a.iso,,hdc,cdrom",
            "/a.iso,,hdc,rw,cdrom",
        ])
    func readOnly(_ text: String) throws {
        let store = MemoryStore()
        let paths = try Self.attach(text, to: store)
        #expect(store.values[paths.backendPath + "/mode"] == "r")
        #expect(store.values[paths.recordPath + "/mode"] == "r")
        #expect(store.values[paths.backendPath + "/discard-enable"] == "0")
    }

    @Test("mode=w! goes to the backend, which then asks nobody")
    func sharedAccess() throws {
        let store = MemoryStore()
        let paths = try Self.attach("/a.img,,xvda,w!", to: store)
        #expect(store.values[paths.backendPath + "/mode"] == "w!")
    }

    @Test("backendtype decides the kind and the form of params")
    func kinds() throws {
        let store = MemoryStore()
        let tap = try Self.attach("/a,vhd,xvda,backendtype=tap", to: store)
        #expect(tap.backendPath == "/local/domain/0/backend/vbd3/3/51712")
        #expect(store.values[tap.backendPath + "/params"] == "vhd:/a")
        #expect(store.values[tap.backendPath + "/type"] == "vbd3")
        let qdisk = try Self.attach("/a,,xvdb,backendtype=qdisk", to: store)
        #expect(store.values[qdisk.backendPath + "/params"] == "aio:/a")
        #expect(store.values[qdisk.backendPath + "/script"] == nil)
        for text in ["/a,,xvdc,backendtype=standalone", "/a,,xvdc,specification=virtio"] {
            #expect(throws: ToolstackError.self) { try Self.attach(text, to: store) }
        }
    }

    @Test("attaching twice changes nothing")
    func twice() throws {
        let store = MemoryStore()
        let paths = try Self.attach("/a,,xvda", to: store)
        let before = store.values
        let second = Attachment(try DiskSpecification(parsing: "/b,,xvda"), frontend: DomainID(3))
        #expect(try DeviceDirectories.write(second, at: paths, in: store) == false)
        #expect(store.values == before)
    }

    @Test("removal asks by online and state, leaves a closed state alone, and clears empty parents only")
    func removal() throws {
        let store = MemoryStore()
        try DomainDirectories.write(DomainID(3), name: "guest", uuid: "u", in: store)
        let baseline = store.values
        let first = try Self.attach("/a,,xvda", to: store)
        let second = try Self.attach("/b,,xvdb", to: store)
        #expect(try DeviceDirectories.requestClosing(first, force: false, in: store))
        #expect(store.values[first.backendPath + "/online"] == "0" && store.values[first.backendPath + "/state"] == "5")
        try store.write(second.backendPath + "/state", "6")
        #expect(try DeviceDirectories.requestClosing(second, force: true, in: store))
        #expect(store.values[second.backendPath + "/state"] == "6")
        #expect(store.values[second.frontendPath] == nil, "force removes the frontend's directory at once")
        for path in [first.frontendPath, first.recordPath, first.backendPath] {
            try DeviceDirectories.cleanUp(path, in: store)
        }
        #expect(store.values[second.backendPath] != nil && store.values["/local/domain/3/device/vbd"] == nil)
        for path in [second.frontendPath, second.recordPath, second.backendPath] {
            try DeviceDirectories.cleanUp(path, in: store)
        }
        // The backend's domain had no directory of its own here, and keeps the one it was given.
        #expect(store.values.filter { !$0.key.hasPrefix("/local/domain/0") } == baseline)
        #expect(try DeviceDirectories.requestClosing(first, force: false, in: store) == false)
    }

    @Test("TS2, TS3: the list comes from the toolstack's record, whatever guest and driver domain wrote")
    func lyingDirectories() throws {
        let store = MemoryStore()
        let paths = try Self.attach("/secret,,xvda,r", to: store)
        try store.write(paths.frontendPath + "/backend", "/local/domain/0/backend/vbd/9/51712")
        try store.write(paths.frontendPath + "/state", "\u{1B}[2J")
        try store.write(paths.frontendPath + "/ring-ref", "99999999999999999999")
        try store.write(paths.frontendPath + "/event-channel", "-5")
        try store.write(paths.backendPath + "/params", String(repeating: "x", count: 4000))
        try store.write("/libxl/3/device/vbd/notanumber", "")
        try store.write("/libxl/3/device/vbd/7/backend", "/local/domain/0/backend/vbd/9/7")
        let list = try DeviceDirectories.list(of: DomainID(3), in: store)
        #expect(list.count == 1)
        let row = try #require(list.first)
        #expect(row.target == "/secret" && row.paths == paths && row.state == -1 && row.ringReference == -1)
        #expect(row.eventChannel == -1)
        #expect(row.row.hasPrefix("51712 0   3      -1    -1     -1       /local/domain/0/backend/vbd/3/51712"))
        #expect(try DeviceDirectories.list(of: DomainID(4), in: store).isEmpty)
    }

    @Test("the listing finds the first ring of a device with several queues")
    func severalQueues() throws {
        let store = MemoryStore()
        let paths = try Self.attach("/a,,xvda", to: store)
        for (key, value) in [
            ("multi-queue-num-queues", "2"), ("queue-0/ring-ref0", "8"), ("queue-0/event-channel", "5"), ("state", "4"),
        ] {
            try store.write("\(paths.frontendPath)/\(key)", value)
        }
        let row = try #require(try DeviceDirectories.list(of: DomainID(3), in: store).first)
        #expect(row.state == 4 && row.eventChannel == 5 && row.ringReference == 8)
    }

    @Test("a missing step has a name")
    func missingSteps() {
        func step(_ front: XenbusState?, _ back: XenbusState?) -> String {
            DeviceDirectories.Progress(frontend: front, backend: back).missingStep
        }
        #expect(step(.initialising, .initialising) == "the backend to take up the device")
        #expect(step(.initialising, .initWait) == "the frontend to offer its rings")
        #expect(step(.initialised, .initWait) == "the backend to map the frontend's rings")
        #expect(step(.initialised, .connected) == "the frontend to connect")
        #expect(
            "\(DeviceDirectories.Progress(frontend: .initWait, backend: nil))" == "frontend 2 (InitWait), backend gone")
    }
}
