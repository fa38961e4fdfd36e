// Who keeps a session for the case that this process is killed. A session is kept between messages only: nobody knows
// of one that was killed in the midst of a message how far the front end has heard of it, so that connection is let go
// and made anew by the front end.

/// Keeps one device's session beyond this process. Everything is called on the connection's thread.
public protocol VhostKeeper: Sendable {
    /// A front end has come, or has been gone on with.
    func began(_ session: VhostHandover)
    /// A message is about to be read: from here on the session is not what is kept.
    func willRead()
    /// What the message has made of the session; the front end has not been answered yet.
    func keep(_ session: VhostHandover)
    /// The message is done, answer and all: the session is what is kept.
    func didAnswer()
    /// The front end is gone.
    func ended()
}
