// Who is served next when many want to be: each owner has a line of its clients, and each owner gets its share of a
// turn, however many clients it has (attacks.md E13).

/// Lines of clients that have something to be done, one for each owner.
///
/// A turn is: `join` whoever is ready; for each of `owners`, take `next` as long as the owner's share of the turn
/// lasts; who is left is first in the turn after.
package struct FairLines<Owner: Hashable & Sendable, Client: Hashable & Sendable>: Sendable {
    /// How long one owner is served in a turn, in nanoseconds; what is begun is finished, and one thing is always done.
    package static var share: UInt64 { 50_000 }

    private struct Line {
        var clients: [Client] = []
        var head = 0
    }
    private var lines: [Owner: Line] = [:]
    private var order: [Owner] = []
    private var places: [Client: Owner] = [:]

    /// Nobody waits.
    package init() {}

    /// Whether nobody waits.
    package var isEmpty: Bool { places.isEmpty }
    /// Those of whom somebody waits; who has come to wait last is last.
    package var owners: [Owner] { order }

    /// A client goes to the end of its owner's line, if it is in none.
    package mutating func join(_ client: Client, of owner: Owner) {
        guard places[client] == nil else { return }
        places[client] = owner
        if lines[owner] == nil { order.append(owner) }
        lines[owner, default: Line()].clients.append(client)
    }

    /// The first of an owner's line, who leaves it; nil: nobody is there.
    package mutating func next(of owner: Owner) -> Client? {
        guard let index = lines.index(forKey: owner) else { return nil }
        let client = lines.values[index].clients[lines.values[index].head]
        lines.values[index].head += 1
        places[client] = nil
        if lines.values[index].head == lines.values[index].clients.count { forget(owner) }
        return client
    }

    /// A client that is gone.
    package mutating func leave(_ client: Client) {
        guard let owner = places.removeValue(forKey: client), var line = lines[owner] else { return }
        line.clients.removeSubrange(..<line.head)
        line.head = 0
        line.clients.removeAll { $0 == client }
        lines[owner] = line
        if line.clients.isEmpty { forget(owner) }
    }

    private mutating func forget(_ owner: Owner) {
        lines[owner] = nil
        order.removeAll { $0 == owner }
    }
}
