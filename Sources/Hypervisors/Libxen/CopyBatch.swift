// A batch of grant copies: what is wrong is never sent, what is paged out is asked for again, a bounded number of
// times.

import Hypervisor
import XenTypes

/// What happens to a batch around the hypercall itself.
enum CopyBatch {
    /// Rounds for a page that Xen has paged out (`GNTST_eagain`). The kernel has waited before each: what is still out
    /// stays an error.
    static let rounds = 4

    /// Runs operations; one status for each.
    /// - Parameters:
    ///   - copy: copies the operations at these places, side by side; one status for each place.
    ///   - pause: called between two rounds.
    static func run(
        _ operations: [GrantCopy], copy: ([Int]) throws(HypervisorError) -> [GrantStatus], pause: () -> Void
    ) throws(HypervisorError) -> [GrantStatus] {
        var statuses = operations.map { $0.hasValidRanges ? GrantStatus.okay : .badCopyArgument }
        var places = operations.indices.filter { statuses[$0] == .okay }
        for round in 0..<rounds where !places.isEmpty {
            if round > 0 { pause() }
            for (place, status) in zip(places, try copy(places)) { statuses[place] = status }
            places = places.filter { statuses[$0] == .tryAgain }
        }
        return statuses
    }
}
