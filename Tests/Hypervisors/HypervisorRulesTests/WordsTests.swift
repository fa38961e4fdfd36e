// What the rules refuse is said in words.

import HypervisorRules
import Testing
import XenTypes

@Suite struct WordsTests {
    @Test("each of Xen's grant statuses has words of its own, which are no Swift name") func grantStatuses() {
        let words = GrantStatus.allCases.map { "\($0)" }
        #expect(Set(words).count == words.count)
        #expect(words.allSatisfy { $0 == $0.lowercased() || $0.contains(" ") }, "\(words)")
    }

    @Test("a refusal names what it is about") func refusals() {
        #expect("\(CoreError.noSuchRun(RunID(7)))" == "no such run 7")
        #expect("\(CoreError.limit("runs", 3))" == "runs, of which there may be at most 3")
        #expect("\(CoreError.port(EventPort(4), "EINVAL"))" == "port 4: EINVAL")
    }
}
