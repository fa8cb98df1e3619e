"""A pickle machine that can only make data.

Separate from `pickle` because restricting `find_class` of the standard one still leaves it a machine that calls what it
found, with memory and recursion bounded by the attacker. This one knows the opcodes that `torch.save` emits (protocols
2 to 5), turns the few globals that tensors need into values of its own, and refuses the rest by name. It imports
nothing and calls nothing that the file chose.

Source: the opcode table of CPython's `Lib/pickletools.py` (the format's only specification).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from typing_extensions import override

from segue.errors import UnsafePickle

MAX_OPCODES: Final = 1_000_000
MAX_STRING_BYTES: Final = 1 << 20
MAX_INT_BYTES: Final = 9
"""Eight bytes and a sign byte: wider integers have no meaning in weights and cost super-linear time."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the file asks for. Only ever compared, never looked up."""

    module: str
    name: str

    @override
    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class PlainObject(dict[str, Any]):
    """What stands for an object of a data-only class: its attributes, as a dict. No constructor ran."""

    __slots__ = ()


class Vocabulary(Protocol):
    """What a pickle may ask for beyond plain containers."""

    def allows(self, symbol: Global) -> bool:
        """Say whether the file may name this global at all."""
        ...

    def call(self, symbol: Global, arguments: tuple[Any, ...]) -> Any:
        """Make the value that `symbol(*arguments)` stands for, or raise `UnsafePickle`."""
        ...

    def new(self, symbol: Global, arguments: tuple[Any, ...]) -> Any:
        """Make the value that `symbol.__new__(symbol, *arguments)` stands for, or raise `UnsafePickle`."""
        ...

    def resolve(self, persistent_id: Any) -> Any:
        """Make the value that a persistent id stands for, or raise `UnsafePickle`."""
        ...


class _Mark:
    __slots__ = ()


_MARK: Final = _Mark()
_KEY_TYPES: Final = (str, int, float, bytes, type(None))


@dataclass(slots=True)
class _Machine:
    """State of one run. Handlers are looked up by opcode in `_HANDLERS`; each consumes its own operand."""

    data: bytes
    source: str
    vocabulary: Vocabulary
    position: int = 0
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def refuse(self, reason: str) -> UnsafePickle:
        return UnsafePickle(
            f"{self.source}: {reason} (pickle byte {self.position}). Weights may hold tensors, dicts, lists, tuples, "
            f"numbers and strings only; save the state dict alone with torch.save"
        )

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise self.refuse(f"the pickle ends {end - len(self.data)} bytes too early")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 1024)
        if end < 0:
            raise self.refuse("a global's name does not end")
        text = self.decode(self.data[self.position : end])
        self.position = end + 1
        return text

    def decode(self, raw: bytes) -> str:
        try:
            return raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise self.refuse("a string is not UTF-8") from None

    def sized(self, layout: str) -> bytes:
        count = self.number(layout)
        if count > MAX_STRING_BYTES:
            raise self.refuse(f"a string of {count} bytes; at most {MAX_STRING_BYTES} are taken")
        return self.take(count)

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise self.refuse("an opcode takes a value that is not there")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def pop_to_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                values = self.stack[index + 1 :]
                del self.stack[index:]
                return values
        raise self.refuse("an opcode takes a mark that is not there")

    def top_of(self, kind: type[Any]) -> Any:
        value = self.top()
        if type(value) is not kind:
            raise self.refuse(f"items are added to a {type(value).__name__}, which is no {kind.__name__}")
        return value

    def remember(self, index: int) -> None:
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise self.refuse(f"memo entry {index} does not exist")
        self.stack.append(self.memo[index])

    def push_global(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise self.refuse("a global whose name is no string")
        symbol = Global(module, name)
        if not self.vocabulary.allows(symbol):
            raise self.refuse(f"it asks for {module[:80]}.{name[:80]}, which is not on the list")
        self.stack.append(symbol)

    def callee(self, value: Any) -> Global:
        if not isinstance(value, Global):
            raise self.refuse(f"it calls a {type(value).__name__}")
        return value

    def arguments(self) -> tuple[Any, ...]:
        value = self.pop()
        if type(value) is not tuple:
            raise self.refuse("the arguments of a call are no tuple")
        return value

    def run(self) -> Any:
        for _ in range(MAX_OPCODES):
            code = self.take(1)
            if code == b".":
                return self.pop()
            handler = _HANDLERS.get(code)
            if handler is None:
                raise self.refuse(f"opcode {code!r} is not among those that torch.save writes")
            handler(self)
        raise self.refuse(f"more than {MAX_OPCODES} opcodes")


def _proto(machine: _Machine) -> None:
    version = machine.number("<B")
    if not 2 <= version <= 5:
        raise machine.refuse(f"pickle protocol {version}; 2 to 5 are read")


def _long(machine: _Machine, raw: bytes) -> None:
    if len(raw) > MAX_INT_BYTES:
        raise machine.refuse(f"an integer of {len(raw)} bytes")
    machine.stack.append(int.from_bytes(raw, "little", signed=True))


def _set_items(machine: _Machine, pairs: list[Any]) -> None:
    target = machine.top()
    if type(target) not in (dict, PlainObject):
        raise machine.refuse(f"keys are set on a {type(target).__name__}")
    if len(pairs) % 2:
        raise machine.refuse("a key without a value")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        if not isinstance(key, _KEY_TYPES):
            raise machine.refuse(f"a dict key of type {type(key).__name__}")
        target[key] = value


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine, [key, value])


def _append(machine: _Machine) -> None:
    value = machine.pop()
    machine.top_of(list).append(value)


def _appends(machine: _Machine) -> None:
    values = machine.pop_to_mark()
    machine.top_of(list).extend(values)


def _tuple_of(machine: _Machine, count: int) -> None:
    values = [machine.pop() for _ in range(count)]
    machine.stack.append(tuple(reversed(values)))


def _global(machine: _Machine) -> None:
    module = machine.line()
    machine.push_global(module, machine.line())


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push_global(module, name)


def _reduce(machine: _Machine) -> None:
    arguments = machine.arguments()
    machine.stack.append(machine.vocabulary.call(machine.callee(machine.pop()), arguments))


def _newobj(machine: _Machine) -> None:
    arguments = machine.arguments()
    machine.stack.append(machine.vocabulary.new(machine.callee(machine.pop()), arguments))


def _build(machine: _Machine) -> None:
    """Take attributes for a data-only object; on a dict (torch's `_metadata` on a state dict) they are dropped."""
    state, target = machine.pop(), machine.top()
    if type(state) is not dict or not all(isinstance(key, str) for key in state):
        raise machine.refuse("an object's state is no dict of attributes")
    if type(target) is PlainObject:
        target.update(state)
    elif type(target) is not dict:
        raise machine.refuse(f"attributes are set on a {type(target).__name__}")


def _push(value: Callable[[], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(value())


_HANDLERS: Final[Mapping[bytes, Callable[[_Machine], None]]] = {
    b"\x80": _proto,
    b"\x95": lambda m: m.number("<Q"),  # FRAME: a hint for buffered readers
    b"(": _push(lambda: _MARK),
    b"0": lambda m: m.pop(),
    b"1": lambda m: m.pop_to_mark().clear(),
    b"2": lambda m: m.stack.append(m.top()),
    b"N": _push(lambda: None),
    b"\x88": _push(lambda: True),
    b"\x89": _push(lambda: False),
    b"J": lambda m: m.stack.append(m.number("<i")),
    b"K": lambda m: m.stack.append(m.number("<B")),
    b"M": lambda m: m.stack.append(m.number("<H")),
    b"\x8a": lambda m: _long(m, m.sized("<B")),
    b"\x8b": lambda m: _long(m, m.sized("<I")),
    b"G": lambda m: m.stack.append(m.number(">d")),
    b"X": lambda m: m.stack.append(m.decode(m.sized("<I"))),
    b"\x8c": lambda m: m.stack.append(m.decode(m.sized("<B"))),
    b"\x8d": lambda m: m.stack.append(m.decode(m.sized("<Q"))),
    b"B": lambda m: m.stack.append(m.sized("<I")),
    b"C": lambda m: m.stack.append(m.sized("<B")),
    b"\x8e": lambda m: m.stack.append(m.sized("<Q")),
    b"]": _push(list),
    b"a": _append,
    b"e": _appends,
    b"l": lambda m: m.stack.append(m.pop_to_mark()),
    b")": _push(tuple),
    b"t": lambda m: m.stack.append(tuple(m.pop_to_mark())),
    b"\x85": lambda m: _tuple_of(m, 1),
    b"\x86": lambda m: _tuple_of(m, 2),
    b"\x87": lambda m: _tuple_of(m, 3),
    b"}": _push(dict),
    b"s": _set_item,
    b"u": lambda m: _set_items(m, m.pop_to_mark()),
    b"q": lambda m: m.remember(m.number("<B")),
    b"r": lambda m: m.remember(m.number("<I")),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"h": lambda m: m.recall(m.number("<B")),
    b"j": lambda m: m.recall(m.number("<I")),
    b"c": _global,
    b"\x93": _stack_global,
    b"R": _reduce,
    b"\x81": _newobj,
    b"b": _build,
    b"Q": lambda m: m.stack.append(m.vocabulary.resolve(m.pop())),
}


def read_pickle(data: bytes, vocabulary: Vocabulary, *, source: str) -> Any:
    """Run a pickle that may only make data.

    Parameters
    ----------
    data
        The whole pickle. The values made take memory in proportion to its length.
    vocabulary
        What it may ask for beyond dicts, lists, tuples, numbers, strings and bytes.
    source
        Named in errors.

    Raises
    ------
    UnsafePickle
        Anything else than that, or a pickle that is cut or malformed. The message names the global or opcode.
    """
    return _Machine(data=data, source=source, vocabulary=vocabulary).run()
