// What the store refuses is said in words, with its code behind them.

import Testing
import XenStore

@Suite struct WordsTests {
    @Test("each of the wire's errors has words of its own") func names() {
        let words = StoreErrorName.allCases.map { "\($0)" }
        #expect(Set(words).count == words.count)
        for (name, words) in zip(StoreErrorName.allCases, words) { #expect(words != name.rawValue && words.contains(" ")) }
    }

    @Test("an error names the node, says what is wrong, and has Xen's code") func errors() {
        #expect("\(StoreError.refused("ENOENT", path: "/a/b"))" == "/a/b: no such node (ENOENT)")
        #expect("\(StoreError.refused("EQUOTA", path: ""))" == "EQUOTA")
        #expect("\(StoreError.conflict(attempts: 3))" == "somebody else changed the same nodes 3 times in a row")
    }
}
