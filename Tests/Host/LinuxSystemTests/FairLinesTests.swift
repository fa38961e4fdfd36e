// Lines: each owner has one, in which each client is once.

@testable import LinuxSystem
import Testing

struct FairLinesTests {
    @Test("clients are served in the order in which they came, each owner's in a line of its own, nobody twice")
    func order() {
        var lines = FairLines<String, Int>()
        #expect(lines.isEmpty && lines.owners.isEmpty && lines.next(of: "a") == nil)
        for client in [1, 2, 1, 3, 2] { lines.join(client, of: "a") }
        lines.join(9, of: "b")
        #expect(lines.owners == ["a", "b"] && !lines.isEmpty)
        #expect(lines.next(of: "a") == 1)
        lines.join(1, of: "a")
        #expect([lines.next(of: "a"), lines.next(of: "a"), lines.next(of: "a"), lines.next(of: "a")] == [2, 3, 1, nil])
        #expect(lines.owners == ["b"] && lines.next(of: "b") == 9 && lines.isEmpty)
    }

    @Test("a client that is gone is not served, and its number may be another's")
    func leaving() {
        var lines = FairLines<String, Int>()
        for client in 1...4 { lines.join(client, of: "a") }
        #expect(lines.next(of: "a") == 1)
        for client in [1, 3, 3, 7] { lines.leave(client) }
        lines.join(3, of: "b")
        #expect([lines.next(of: "a"), lines.next(of: "a"), lines.next(of: "a")] == [2, 4, nil])
        #expect(lines.owners == ["b"])
        lines.leave(3)
        #expect(lines.isEmpty && lines.owners.isEmpty && lines.next(of: "b") == nil)
    }

    @Test("against a slow model, by chance")
    func againstModel() {
        var random = SystemRandomNumberGenerator()
        var lines = FairLines<Int, Int>()
        var model: [(owner: Int, client: Int)] = []
        for _ in 0..<20_000 {
            let client = Int.random(in: 0..<12, using: &random)
            let owner = Int.random(in: 0..<3, using: &random)
            switch Int.random(in: 0..<5, using: &random) {
            case 0, 1:
                lines.join(client, of: owner)
                if !model.contains(where: { $0.client == client }) { model.append((owner, client)) }
            case 2:
                lines.leave(client)
                model.removeAll { $0.client == client }
            default:
                let index = model.firstIndex { $0.owner == owner }
                #expect(lines.next(of: owner) == index.map { model.remove(at: $0).client })
            }
            #expect(lines.isEmpty == model.isEmpty && Set(lines.owners) == Set(model.map(\.owner)))
        }
    }
}
