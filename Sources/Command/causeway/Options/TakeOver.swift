// Images that somebody else has.

import ArgumentParser

/// Of `pair` and `backend`.
enum TakeOver {
    static let option = "--take-over"
    static let help = ArgumentHelp(
        "Takes RBD images from whoever has their locks, who may be on another host and alive.",
        discussion: "Once for each image: the cluster takes nothing from the earlier holder any more.")
}
