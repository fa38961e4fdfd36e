import Foundation
import Testing
@testable import Toolstack
import XenStore
import XenStoreServer
import XenTypes

@Suite("Directories in a real store", .timeLimit(.minutes(1)))
struct LiveStoreTests {
    static let guest = DomainID(3)

    /// A store with domain 0's connection and a guest with its directories.
    static func makeStore() throws -> (server: StoreServer, store: StoreClient) {
        let server = StoreServer(time: .system)
        try server.start()
        server.introduceDomain(.zero)
        let store = try server.connectInProcess(domain: .zero)
        try DomainDirectories(store: store).createControlDomain()
        server.introduceDomain(guest)
        try DomainDirectories(store: store).create(guest, name: "guest", uuid: "guest")
        return (server, store)
    }

    static func attach(_ text: String, _ store: StoreClient) throws -> DevicePaths {
        try DeviceDirectories(store: store).create(.init(try DiskSpecification(parsing: text), frontend: guest))
    }

    @Test("domains are listed and found, and leave nothing behind")
    func domains() throws {
        let (server, store) = try Self.makeStore()
        defer { server.stop() }
        let domains = DomainDirectories(store: store)
        let before = server.usage()
        try domains.create(DomainID(4), name: "other", uuid: "other")
        #expect(try domains.list().map(\.name) == ["Domain-0", "guest", "other"])
        #expect(try domains.find("other") == DomainID(4) && domains.find("3") == Self.guest)
        #expect(throws: ToolstackError.noSuchDomain("nobody")) { try domains.find("nobody") }
        try domains.remove(DomainID(4))
        #expect("\(server.usage())" == "\(before)")
    }

    @Test("a device comes and goes, and every node with it")
    func comesAndGoes() throws {
        let (server, store) = try Self.makeStore()
        defer { server.stop() }
        let devices = DeviceDirectories(store: store)
        let before = "\(server.usage())"
        let paths = try Self.attach("/a,,xvda", store)
        #expect(throws: ToolstackError.deviceExists("xvda", domain: Self.guest)) { try Self.attach("/b,,xvda", store) }
        #expect(try devices.find(VirtualDevice("xvda").unsafelyUnwrapped, of: Self.guest).target == "/a")
        // A backend that failed leaves a text outside the device's directory; it must not outlive the device.
        try store.write("/local/domain/0/error/backend/vbd/3/51712/error", "2 /a: No such file")
        try devices.remove(paths, force: true, milliseconds: 1)
        #expect(try devices.list(of: Self.guest).isEmpty)
        #expect("\(server.usage())" == before)
    }

    @Test("removal waits for the backend's state 6, and for no longer than it is told")
    func removalWaits() throws {
        let (server, store) = try Self.makeStore()
        defer { server.stop() }
        let devices = DeviceDirectories(store: store)
        let paths = try Self.attach("/a,,xvda", store)
        do {
            try devices.remove(paths, milliseconds: 50)
            Issue.record("nobody closed the device")
        } catch .timedOut(let step, let seen, _) {
            #expect(step == "waiting for the backend to close")
            #expect(seen == "frontend 1 (Initialising), backend 5 (Closing)")
        }
        #expect(try devices.list(of: Self.guest).count == 1, "a device that does not close stays")
        let backend = try server.connectInProcess(domain: .zero)
        // A thread, not a task: the tests beside this one block the tasks' few threads.
        Thread.detachNewThread {
            Thread.sleep(forTimeInterval: 0.05)
            try? backend.write(paths.backendPath + "/state", "6")
        }
        let start = ContinuousClock.now
        try devices.remove(paths, milliseconds: 10_000)
        #expect(ContinuousClock.now - start < .seconds(5))
        #expect(try devices.list(of: Self.guest).isEmpty)
    }

    @Test("waiting for a connection names the step that hangs, and reports what a side says went wrong")
    func waiting() throws {
        let (server, store) = try Self.makeStore()
        defer { server.stop() }
        let devices = DeviceDirectories(store: store)
        let paths = try Self.attach("/a,,xvda", store)
        func failure() -> String {
            do {
                try devices.waitConnected(paths, milliseconds: 30)
                return "connected"
            } catch { return "\(error)" }
        }
        #expect(failure().hasPrefix("waiting for the backend to take up the device: not done after 30 ms (frontend 1"))
        try store.write(paths.backendPath + "/state", "2")
        #expect(failure().hasPrefix("waiting for the frontend to offer its rings"))
        try devices.waitServed(paths, milliseconds: 100)
        try store.write("/local/domain/0/error/backend/vbd/3/51712/error", "2 /a: \u{1B}No such file")
        try store.write(paths.backendPath + "/state", "5")
        #expect(failure() == "backend: /a: ?No such file")
        for path in [paths.backendPath, paths.frontendPath] { try store.write(path + "/state", "4") }
        #expect(failure() == "connected")
    }

    @Test("TS1: a guest changes nothing outside its own directory, and reads no other's")
    func permissions() throws {
        let (server, store) = try Self.makeStore()
        defer { server.stop() }
        let paths = try Self.attach("/secret,,xvda,r", store)
        server.introduceDomain(DomainID(4))
        let guest = try server.connectInProcess(domain: Self.guest)
        let stranger = try server.connectInProcess(domain: DomainID(4))
        for node in [
            paths.backendPath + "/mode", paths.backendPath + "/params", paths.backendPath + "/state",
            paths.backendPath + "/new",
            paths.recordPath + "/params", paths.recordPath + "/mode", "/local/domain/3/name", "/local/domain/3/vm",
            "/local/domain/0/name",
        ] {
            #expect(throws: StoreError.self, "\(node)") { try guest.write(node, "w") }
        }
        for path in [paths.backendPath, paths.recordPath, "/local/domain/3"] {
            #expect(throws: StoreError.self, "\(path)") { try guest.remove(path) }
        }
        #expect(try guest.read(paths.backendPath + "/mode") == "r", "a frontend reads its backend's directory")
        #expect(throws: StoreError.self) { try guest.read(paths.recordPath + "/mode") }
        try guest.write(paths.frontendPath + "/state", "3")
        for node in [paths.frontendPath + "/state", paths.backendPath + "/params", "/local/domain/3/name"] {
            #expect(throws: StoreError.self, "\(node)") { try stranger.read(node) }
        }
    }
}
