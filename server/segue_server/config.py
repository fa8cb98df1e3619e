"""Configuration of the speech server: one YAML (or JSON) file, checked as a whole before anything starts.

Separate because it crosses the process boundary: here, and only here, is a mistake of the operator's turned into a
message with file, line and field. Keys are camelCase in the file and snake_case in the code.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from segue.errors import SegueError
from segue.memory.handoff import MAX_PATH_BYTES

SOCKET_NAME = "sidecar.sock"
"""Name of the hand-off socket inside `socketDir`."""

Address = Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s\[\]]+):\d{1,5}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]


class InvalidConfig(SegueError):
    """A configuration that cannot mean anything; the message names file, line and field."""


class _Section(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Batching(_Section):
    """Rows of one revision that are stepped together."""

    enabled: bool = True
    max_rows: int = Field(default=16, ge=1, le=256)

    @property
    def rows(self) -> int:
        """Rows a step may take."""
        return self.max_rows if self.enabled else 1


class Timeouts(_Section):
    """How long anybody may keep the server waiting, in seconds."""

    head_s: float = Field(default=10, gt=0, description="From the first byte of a request to the end of its headers.")
    body_s: float = Field(default=15, gt=0, description="From the end of the headers to the end of the body.")
    keep_alive_s: float = Field(default=75, gt=0, description="An idle connection is closed after this.")
    reader_s: float = Field(default=30, gt=0, description="A client that takes no byte for this long is cut off.")
    cold_start_s: float = Field(default=5, ge=0, description="How long a request waits for a cold voice.")
    engine_stall_s: float = Field(default=60, gt=0, description="A step longer than this: the worker is replaced.")


class ReferenceRoot(_Section):
    """A folder whose recordings requests may name."""

    path: Path = Field(description="The folder; nothing outside of it is opened, whatever links say.")
    namespace: Name | None = Field(default=None, description="Whose requests may; without it those of every namespace.")


class References(_Section):
    """Recordings that requests bring, for engines that can speak like them."""

    roots: tuple[ReferenceRoot, ...] = Field(default=(), description="Without any, no request may bring a recording.")
    max_bytes: int = Field(default=8 << 20, ge=1024, le=1 << 30, description="Of one recording.")
    held_bytes: int = Field(
        default=128 << 20, ge=1 << 20, description="All recordings that unfinished requests of one worker hold."
    )
    cache_bytes: int = Field(
        default=64 << 20, ge=0, description="What one worker keeps of measured recordings; 0: nothing."
    )

    def roots_of(self, namespace: str) -> tuple[ReferenceRoot, ...]:
        """Those that requests of a namespace may name recordings of."""
        return tuple(root for root in self.roots if root.namespace in (None, namespace))


class ServerConfig(_Section):
    """All of it."""

    listen: Address = Field(default="127.0.0.1:8000", description="The speech API. Port 0: any free one.")
    status_listen: Address = Field(default="127.0.0.1:8001", description="/metrics /healthz /readyz /stats.")
    workers: int = Field(default_factory=lambda: max(1, (os.cpu_count() or 1) - 1), ge=1, le=256)
    threads: int = Field(
        default=1, ge=1, le=256, description="Engine threads of one worker: workers x threads <= cores."
    )
    nice: int = Field(default=10, ge=0, le=19, description="Workers step aside for the sidecar's commands.")
    device: str = Field(default="cpu", max_length=63)
    socket_dir: Path = Field(description="Directory with the sidecar's hand-off socket.")
    ready_file: Path | None = Field(default=None, description="Written once every worker takes requests.")
    keys_file: Path | None = Field(default=None, description="API keys; without it everybody is in `defaultNamespace`.")
    default_namespace: Name = "default"
    aliases: dict[str, str] = Field(default_factory=dict, description="Other names of voices: {alloy: narrator}.")
    models: tuple[str, ...] = Field(default=("segue", "tts-1", "tts-1-hd", "gpt-4o-mini-tts"), min_length=1)
    engines: dict[str, str] = Field(
        default_factory=dict, description="Engines beside the built-in ones: name to MODULE:ATTRIBUTE."
    )
    engine_settings: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="What built-in engines find here: {gpt-sovits: {g2pw: /models/G2PWModel}}."
    )
    queue_limit: int = Field(default=1000, ge=1, description="Unfinished requests of all workers together.")
    max_queue_wait_s: float = Field(default=20, gt=0, description="No request is queued behind more work than this.")
    request_deadline_s: float = Field(default=60, gt=0, description="To the first audio, and between two pieces of it.")
    max_input_chars: int = Field(default=4096, ge=1, le=1_000_000)
    cache_bytes: int = Field(default=256 << 20, ge=0, description="Result cache of all workers together; 0: none.")
    drain_s: float = Field(default=30, gt=0, alias="drainSeconds")
    trust_forwarded: bool = Field(default=False, description="Believe X-Forwarded-For (behind a proxy of yours only).")
    batching: Batching = Batching()
    references: References = References()
    timeouts: Timeouts = Timeouts()

    @model_validator(mode="after")
    def _paths_fit(self) -> Self:
        length = len(os.fsencode(self.socket_path))
        if length > MAX_PATH_BYTES:
            raise ValueError(f"socketDir makes a socket path of {length} bytes; {MAX_PATH_BYTES} fit: shorten it")
        return self

    @property
    def socket_path(self) -> Path:
        """The hand-off socket."""
        return self.socket_dir / SOCKET_NAME

    @property
    def worker_queue_limit(self) -> int:
        """The share of one worker in `queueLimit`."""
        return -(-self.queue_limit // self.workers)

    @property
    def worker_cache_bytes(self) -> int:
        """The share of one worker in `cacheBytes`."""
        return self.cache_bytes // self.workers


def split_address(address: str) -> tuple[str, int]:
    """`host:port`, IPv6 in brackets, as a pair."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def load_config(path: Path) -> ServerConfig:
    """Read and check the configuration. Relative paths in it are relative to the file.

    Raises
    ------
    InvalidConfig
        Unreadable, not YAML, an unknown key, or a value out of bounds.
    """
    document = read_yaml(path)
    if not isinstance(document, Mapping):
        raise InvalidConfig(f"{path}: a configuration is a mapping of keys to values, not {type(document).__name__}")
    try:
        config = ServerConfig.model_validate(document)
    except ValidationError as error:
        raise InvalidConfig(_explain(error, path=path, document=document)) from error
    paths = {name: getattr(config, name) for name in ("socket_dir", "ready_file", "keys_file")}
    roots = tuple(
        root.model_copy(update={"path": path.absolute().parent / root.path}) for root in config.references.roots
    )
    return config.model_copy(
        update={
            "references": config.references.model_copy(update={"roots": roots}),
            **{name: path.parent / value for name, value in paths.items() if value is not None},
        }
    )


def read_yaml(path: Path) -> Any:
    """Read a YAML file, keeping line numbers.

    Raises
    ------
    InvalidConfig
        It cannot be read or parsed; the message says where.
    """
    try:
        return YAML(typ="rt").load(path)
    except OSError as error:
        raise InvalidConfig(f"{path}: cannot be read: {error.strerror}") from error
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise InvalidConfig(f"{path}{line}: not YAML: {error.problem}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{path}: not YAML: {error}") from error


def _explain(error: ValidationError, *, path: Path, document: Any) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        field = ".".join(str(part) for part in problem["loc"]) or "the file"
        found = f" (found {str(problem['input'])[:80]!r})" if problem["type"] not in ("missing", "value_error") else ""
        message = "is no key that is known here" if problem["type"] == "extra_forbidden" else problem["msg"]
        lines.append(f"{path}:{_line_of(document, problem['loc'])}: {field}: {message}{found}")
    return "\n".join(lines)


def _line_of(document: Any, location: Sequence[int | str]) -> int:
    """Line of the deepest part of `location` that the file has; 1 where it has none of it."""
    line = 1
    for key in location:
        marks = getattr(document, "lc", None)
        try:
            line = marks.key(key)[0] + 1 if isinstance(document, Mapping) else marks.item(key)[0] + 1  # type: ignore[union-attr]
            document = document[key]
        except (KeyError, IndexError, TypeError, AttributeError):
            break
    return line
