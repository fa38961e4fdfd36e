// Permission entries as the wire has them: a letter and a domain's number in decimal (`r5`).

import XenTypes

extension StorePermission {
    /// Parses `r5`; nil for anything else, a reserved domain number included.
    public init?(wire: some StringProtocol) {
        guard let letter = wire.first, let access = Access(rawValue: letter) else { return nil }
        let digits = wire.dropFirst()
        guard let domain = DomainID(decimal: digits) else { return nil }
        self.init(access, domain)
    }

    /// The entry as it travels, such as `n0`.
    public var wire: String { "\(access.rawValue)\(domain)" }
}

extension StorePermission.Access {
    package var mayRead: Bool { self == .read || self == .both }
    package var mayWrite: Bool { self == .write || self == .both }
}

extension DomainID {
    /// A domain's number in decimal digits and nothing else; nil for a number that names no ordinary domain.
    package init?(decimal text: some StringProtocol) {
        guard !text.isEmpty, text.utf8.count <= 5, text.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }),
            let number = UInt16(text)
        else { return nil }
        self.init(number)
        guard isOrdinary else { return nil }
    }
}
