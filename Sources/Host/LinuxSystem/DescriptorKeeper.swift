// What outlives a process: descriptors that another one keeps, by name, and gives to the process that comes next.

/// The way to whoever keeps descriptors. Any thread.
public protocol DescriptorKeeper: AnyObject, Sendable {
    /// What is kept whose name begins with `prefix`, by the rest of the name. What is not taken up with `keep` before
    /// this process has begun to serve is kept no longer.
    func kept(_ prefix: String) -> [String: Descriptor]
    /// Keeps a descriptor from now on, or goes on keeping it. It outlives this process from the return on, even if that
    /// ends the moment after.
    /// - Parameter name: without control characters; what had it before is kept no longer.
    func keep(_ descriptor: Descriptor, as name: String) throws(Errno)
    /// Keeps what has this name no longer.
    func release(_ name: String)
}
