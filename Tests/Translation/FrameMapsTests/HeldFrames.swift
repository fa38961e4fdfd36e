import FrameMaps

/// Keeps a token in a collection.
final class Held {
    let range: FrameRange<Pfn>
    let frames: [BusFrame]
    private var token: ForeignFrames?
    var before = Before.nothing
    enum Before { case nothing, ballooned }
    init(_ token: consuming ForeignFrames, _ frames: [BusFrame]) {
        range = token.range
        self.frames = frames
        self.token = consume token
    }
}
