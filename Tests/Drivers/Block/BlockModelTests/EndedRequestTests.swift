import Testing

@testable import BlockModel

@Suite struct EndedRequestTests {
    @Test("a request that was ended must be answered: a model that forgets one does not go on")
    func answeredOnce() async {
        await #expect(processExitsWith: .failure) { _ = EndedRequest(RequestSlot(index: 3)) }
        await #expect(processExitsWith: .success) { EndedRequest(RequestSlot(index: 3)).answered() }
    }
}
