import Testing

@testable import NetworkBackend

@Suite struct SharedCreditTests {
    @Test("a rate is the interface's: what one queue has taken another has not")
    func shared() throws {
        let rate = try #require(CreditRate(bytes: 200_000, microseconds: 50_000))
        let credit = SharedCredit(rate, now: 0)
        // Two queues in turn, for one period: no more than the rate passes in all.
        var taken = [0, 0]
        for turn in 0..<1000 where credit.take(1000, now: 1) == nil { taken[turn % 2] += 1000 }
        #expect(taken == [100_000, 100_000])
        #expect(credit.take(1000, now: 25_000) == 25_000)
        #expect(credit.take(1000, now: 50_000) == nil)
        credit.set(nil, now: 50_000)
        for _ in 0..<1000 { #expect(credit.take(100_000, now: 50_001) == nil) }
    }
}
