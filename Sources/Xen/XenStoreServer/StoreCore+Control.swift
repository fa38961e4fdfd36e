// CONTROL: what `xenstore-control` asks. Only what makes sense for this server; any other command is EINVAL, as
// xenstored has it.

import XenStore
import XenTypes

extension StoreCore {
    func control(_ arguments: StoreArguments) throws(StoreErrorName) -> [UInt8] {
        let words = try arguments.all().map { String(decoding: $0, as: UTF8.self) }
        switch (words.first, words.count) {
        case ("help", _): return wireStrings(["check\nhelp\nprint <string>\nquota [<domid>]\n"])
        case ("check", 1):
            let faults = checkInvariants()
            return faults.isEmpty ? StoreCore.okay : wireStrings([String(faults.joined(separator: "\n").prefix(4000))])
        case ("print", 2): return StoreCore.okay
        case ("quota", 1): return wireStrings([limits.report])
        case ("quota", 2):
            guard let domain = DomainID(decimal: words[1]) else { throw .EINVAL }
            guard domains[domain] != nil else { throw .ENOENT }
            return wireStrings(["Domain \(domain): \(usage(of: domain))\n"])
        default: throw .EINVAL
        }
    }
}

extension StoreLimits {
    fileprivate var report: String {
        """
        nodes: \(nodes)
        watches: \(watches)
        transactions: \(transactions)
        node-size: \(nodeSize)
        permissions: \(permissions)
        transaction-nodes: \(transactionNodes)
        memory: \(memory)

        """
    }
}
