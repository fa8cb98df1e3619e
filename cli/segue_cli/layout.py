"""Where one `segue up` keeps its things, and how other commands find it.

Separate because both sides need the same answer: `up` makes the directory, every other command looks for it. The
state directory follows from the voices folder, so that the same folder always gets the same state; a second
directory of small files says which state directories are in use, for those that were chosen with `--state`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from segue.errors import SegueError

MAX_SOCKET_PATH_BYTES = 107
"""Linux's `sun_path` holds 108 bytes, one of them for the end."""

_LONGEST_SOCKET = "handoff/sidecar.sock"


class StateUnusable(SegueError):
    """A state directory that cannot be used: foreign owner, open to others, not a directory."""


def state_home() -> Path:
    """`$XDG_STATE_HOME/segue`, by default `~/.local/state/segue`."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "segue"


def default_state(voices: Path) -> Path:
    """The state directory that belongs to a voices folder."""
    digest = hashlib.sha256(os.fsencode(voices.resolve())).hexdigest()
    return state_home() / digest[:12]


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths under one state directory."""

    root: Path

    @property
    def run(self) -> Path:
        """Sockets and ready files (0700). Moved to `/tmp` where the state directory is too deep for a Unix socket."""
        inside = self.root / "run"
        if len(os.fsencode(inside / _LONGEST_SOCKET)) <= MAX_SOCKET_PATH_BYTES:
            return inside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()
        return Path(f"/tmp/segue-{os.getuid()}-{digest[:12]}")

    @property
    def handoff(self) -> Path:
        """Directory of the socket on which arenas are handed to server workers."""
        return self.run / "handoff"

    @property
    def operator_socket(self) -> Path:
        """The operator's local API."""
        return self.run / "operator.sock"

    @property
    def up_file(self) -> Path:
        """Who runs here: pids and addresses."""
        return self.run / "up.json"

    @property
    def lock_file(self) -> Path:
        """Locked by `segue up` and, through the inherited descriptor, by each of its children."""
        return self.root / "up.lock"

    @property
    def tls(self) -> Path:
        """Authority and key pairs."""
        return self.root / "tls"

    @property
    def journal(self) -> Path:
        """What only the sidecar writes."""
        return self.root / "journal"

    @property
    def cache(self) -> Path:
        """Fetched weight files by digest."""
        return self.root / "cache"

    @property
    def status(self) -> Path:
        """One JSON file per voice."""
        return self.root / "status"

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.root / "logs"

    def create(self) -> None:
        """Make every directory.

        Raises
        ------
        StateUnusable
            Where a directory belongs to somebody else, or cannot be made.
        """
        try:
            for directory in (self.root, self.tls, self.journal, self.cache, self.status, self.logs):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for directory in (self.run, self.handoff):
                _private_directory(directory)
        except OSError as error:
            raise StateUnusable(
                f"the state directory {self.root} cannot be used: {error.strerror or error}; "
                "choose another with --state"
            ) from error


def _private_directory(path: Path) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise StateUnusable(f"{path} is not a directory; remove it, or choose another state directory with --state")
    if status.st_uid != os.getuid():
        raise StateUnusable(
            f"{path} belongs to uid {status.st_uid}, not to you ({os.getuid()}); choose another with --state"
        )
    path.chmod(0o700)


# --- which state directories are in use -------------------------------------------------------------------------------


def _registry() -> Path:
    return state_home() / "running"


def _entry(layout: Layout) -> Path:
    return _registry() / hashlib.sha256(os.fsencode(layout.root)).hexdigest()[:12]


def register(layout: Layout) -> None:
    """Note that this state directory is in use."""
    _registry().mkdir(parents=True, exist_ok=True, mode=0o700)
    _entry(layout).write_text(f"{layout.root}\n", encoding="utf-8")


def unregister(layout: Layout) -> None:
    """Forget it again."""
    with suppress(FileNotFoundError):
        _entry(layout).unlink()


def registered() -> Iterator[Layout]:
    """Every state directory that a `segue up` noted, stale ones included."""
    with suppress(FileNotFoundError):
        for entry in sorted(_registry().iterdir()):
            with suppress(OSError):
                yield Layout(Path(entry.read_text(encoding="utf-8").strip()))
