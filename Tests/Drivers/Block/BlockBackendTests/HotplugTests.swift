// Hot-plug scripts, and who removes what, as xl and driver domains have it.

@testable import BlockBackend
import BlockFrontend
import Foundation
import Testing
import TestSupport
import XenStore

@Suite("Hot-plug", .serialized, .timeLimit(.minutes(1))) struct HotplugTests {
    /// A pair whose device names a script before its backend sees it.
    private func pairWithScript() throws -> (BlockPair, RunningBackend) {
        let pair = try BlockPair(backendDomain: 3)
        pair.backend.stop()
        try pair.toolstack.store.write(pair.paths.backendPath + "/hotplug-status", "")
        try pair.toolstack.store.write(pair.paths.backendPath + "/script", "/etc/xen/scripts/block")
        try pair.toolstack.store.write(pair.paths.backendPath + "/state", "1")
        var options = BlockBackendOptions()
        options.waitsForScript = true
        return (pair, try RunningBackend(pair.host, domain: 3, options))
    }

    @Test("the offer comes before the script has run, the disk after; it is what the script names")
    func scriptNamesDevice() throws {
        let (pair, backend) = try pairWithScript()
        #expect(try eventually(5000) { try pair.node("state") == "2" })
        let other = pair.scratch.image("other.img", byteCount: 1 << 20)
        try pair.toolstack.store.write(pair.paths.backendPath + "/physical-device-path", other)
        try pair.toolstack.store.write(pair.paths.backendPath + "/hotplug-status", "connected")
        let frontend = try pair.connect()
        #expect(frontend.properties?.sectors == 2048)
        frontend.close()
        backend.stop()
    }

    @Test("a script that only says connected leaves params to us")
    func scriptNamesNothing() throws {
        let (pair, backend) = try pairWithScript()
        try pair.toolstack.store.write(pair.paths.backendPath + "/hotplug-status", "connected")
        let frontend = try pair.connect()
        #expect(frontend.properties?.sectors == 8192)
        frontend.close()
        backend.stop()
    }

    @Test(
        "numbers of a device are hexadecimal and two",
        arguments: ["7", "7:", ":0", "7:0:0", "g:0", "-7:0", "1234567:0", ""])
    func badNumbers(text: String) { #expect(DeviceNumbers(text) == nil) }

    @Test("a device's numbers") func numbers() throws {
        let numbers = try #require(DeviceNumbers("ca:10"))
        #expect(numbers.major == 0xCA && numbers.minor == 0x10)
    }

    @Test("in a driver domain the closed device's directory goes, its parent stays", arguments: [true, false])
    func removal(removes: Bool) throws {
        var options = BlockBackendOptions()
        options.removesDirectories = removes
        let pair = try BlockPair(backendOptions: options, backendDomain: 3)
        let frontend = try pair.connect()
        frontend.close()
        let store = pair.toolstack.store
        // At once, as xl does: an offline directory may be gone before the next word.
        try store.transaction { (transaction) throws(StoreError) in
            try transaction.write(pair.paths.backendPath + "/online", "0")
            try transaction.write(pair.paths.backendPath + "/state", "5")
        }
        #expect(try eventually(5000) { try pair.node("state") == (removes ? nil : "6") })
        if removes { #expect(try store.exists(String(pair.paths.backendPath.dropLast("/51712".count)))) }
        pair.backend.stop()
    }
}
