// A guest's end of the console ring (xen/io/console.h), for xenconsoled.

import LinuxSystem
import Loopback
import SharedMemory
import XenTypes

enum GuestConsole {
    private static let inputSize: UInt32 = 1024
    private static let outputSize: UInt32 = 2048
    // Offsets of `struct xencons_interface`: in, out, in_cons, in_prod, out_cons, out_prod.
    private static let (output, inputTaken, inputPut, outputTaken, outputPut) = (1024, 3072, 3076, 3080, 3084)

    /// Serves for ever.
    static func run(_ directory: String, _ domain: DomainID) throws(LinkFailure) {
        let link = try LoopbackLink(runDirectory: directory, domain: domain, time: .system)
        let share = try link.share(1, with: .zero, access: .readWrite)
        let port = try link.allocatePort(for: .zero)
        Probe.say("\(share.firstFrame) \(port.number)")
        let page = share.region
        put(Array("hello from the guest\n".utf8), page)
        while true {
            port.ring(hearing: link)
            _ = try? waitReadable(port.bell.rawValue, milliseconds: 1000)
            drainPipe(port.bell)
            put(take(page).map { (0x61...0x7A).contains($0) ? $0 - 32 : $0 }, page)
        }
    }

    private static func take(_ page: SharedRegion) -> [UInt8] {
        var bytes: [UInt8] = []
        var taken = page.loadAcquiring(inputTaken)
        let end = page.loadAcquiring(inputPut)
        while taken != end {
            bytes.append(page.load(Int(taken % inputSize), as: UInt8.self))
            taken &+= 1
        }
        page.storeReleasing(taken, at: inputTaken)
        return bytes
    }

    /// What there is no room for is dropped, as a guest's kernel does.
    private static func put(_ bytes: [UInt8], _ page: SharedRegion) {
        var next = page.loadAcquiring(outputPut)
        for byte in bytes where next &- page.loadAcquiring(outputTaken) < outputSize {
            page.store(byte, at: output + Int(next % outputSize))
            next &+= 1
        }
        page.storeReleasing(next, at: outputPut)
    }
}
