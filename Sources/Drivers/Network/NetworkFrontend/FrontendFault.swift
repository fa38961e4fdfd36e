// What a backend did that it must not: the device is of no more use (Docs/attacks.md, section C).

import SharedRing

/// A backend that breaks the protocol.
struct FrontendFault: Error, Hashable, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
    init(_ error: RingError) { description = "\(error)" }
}
