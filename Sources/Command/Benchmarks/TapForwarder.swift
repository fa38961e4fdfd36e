// The least that two taps cost: one process that reads a frame from the one and writes it to the other, with no rings,
// no grants and nothing looked at. What a pair reaches beside this is what its protocol costs; what this reaches beside
// veth is what two taps cost.

import CommandSupport
import Glibc
import LinuxSystem
import NetworkDevices

/// The reference of `bench network` that has taps, too.
package enum TapForwarder {
    /// Copies frames both ways between the tap `near` here and the tap `far` in a namespace, into which this process
    /// moves, until it is killed.
    package static func run(near: String, far: String, namespace: String) throws {
        let here = try open(near)
        do throws(NamespaceError) { try NetworkNamespace.enter(namespace) } catch {
            throw Failure("--netns: \(namespace): \(error)")
        }
        let there = try open(far)
        do {
            let back = try WorkerThread(name: "forward") { forward(from: there, to: here) }
            forward(from: here, to: there)
            back.join()
        } catch { throw Failure("bench forward: a thread: \(error)") }
    }

    private static func open(_ name: String) throws(Failure) -> Descriptor {
        do throws(Errno) {
            let tap = try TapQueue.open(name).queue
            // Blank checksums and large frames of both versions, as the pair has them.
            try TapDevice.setOffloads([.checksum, .tcp4, .tcp6], of: tap)
            return tap
        } catch { throw Failure("bench forward: \(name): \(error)") }
    }

    /// Until one of them fails. Waits only where there is nothing to read, or no room.
    private static func forward(from source: Descriptor, to target: Descriptor) {
        var frame = [UInt8](repeating: 0, count: 10 + 65_536)
        while true {
            let count: Int
            do throws(Errno) { count = try source.read(into: &frame) } catch {
                guard error == .wouldBlock else { return }
                wait(source, POLLIN)
                continue
            }
            while true {
                do throws(Errno) { _ = try target.write(frame[..<count]) } catch {
                    guard error == .wouldBlock else { break }
                    wait(target, POLLOUT)
                    continue
                }
                break
            }
        }
    }

    private static func wait(_ tap: Descriptor, _ events: Int32) {
        var wanted = [pollfd(fd: tap.rawValue, events: Int16(events), revents: 0)]
        _ = try? waitForEvents(&wanted, milliseconds: -1)
    }
}
