// The least that still fails.

import Simulation

extension SimulationPlan {
    /// A plan that fails as this one does, with fewer steps and fewer kinds of faults.
    /// - Parameter fails: runs a plan; whether it fails.
    public func minimized(_ fails: (SimulationPlan) -> Bool) -> SimulationPlan {
        var best = self
        // Kinds first: each that goes makes the rest easier to read.
        for kind in FaultKind.allCases where best.kinds.contains(kind) {
            var less = best
            less.kinds.remove(kind)
            if fails(less) { best = less }
        }
        var low = 0
        while best.steps - low > 1 {
            var less = best
            less.steps = (low + best.steps) / 2
            if fails(less) { best = less } else { low = less.steps }
        }
        return best
    }
}
