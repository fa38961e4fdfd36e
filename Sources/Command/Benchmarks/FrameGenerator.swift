// The sender of `bench network`: frames, as fast as an interface's queue takes them.

import CommandSupport
import Glibc
import LinuxSystem

package enum FrameGenerator {
    /// Sends on `interface` for so long.
    package static func run(on interface: String, byteCount: Int, seconds: Double) throws(Failure) {
        do throws(Errno) { try send(on: FrameSocket(interface: interface), byteCount, seconds) } catch {
            throw Failure("bench frames: \(interface): \(error)")
        }
    }

    private static func send(on socket: FrameSocket, _ byteCount: Int, _ seconds: Double) throws(Errno) {
        // To everybody, of a type that nobody knows: it ends where it arrives.
        let frame: [UInt8] =
            [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xB5] + Array(repeating: 0, count: max(0, byteCount - 14))
        let end = ContinuousClock.now + .milliseconds(Int(seconds * 1000))
        while ContinuousClock.now < end {
            do throws(Errno) {
                if try socket.send(frame, count: FrameSocket.mostFrames) < FrameSocket.mostFrames { usleep(50) }
            } catch {
                guard error == .noBufferSpace || error == .wouldBlock else { throw error }
                usleep(50)
            }
        }
    }
}
