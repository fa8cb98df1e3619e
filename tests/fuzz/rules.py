"""What must hold for every weight file, however wrong: it is read or refused, and nothing else happens.

Separate because three drivers use it: the quick tests of the suite, the long run, and whoever replays a found input.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any, Final

from segue.containers import load_torch_file
from segue.errors import WeightsError
from segue_engines.gpt_sovits.formats import Limits, ServingDtype, cast, fold_weight_norm, open_sovits, open_t2s

LIMITS: Final = Limits(max_tensor_bytes=16 << 20, max_total_bytes=64 << 20)
SLOWEST_CPU_S: Final = 5.0
"""Of processor time, so that a busy machine is no finding."""

BESIDE_THE_FILE_BYTES: Final = 96 << 20
"""Memory that a reader may take beside a few times the size of the file: all the values that a pickle may unfold to."""

_FORBIDDEN: Final = (
    "exec",
    "compile",
    "pickle.find_class",
    "os.",
    "subprocess.",
    "socket.",
    "ctypes.",
    "shutil.",
    "pty.",
    "code.__new__",
)


class Broken(Exception):
    """A rule that did not hold."""


class Watch:
    """Notices what a reader of data has no business with: code, other files, processes, the network.

    An audit hook cannot be taken away again, so there is one for the process, which looks only while a file is read.
    """

    def __init__(self) -> None:
        self._allowed: str | None = None
        self._thread = 0
        self._seen: list[str] = []
        sys.addaudithook(self._hook)

    def begin(self, path: Path) -> None:
        """From now on only this file may be opened, and only for reading."""
        self._seen.clear()
        self._thread = threading.get_ident()
        self._allowed = str(path)

    def end(self) -> list[str]:
        """What was done beside that."""
        self._allowed = None
        return self._seen

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._allowed is None or threading.get_ident() != self._thread:
            return
        if event == "open" and (str(arguments[0]) != self._allowed or arguments[1] not in ("r", "rb")):
            self._seen.append(f"opened {arguments[0]} as {arguments[1]}")
        elif event == "import" and arguments[0] not in sys.modules:
            self._seen.append(f"imported {arguments[0]!r}")
        elif event.startswith(_FORBIDDEN):
            self._seen.append(event)


_watch: Watch | None = None


def check(path: Path, *, measured: bool = True) -> bool:
    """Read a file by all three readers; True if one of them accepts it.

    Parameters
    ----------
    measured
        Whether to trace memory, which takes five times as long. A long run does it for a part of its inputs, and has
        `limit_memory` for the others.

    Raises
    ------
    Broken
        It took too much memory or time, or did something else than reading.
    Exception
        Whatever a reader raises beside `WeightsError`.
    """
    global _watch
    _watch = _watch or Watch()
    if measured:
        tracemalloc.start()
    try:
        accepted = [_one(path, reader, _watch) for reader in (_container, _gpt, _sovits)]
    finally:
        tracemalloc.stop()
    return any(accepted)


def limit_memory() -> None:
    """Let this process take no more address space than it has and twice `BESIDE_THE_FILE_BYTES`; more is an error."""
    taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    most = taken + 2 * BESIDE_THE_FILE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _one(path: Path, reader: Any, watch: Watch) -> bool:
    size = path.stat().st_size
    before = _traced()[0]
    begun = time.process_time()
    watch.begin(path)
    try:
        reader(path)
        accepted = True
    except WeightsError as error:
        accepted = False
        _say_something(error, path)
    finally:
        done = watch.end()
    taken, spent = _traced()[1] - before, time.process_time() - begun
    if done:
        raise Broken(f"{reader.__name__}: {done[:5]}")
    if taken > 8 * size + BESIDE_THE_FILE_BYTES:
        raise Broken(f"{reader.__name__} took {taken} bytes for a file of {size}")
    if spent > SLOWEST_CPU_S:
        raise Broken(f"{reader.__name__} took {spent:.1f} s of processor time for a file of {size} bytes")
    return accepted


def _traced() -> tuple[int, int]:
    """Memory as traced, now and at its peak since the last call; zeros where nothing is traced."""
    found = tracemalloc.get_traced_memory()
    if tracemalloc.is_tracing():
        tracemalloc.reset_peak()
    return found


def _say_something(error: WeightsError, path: Path) -> None:
    message = str(error)
    if path.name not in message or not 10 < len(message) < 6000:
        raise Broken(f"a message that does not name the file, or is too short or long: {message[:200]!r}") from error


def _container(path: Path) -> None:
    load_torch_file(path, max_tensor_bytes=LIMITS.max_tensor_bytes, max_total_bytes=LIMITS.max_total_bytes)


def _gpt(path: Path) -> None:
    with open_t2s(path, LIMITS) as checkpoint:
        for _ in cast(checkpoint.tensors.items(), ServingDtype.FP32, file=checkpoint.file):
            pass


def _sovits(path: Path) -> None:
    with open_sovits(path, LIMITS) as checkpoint:
        folded = fold_weight_norm(checkpoint.tensors, file=checkpoint.file)
        for _ in cast(folded, ServingDtype.FP32, file=checkpoint.file):
            pass
