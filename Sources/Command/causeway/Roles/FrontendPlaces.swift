// Where front ends and a device meet: made anew, or gone on with where a predecessor has left it.

import CommandSupport
import LinuxSystem
import VhostUser

/// How one process's devices are served over vhost-user.
struct FrontendPlaces: Sendable {
    /// Whom messages name.
    let user: String
    /// See `VhostSession`.
    var trustsMemory = false

    private var log: @Sendable (String) -> Void {
        let user = user
        return { line in note("\(user): \(line)") }
    }

    /// Goes to whoever listens at a path.
    func client(of device: any VhostDevice, at path: String) throws(Failure) -> VhostClient {
        do throws(Errno) { return try VhostClient(path: path, device, trustsMemory: trustsMemory, log: log) } catch {
            throw failure(path, error)
        }
    }

    /// Serves whoever is at the other end of a socket.
    /// - Parameters:
    ///   - path: what messages name it.
    ///   - ended: called once he has gone; from a thread of the device's.
    func client(
        of device: any VhostDevice, by socket: Descriptor, _ path: String, ended: @escaping @Sendable () -> Void
    ) throws(Failure) -> VhostClient {
        do throws(Errno) {
            return try VhostClient(
                path: path, connected: socket, device, trustsMemory: trustsMemory, ended: ended, log: log)
        } catch { throw failure(path, error) }
    }

    /// Serves whoever comes to a socket that listens already.
    /// - Parameter path: what messages name it.
    func listen(_ device: any VhostDevice, by listener: Descriptor, _ path: String) throws(Failure) -> VhostServer {
        do throws(Errno) {
            return try VhostServer(
                path: path, listener: listener, device, trustsMemory: trustsMemory, resuming: nil, log: log)
        } catch { throw failure(path, error) }
    }

    /// Listens for a device's front ends.
    /// - Parameter kept: what keeps it for the next process, if something does.
    func listen(_ device: any VhostDevice, at path: String, _ kept: KeptDevice?) throws(Failure) -> VhostServer {
        do throws(Errno) {
            let server = try VhostServer(path: path, device, trustsMemory: trustsMemory, keeper: kept, log: log)
            kept?.listens(server.listener)
            return server
        } catch { throw failure(path, error) }
    }

    /// Goes on where a predecessor listened, with its front end if that can be. What cannot be had is said, and its
    /// front end is left to find out: the others' go on.
    /// - Parameters:
    ///   - kept: what keeps it for the next process, if something does.
    ///   - isShared: whether another driver may be about to go on with the device: what a predecessor had open of it is
    ///     left to that one.
    ///   - began: called once its front end is served, or cannot be. From any thread.
    /// - Returns: the server, and whether it has gone on with a front end.
    func resume(
        _ device: any VhostDevice, _ left: LeftDevice, _ kept: KeptDevice?, isShared: Bool = false,
        began: @escaping @Sendable () -> Void
    ) throws(Failure) -> (server: VhostServer, hasFrontend: Bool) {
        let listener = try listener(left)
        var handover: VhostHandover?
        switch left.session {
        case .none: break
        case .whole(let session): handover = session
        case .lost(let reason): complain("\(user): \(left.name): \(reason)")
        }
        kept?.listens(listener)
        if handover == nil {
            if case .lost = left.session {
                // What the predecessor held for a front end that cannot be gone on with is let go.
                device.take([])
                device.resumed()
            } else if !isShared {
                device.resumed()
            }
            kept?.ended()
        }
        do throws(Errno) {
            let server = try VhostServer(
                path: left.path, listener: listener, device, trustsMemory: trustsMemory, keeper: kept, resuming: handover,
                began: began, log: log)
            return (server, handover != nil)
        } catch { throw Failure("\(user): \(left.path): \(error)") }
    }

    /// Where a predecessor listened. One that has ended in good order has taken the place away.
    private func listener(_ left: LeftDevice) throws(Failure) -> Descriptor {
        if let listener = left.listener, ExportPlace.isInherited(left.path) || FileSystem.isSocket(left.path) { return listener }
        do throws(Errno) { return try StreamSocket.listen(path: left.path, backlog: 16, blocks: true) } catch {
            throw Failure("\(user): \(left.name): \(left.path): \(error)")
        }
    }

    private func failure(_ path: String, _ error: Errno) -> Failure {
        Failure("\(user): \(path): \(error == .addressInUse ? "somebody listens there already" : "\(error)")")
    }
}
