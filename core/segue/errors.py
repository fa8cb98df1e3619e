"""The one exception tree of Segue.

    SegueError
    ├── InvalidVoiceModel      a VoiceModel that cannot mean anything; carries file, line and field
    ├── EditConflict           a file that a person changed since it was read
    ├── WeightsError           weights that must not be used
    │   ├── UnsafePickle       a pickle that asks for anything but tensors and plain containers
    │   ├── DigestMismatch     bytes that are not the ones promised
    │   ├── ShapeMismatch      a tensor that the engine cannot take
    │   └── SignatureRejected  no signature, or one by an unknown key
    ├── FetchError             a source that cannot be read
    │   └── ForbiddenSource    a URI outside what this fleet may read
    ├── MemoryError_           shared memory that cannot be had or trusted
    │   ├── PoolExhausted      the budget has no room; carries the figures
    │   ├── ArenaCorrupt       a header, seal, owner or digest that does not hold
    │   └── DeviceError        a CUDA device that refuses; the message names the call and its code
    │       ├── DeviceFull     it has no memory left, whatever the budget says
    │       └── DeviceLost     it, or this process' context on it, is of no more use
    ├── HandoffError           a peer on the hand-off socket that breaks the protocol
    ├── CommandRefused         a control command that must not be carried out
    │   ├── StaleFence         a command of a deposed or outrun leader
    │   ├── NotReady           a revision that is not resident or not proven
    │   ├── Conflict           the pointer is not what the caller expected
    │   ├── WrongPod           a command that was meant for another pod
    │   ├── UnsupportedWire    a caller more than one wire version away
    │   ├── NotFound           a voice, revision or report that this pod does not have
    │   └── InvalidCommand     a command that means nothing; carries nothing out
    ├── ControlUnreachable     a sidecar that cannot be talked to: no answer, or none that can be trusted
    └── SynthesisError         an engine that could not speak
        ├── TextRejected       a text that the engine cannot read; carries the span
        └── OptionRejected     an option of a request that the engine lacks or cannot follow; carries its name

Each message says what was wrong, the value, and what to do about it.
"""

from __future__ import annotations


class SegueError(Exception):
    """Root of everything Segue raises on purpose."""


class InvalidVoiceModel(SegueError):
    """A `VoiceModel` that cannot mean anything.

    Attributes
    ----------
    file, line, field
        Where the mistake stands; `None` where it is not known.
    """

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, field: str | None = None
    ) -> None:
        self.message = message
        self.file = file
        self.line = line
        self.field = field
        place = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(": ".join(part for part in (place, field, message) if part))


class EditConflict(SegueError):
    """A file that a person changed since it was read; nothing was written."""


class WeightsError(SegueError):
    """Weights that must not be used."""


class UnsafePickle(WeightsError):
    """A pickle that asks for anything but tensors and plain containers."""


class DigestMismatch(WeightsError):
    """Bytes that are not the ones promised."""


class ShapeMismatch(WeightsError):
    """A tensor whose name, shape or dtype the engine cannot take."""


class SignatureRejected(WeightsError):
    """No signature where one is required, or one by an unknown key."""


class FetchError(SegueError):
    """A source that cannot be read."""


class ForbiddenSource(FetchError):
    """A URI outside what this fleet may read."""


class MemoryError_(SegueError):
    """Shared memory that cannot be had or trusted (the underscore keeps the builtin visible)."""


class PoolExhausted(MemoryError_):
    """The budget has no room.

    Attributes
    ----------
    needed_bytes, free_bytes, budget_bytes
        The figures that the message shows.
    """

    def __init__(self, message: str, *, needed_bytes: int, free_bytes: int, budget_bytes: int) -> None:
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes
        self.budget_bytes = budget_bytes
        super().__init__(message)


class ArenaCorrupt(MemoryError_):
    """A header, seal, owner or digest that does not hold."""


class DeviceError(MemoryError_):
    """A CUDA device that refuses; the message names the call and its code."""


class DeviceFull(DeviceError):
    """The device has no memory left, whatever the budget says: somebody else uses it, too."""


class DeviceLost(DeviceError):
    """The device, or this process' context on it, is of no more use: the process must be started again."""


class HandoffError(SegueError):
    """A peer on the hand-off socket that breaks the protocol."""


class CommandRefused(SegueError):
    """A control command that must not be carried out."""


class StaleFence(CommandRefused):
    """A command of a deposed or outrun leader."""


class NotReady(CommandRefused):
    """A revision that is not resident or not proven."""


class Conflict(CommandRefused):
    """The pointer is not what the caller expected."""


class WrongPod(CommandRefused):
    """A command that was meant for another pod."""


class UnsupportedWire(CommandRefused):
    """A caller whose wire version is more than one away from ours: neither may guess what the other means."""


class NotFound(CommandRefused):
    """A voice, revision or report that this pod does not have."""


class InvalidCommand(CommandRefused):
    """A command that means nothing: a field, header or path that does not hold."""


class ControlUnreachable(SegueError):
    """A sidecar that cannot be talked to: no answer in time, a refused certificate, or an answer that is no answer."""


class SynthesisError(SegueError):
    """An engine that could not speak."""


class TextRejected(SynthesisError):
    """A text that the engine cannot read.

    Attributes
    ----------
    span
        (start, end) in characters of the input, end exclusive.
    """

    def __init__(self, message: str, *, span: tuple[int, int]) -> None:
        self.span = span
        super().__init__(message)


class OptionRejected(SynthesisError):
    """An option of a request that the engine does not have, or cannot follow.

    Attributes
    ----------
    option
        Its name, with dots into what it holds (`reference.text`).
    """

    def __init__(self, message: str, *, option: str) -> None:
        self.option = option
        super().__init__(message)
