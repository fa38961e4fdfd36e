// Requests in the order in which they came. Their numbers go round in memory that is not given back.

/// A queue of numbers.
struct RequestLine {
    private var numbers: [UInt32] = []
    private var head = 0

    var first: UInt32? { head < numbers.count ? numbers[head] : nil }

    mutating func append(_ number: UInt32) {
        // What has gone is moved out of the way now and then, so that a line that is never empty does not grow.
        if head > 64, head * 2 > numbers.count {
            numbers.removeSubrange(0..<head)
            head = 0
        }
        numbers.append(number)
    }

    mutating func removeFirst() {
        head += 1
        if head == numbers.count {
            numbers.removeAll(keepingCapacity: true)
            head = 0
        }
    }

    /// Whether it is the first: no other one can be begun and not done.
    func holds(_ number: UInt32) -> Bool { first == number }
}
