// Long byte arrays compared: `#expect(a == b)` would compute the difference of two arrays when it fails, in time that
// grows with the square of their length. A failing test then looks like one that hangs.

import Testing

/// Expects two byte sequences to be the same; a failure names the first place where they are not, and both lengths.
public func expectSame(
    _ seen: some Sequence<UInt8>, _ wanted: some Sequence<UInt8>, _ comment: @autoclosure () -> String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    let (seen, wanted) = (Array(seen), Array(wanted))
    if seen == wanted { return }
    let place = zip(seen, wanted).enumerated().first { $0.element.0 != $0.element.1 }
    let reason = place.map { "byte \($0.offset) is \($0.element.0), not \($0.element.1)" } ?? "as far as both go, they are the same"
    Issue.record("\(comment()) \(reason); \(seen.count) bytes seen, \(wanted.count) wanted", sourceLocation: sourceLocation)
}
