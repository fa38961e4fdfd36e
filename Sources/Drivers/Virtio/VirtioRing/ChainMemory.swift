// Memory of which only what a chain names can be reached, as long as the device has the chain: grants, for one.

/// A driver's memory that comes and goes with its chains. Used by one thread.
public protocol ChainMemory: GuestMemory, AnyObject {
    /// Where the addresses are that settled chains have; another one after a chain is settled, or let go.
    var map: GuestMap { get }
    /// Whether `map` is another one than when this was last asked.
    func hasChanged() -> Bool
    /// A chain is given back; its memory is let go by `letGo`.
    func release(_ ticket: ChainTicket)
    /// Lets go what was given back: before the driver may see that.
    func letGo()
}
