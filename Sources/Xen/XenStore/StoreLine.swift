// What a link's messages go over.

import LinuxSystem

/// A way to a store server and back.
package protocol StoreLine: AnyObject, Sendable {
    /// Begins to deliver what the server sends: to `deliver`, which is false when that was too much, until `end` says
    /// why there is no more. From any thread; neither is called after `close`.
    func open(
        deliver: @escaping @Sendable (StoreMessage) -> Bool, end: @escaping @Sendable (String) -> Void
    ) throws(StoreError)
    /// Sends a whole message.
    func send(_ bytes: [UInt8]) throws(Errno)
    /// Whether what the server sends is delivered by itself; else when `fetch` is called.
    var comesByItself: Bool { get }
    /// Delivers what there is, on the caller's thread.
    func fetch()
    /// Nothing more is sent or delivered.
    func close()
}

extension StoreLine {
    /// It does.
    package var comesByItself: Bool { true }
    /// There is nothing to fetch.
    package func fetch() {}
}
