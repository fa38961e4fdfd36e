// Users by name or number.

import LinuxSystem

package enum Accounts {
    /// A user's number.
    package static func user(_ text: String) throws(Failure) -> UInt32 {
        if let number = UInt32(text), number != .max { return number }
        guard let account = Account(named: text) else { throw .usage("--user: there is no user `\(text)`") }
        return account.user
    }

    /// Becomes that user, with its own groups, for good.
    package static func become(_ user: UInt32) throws(Failure) {
        do throws(Errno) { try Account(user: user).become() } catch { throw Failure("xen-run: becoming user \(user): \(error)") }
    }
}
