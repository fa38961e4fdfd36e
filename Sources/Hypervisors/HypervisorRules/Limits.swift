// What one domain may take, and what is taken.

/// Bounds for each domain. The defaults are Xen's where Xen has one.
public struct HypervisorLimits: Sendable, Hashable {
    /// Pages of the grant table, 512 entries each (`gnttab_max_frames`).
    public var tableFrames = 64
    /// Mappings that a domain may hold of its peers' grants (`gnttab_max_maptrack_frames` of 512); at most 524288.
    public var maptrack = 1024 * 512
    /// Event-channel ports.
    public var ports = 4096
    /// Runs of memory that a domain may have made.
    public var runs = 4096
    /// Pages in all the runs of a domain.
    public var pages = 131_072
    /// Pages in one run.
    public var pagesPerRun = 32_768
    /// Connections, of all a domain's processes.
    public var connections = 256
    /// What a daemon keeps open for a domain other than 0, in descriptors: two for a run, one for a port, two for a
    /// connection. One domain must not leave the others without.
    public var descriptors = 8192
    /// Files that the daemon may have open, which its domains share; nil: as many as the kernel lets this process have.
    public var openFiles: UInt64?
    /// Domains in all.
    public var domains = 4096
    /// Where machine frames are scattered to.
    public var machineSeed: UInt64 = 1

    /// The defaults.
    public init() {}
}

/// What is in use; back at its baseline once everything that was opened is closed.
public struct HypervisorUsage: Sendable, Hashable, CustomStringConvertible {
    /// Domains that exist.
    public var domains = 0
    /// Processes connected.
    public var connections = 0
    /// Entries of grant tables that permit access at this moment.
    public var grants = 0
    /// Mappings held (maptrack entries), those of foreign frames among them.
    public var mappings = 0
    /// Event-channel ports allocated.
    public var ports = 0
    /// Runs of shared memory.
    public var runs = 0
    /// Pages in them.
    public var pages = 0
    /// Runs given up by their owner and still mapped by a peer.
    public var deferred = 0
    /// Connections whose resources are still being released.
    public var dying = 0

    /// The defaults.
    public init() {}

    /// One line with every counter.
    public var description: String {
        """
        domains \(domains), connections \(connections), grants \(grants), mappings \(mappings), ports \(ports), runs \(runs), \
        pages \(pages), deferred \(deferred), dying \(dying)
        """
    }
}
