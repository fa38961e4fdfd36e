// Which seeds are run.

import ArgumentParser

/// How many seeds from the first on (`1000`), or from which to which (`5000..<6000`).
enum SeedRange: ExpressibleByArgument, Equatable {
    case count(UInt64)
    case range(Range<UInt64>)

    /// - Parameter argument: what was written; nil comes back unless it is a count or a range that is not empty.
    init?(argument: String) {
        if let count = UInt64(argument) {
            guard count > 0 else { return nil }
            self = .count(count)
            return
        }
        guard let dots = argument.firstRange(of: "..<"), let low = UInt64(argument[..<dots.lowerBound]),
            let high = UInt64(argument[dots.upperBound...]), low < high
        else { return nil }
        self = .range(low..<high)
    }

    var defaultValueDescription: String {
        switch self {
        case .count(let count): "\(count)"
        case .range(let range): "\(range)"
        }
    }

    /// The seeds meant; nil: they do not fit, or the first is said twice.
    /// - Parameter first: what `--first` says.
    func seeds(from first: UInt64?) -> Range<UInt64>? {
        switch self {
        case .range(let range): return first == nil ? range : nil
        case .count(let count):
            let (end, overflow) = (first ?? 0).addingReportingOverflow(count)
            return overflow ? nil : (first ?? 0)..<end
        }
    }
}
