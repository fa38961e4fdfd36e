// What the mock peers share: how long they wait, and what they throw. They are for tests of drivers: each plays one
// side of a device and does what its caller says, well-formed or not. What stands between it and the driver is only
// what the driver checks.

import Glibc
import XenBus
import XenStore
import XenTypes

/// What a mock peer waited for in vain, or what came instead.
public struct MockPeerError: Error, CustomStringConvertible {
    /// In a few words, with the driver's own log if the peer knows it.
    public let description: String
    /// Not what was expected.
    public init(_ description: String) { self.description = description }
}

/// How long a mock peer waits for the driver under test, in milliseconds. On a real Xen everything takes longer.
public struct MockPeerPatience: Sendable {
    /// For the driver's next state.
    public var state: Int64
    /// For an answer, a request or a page.
    public var answer: Int64
    /// What a driver in the same process needs at most.
    public init(state: Int64 = 5000, answer: Int64 = 3000) {
        self.state = state
        self.answer = answer
    }
}

/// Asks until there is a value; nil if there is none in time.
func poll<T>(_ milliseconds: Int64, every microseconds: UInt32 = 20, _ next: () throws -> T?) rethrows -> T? {
    let deadline = ContinuousClock.now + .milliseconds(milliseconds)
    while true {
        if let value = try next() { return value }
        if ContinuousClock.now >= deadline { return nil }
        usleep(microseconds)
    }
}

extension StoreClient {
    /// Waits until the driver whose directory is `path` is in one of `states`.
    func waitForState(of path: String, in states: [XenbusState], milliseconds: Int64, driverLog: (() -> [String])?) throws {
        let seen: Bool? = try poll(milliseconds, every: 2000) { states.contains(try state(of: path)) ? true : nil }
        guard seen == nil else { return }
        let said = driverLog.map { "; the driver says: \($0())" } ?? ""
        throw MockPeerError("\(path) is in \(try state(of: path)), not in \(states)\(said)")
    }
}
