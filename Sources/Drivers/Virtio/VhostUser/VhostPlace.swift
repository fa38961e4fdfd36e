// Where a device and its front ends meet, whichever of them listens, as whoever looks after the device sees it.

import LinuxSystem

/// A device's socket.
public protocol VhostPlace: AnyObject, Sendable {
    /// Where it is.
    var path: String { get }
    /// Ends the front end's connection, waits until its rings have stopped, and serves no other.
    func stop()
    /// The front end's connection, while it is served.
    var connection: VhostConnection? { get }
    /// Whether nothing is served until `resume`.
    var isHeld: Bool { get }
    /// What was put by; nil: nothing, or it is asked for and not done.
    var held: VhostHandover? { get }
    /// Stops serving, once what is in work has ended, without the front end's noticing, and waits so long at most;
    /// false: something is still in work, and it is put by once that has ended.
    func hold(milliseconds: Int, _ time: any TimeSource) -> Bool
    /// Goes on here.
    func resume() throws(Errno)
    /// Tells of each message in the log from now on, of later front ends too, or no more.
    func trace(_ isOn: Bool)
}

extension VhostServer: VhostPlace {}
extension VhostClient: VhostPlace {}
