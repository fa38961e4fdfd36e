// Why something could not be read, done or loaded.

import DeviceFaults
import DeviceState

/// A refusal. Nothing was changed, unless it says so.
public enum ControlError: Error, Equatable, Sendable, CustomStringConvertible {
    /// There is no device of this name; there are these.
    case noSuchDevice(String, known: [String])
    /// The device has no attribute of this name now.
    case noSuchAttribute(device: String, String)
    /// It is running, and only stands still while it is paused.
    case runs(String, needs: String)
    /// Something is still in work after this time; it is paused once that has ended.
    case pauses(String, milliseconds: Int)
    /// It takes nothing from its driver.
    case isPaused(String)
    /// What only a paused device can do was asked of one that is not.
    case notPaused(String)
    /// Nobody uses it.
    case hasNoDriver(String)
    /// So many requests were still in work when the time was over; the device goes on.
    case stillBusy(String, count: Int, milliseconds: Int)
    /// The device has no such queue.
    case noSuchQueue(String, Int, of: Int)
    /// Not for such a device; why.
    case cannot(device: String, command: String, String)
    /// No command.
    case unknownCommand(String)
    /// A command that was given something else than it takes.
    case badArgument(String, String)
    /// No state.
    case badState(DeviceStateError)
    /// The state of something else.
    case otherKind(String, DeviceState.Kind, saved: DeviceState.Kind)
    /// The state of a device that a driver reaches otherwise.
    case otherTransport(String, saved: DeviceState.Transport)
    /// The state of a device that differs in this.
    case otherDevice(String, String, saved: String, own: String?)
    /// It was tried, and this went wrong.
    case failed(String, String)
    /// A fault that is not set, or not undone.
    case fault(String, FaultError)

    /// In one line.
    public var description: String {
        switch self {
        case .noSuchDevice(let name, let known):
            "\(name): no such device here; there \(known.isEmpty ? "is none" : "are \(known.joined(separator: ", "))")"
        case .noSuchAttribute(let device, let name): "\(device): no attribute \(name) now; see `causeway device show \(device)`"
        case .runs(let device, let needs):
            "\(device): runs, and \(needs) only while it is paused: `causeway device do \(device) pause` first"
        case .pauses(let device, let milliseconds):
            "\(device): something is still in work after \(milliseconds) ms; it is paused once that has ended"
        case .isPaused(let device): "\(device): is paused; `causeway device do \(device) resume` first"
        case .notPaused(let device): "\(device): is not paused"
        case .hasNoDriver(let device): "\(device): no driver uses it"
        case .stillBusy(let device, let count, let milliseconds):
            "\(device): \(count) requests were still in work after \(milliseconds) ms; it goes on"
        case .noSuchQueue(let device, let queue, let count): "\(device): no queue \(queue); it has \(count)"
        case .cannot(let device, let command, let reason): "\(device): \(command): \(reason)"
        case .unknownCommand(let name): "`\(name)` is no command; there are \(DeviceCommand.summary)"
        case .badArgument(let command, let what): "\(command): \(what)"
        case .badState(let error): "\(error)"
        case .otherKind(let device, let own, let saved): "\(device): the state is of a \(saved) device, and this is a \(own) device"
        case .otherTransport(let device, let saved): "\(device): the state is of a device over \(saved)"
        case .otherDevice(let device, let attribute, let saved, let own):
            "\(device): the state is of another device: its \(attribute) is \(saved), and here it is \(own ?? "unknown")"
        case .failed(let device, let reason): "\(device): \(reason)"
        case .fault(let device, let error): "\(device): \(error)"
        }
    }
}
