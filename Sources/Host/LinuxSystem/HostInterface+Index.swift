// An interface's number, which stays when it is renamed.

import Glibc

extension HostInterface {
    /// The number of the interface of this name in the calling thread's namespace; nil if there is none.
    public static func index(of name: String) -> UInt32? {
        // SAFETY: the name is only read.
        let index = unsafe if_nametoindex(name)
        return index == 0 ? nil : index
    }

    /// What the interface of this number is called now; nil if there is none.
    public static func name(of index: UInt32) -> String? {
        var bytes = [CChar](repeating: 0, count: Int(IF_NAMESIZE))
        // SAFETY: the call writes at most IF_NAMESIZE bytes, a NUL among them.
        guard unsafe if_indextoname(index, &bytes) != nil else { return nil }
        return String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
