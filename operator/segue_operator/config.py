"""What the operator is told at its start, and the refusal of anything it does not know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from segue.errors import InvalidVoiceModel, SegueError
from segue.model.yaml_text import Chunk, line_of, parse_chunk, plain

Seconds = float


class InvalidConfig(SegueError):
    """A configuration file that cannot be used; the message names file, line and field."""


class _Section(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class TlsFiles(_Section):
    """The operator's own pair, and the authority that it trusts."""

    cert: Path
    key: Path
    ca: Path


class PodAddress(_Section):
    """A sidecar."""

    url: str = Field(description="https://ADDRESS:PORT of its control API.")
    uid: str = Field(description="Uid that it must answer with.")
    name: str = Field(default="", description="What people call it.")


class FleetConfig(_Section):
    """The pods that serve the voices of the folder."""

    name: str = "default"
    namespace: str = "default"
    pods: tuple[PodAddress, ...] = Field(min_length=1)
    max_concurrent_rollouts: int = Field(default=10, ge=1)


class OperatorConfig(_Section):
    """The file behind `python -m segue_operator --config FILE`."""

    adapter: Literal["folder"] = "folder"
    voices: Path = Field(description="The folder with the YAML files.")
    status_directory: Path = Field(description="One JSON file per voice.")
    state_directory: Path = Field(description="Leadership, digests, events.")
    socket: Path = Field(description="Unix socket of the local API.")
    ready_file: Path | None = None
    fleet: FleetConfig
    tls: TlsFiles | None = Field(default=None, description="None: plain HTTP, for tests only.")
    log_format: Literal["auto", "text", "json"] = "auto"
    idle_poll_s: Seconds = Field(default=60.0, gt=0, description="How often quiet pods are read, jittered.")


def load_config(path: Path) -> OperatorConfig:
    """Read YAML or JSON.

    Raises
    ------
    InvalidConfig
        The file cannot be read, is no YAML, or has a field that is unknown or wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = parse_chunk(Chunk(text=text, first_line=1), file=str(path))
        return OperatorConfig.model_validate(plain(node))
    except OSError as error:
        raise InvalidConfig(f"{path} cannot be read: {error.strerror or error}") from error
    except InvalidVoiceModel as error:
        raise InvalidConfig(str(error)) from error
    except ValidationError as error:
        raise InvalidConfig("\n".join(_sentences(path, node, error))) from error
    except ValueError as error:
        raise InvalidConfig(f"{path}: {error}") from error


def _sentences(path: Path, node: Any, error: ValidationError) -> Iterator[str]:
    for mistake in error.errors(include_url=False):
        line, _ = line_of(node, mistake["loc"], first_line=1)
        field = ".".join(str(part) for part in mistake["loc"])
        message = "is no key that is known here" if mistake["type"] == "extra_forbidden" else mistake["msg"]
        yield f"{path}:{line}: {field}: {message}"
