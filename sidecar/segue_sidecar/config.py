"""The sidecar's configuration file: what a pod or `segue up` tells it, read once at start.

YAML or JSON, camelCase, unknown fields refused. A mistake is reported with file, line and field. Who the pod is may
come from the environment instead, where Kubernetes puts it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from segue.errors import SegueError
from segue.memory.device.choosing import GpuMode
from segue.memory.device.driver import BINDINGS
from segue.tls import OPERATOR_NAME, KeyPairFiles

_QUANTITY = re.compile(r"^(\d+)\s*(Ki|Mi|Gi|Ti)?$")
_UNITS = {None: 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


class InvalidConfig(SegueError):
    """A configuration that cannot be used; the message names file, line and field."""


def _parse_bytes(value: object) -> object:
    if isinstance(value, str) and (match := _QUANTITY.match(value)):
        return int(match[1]) * _UNITS[match[2]]
    return value


Bytes: TypeAlias = Annotated[int, BeforeValidator(_parse_bytes), Field(ge=0)]
"""A whole number of bytes, also written `512Mi`, `4Gi`."""


class _Section(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class Address(_Section):
    """`HOST:PORT`; port 0 takes a free one, which the ready file names."""

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65_535)


def _parse_address(value: object) -> object:
    if not isinstance(value, str):
        return value
    host, separator, port = value.rpartition(":")
    if not separator or not port.isdigit():
        raise ValueError(f"an address is written HOST:PORT, not {value!r}")
    return {"host": host.strip("[]"), "port": int(port)}


Listen: TypeAlias = Annotated[Address, BeforeValidator(_parse_address)]


class PodSection(_Section):
    """Who this sidecar is."""

    uid: str = Field(min_length=1, max_length=253)
    name: str = ""
    namespace: str = "default"
    fleet: str = "default"
    device_class: str = "cpu"


POD_VARIABLES: Mapping[str, str] = {
    "SEGUE_POD_UID": "uid",
    "SEGUE_POD_NAME": "name",
    "SEGUE_POD_NAMESPACE": "namespace",
}
"""What the downward API tells; each goes before the field of `pod` that it stands for. Empty ones count as absent."""


class TlsSection(_Section):
    """The sidecar's own pair, and whom it obeys."""

    directory: Path = Field(description="Holds tls.crt, tls.key and ca.crt, as a mounted Secret does.")
    client_name: str = OPERATOR_NAME

    @property
    def files(self) -> KeyPairFiles:
        """The three files."""
        return KeyPairFiles.of(self.directory)


class PoolSection(_Section):
    """Memory for arenas."""

    budget_bytes: Bytes = 4 << 30
    spares: int = Field(default=1, ge=0, le=8, description="Pre-faulted arenas kept for the next preload.")


class GpuSection(_Section):
    """Weights in the memory of a CUDA device. Without this section they live in host memory alone."""

    mode: GpuMode = Field(
        default=GpuMode.AUTO,
        description="`gpu-shared`: workers map what lies on the sidecar's device. `gpu-copy`: they copy host arenas. "
        "`auto`: shared where the sidecar sees the device.",
    )
    device: str = Field(default="cuda:0", pattern=r"^cuda(:\d{1,3})?$", description="As this container counts them.")
    budget_bytes: Bytes = Field(default=8 << 30, description="Device memory for arenas; `gpu-shared` only.")
    driver: str = Field(default=BINDINGS, description="Module with the CUDA driver API. Only tests name another.")


class SourceRule(_Section):
    """Which URIs voices of which namespaces may name. Fleets configure it; voices cannot."""

    namespaces: tuple[str, ...] = Field(default=("*",), description="Names; `*` is all.")
    uri_prefixes: tuple[str, ...] = Field(min_length=1)
    private_addresses: bool = Field(
        default=False, description="Allow hosts at loopback and private addresses. Link-local ones are never allowed."
    )


class LimitsSection(_Section):
    """Bounds on what a voice may cost before it is refused."""

    file_bytes: Bytes = 4 << 30
    tensor_bytes: Bytes = 2 << 30
    voice_bytes: Bytes = 8 << 30
    child_memory_bytes: Bytes = Field(default=12 << 30, description="Address space of one child.")
    cache_bytes: Bytes = Field(default=20 << 30, description="Fetched files kept on disk.")
    preloads: int = Field(default=1, ge=1, le=16, description="Revisions fetched, prepared and proven at a time.")


class TiersSection(_Section):
    """Voices that are not hot."""

    disk_bytes: Bytes = Field(
        default=10 << 30,
        description="Prepared parts kept on disk, beside `limits.cacheBytes`; 0: none, and cold voices come back from "
        "their sources.",
    )
    idle_s: float = Field(
        default=900,
        ge=0,
        description="So long without a request, and a voice goes where its tier is; 0: only when others need its room.",
    )
    loads: int = Field(default=2, ge=1, le=16, description="Voices brought up for requests at a time.")
    wait_s: float = Field(default=5, gt=0, description="How long requests wait: the server's `timeouts.coldStartS`.")
    retry_s: float = Field(
        default=30, ge=1, description="Pause before a request has a voice tried again that could not be brought up."
    )


class DeadlineSection(_Section):
    """How long each thing may take before it counts as hung."""

    fetch_s: float = Field(default=1800, gt=0)
    silence_s: float = Field(default=30, gt=0, description="How long a source may send nothing.")
    prepare_s: float = Field(default=900, gt=0)
    prove_s: float = Field(default=300, gt=0)
    probe_s: float = Field(default=3600, gt=0)
    offer_s: float = Field(default=60, gt=0, description="A worker that answers an offer later is disconnected.")
    hello_s: float = Field(default=10, gt=0, description="After a restart: how long a living worker may stay silent.")
    request_s: float = Field(default=10, gt=0, description="Of one half of a control request.")
    stop_s: float = Field(default=5, gt=0)


class ThrottleSection(_Section):
    """How much of the machine preloading may take while somebody is being served."""

    busy: float = Field(default=0.5, gt=0, le=1, description="Above this share of a worker's time, children yield.")
    duty: float = Field(default=0.1, gt=0, le=1, description="Share of time that children run at first.")
    max_duty: float = Field(default=0.3, gt=0, le=1, description="What they may grow to while latency stays flat.")
    min_duty: float = Field(default=0.05, gt=0, le=1)


class ScorerSection(_Section):
    """A judge of sentences that somebody else brings."""

    address: str = Field(
        max_length=2048,
        pattern=r"^(command:\s*\S|https?://\S|entry-point:\S)",
        description="`command:PROGRAM ARGUMENTS`, `http(s)://…`, or `entry-point:NAME`.",
    )
    limit: float | None = Field(
        default=None,
        ge=0,
        description="Naturalness: at least this; word errors: at most. Without it the figure is shown only.",
    )
    timeout_s: float = Field(default=60, gt=0, description="Of one sentence.")


class SpeakerNetworkSection(_Section):
    """The speaker network of voices that carry one (gpt-sovits: v2Pro and v2ProPlus)."""

    limit: float | None = Field(
        default=None, ge=-1, le=1, description="Least cosine to the reference. Without it the figure is shown only."
    )


class ScorersSection(_Section):
    """What probes hear beside their own figures."""

    naturalness: ScorerSection | None = None
    word_error_rate: ScorerSection | None = None
    speaker_network: SpeakerNetworkSection = SpeakerNetworkSection()


class HubSection(_Section):
    """A repository on a model hub, at one commit: a branch could change under a pod that runs."""

    repository: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$", max_length=193)
    revision: str = Field(pattern=r"^[0-9a-f]{40}$", description="Commit, 40 hex digits.")
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s?#]+$",
        max_length=2048,
        description="Default: HF_ENDPOINT, else the hub's.",
    )
    redirects: tuple[str, ...] = Field(
        default=("https://*.huggingface.co/", "https://*.hf.co/"),
        description="Where the hub may send us for a file, beside itself: URI prefixes; `*.` is any host below.",
    )
    private_addresses: bool = Field(default=False, description="Allow hubs at loopback and private addresses.")


class SharedModelsSection(_Section):
    """Where the models lie that all voices of an engine need."""

    directory: Path | None = Field(default=None, description="Holds them as the original does.")
    hub: HubSection | None = None
    options: dict[str, Any] = Field(default_factory=dict, description="What the engine is told beside the files.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.directory is None) == (self.hub is None):
            raise ValueError("name one place: directory, or hub")
        if self.directory is not None and not self.directory.is_absolute():
            raise ValueError(f"directory must be an absolute path, not {str(self.directory)!r}")
        return self


class Config(_Section):
    """All of it. Only `pod.uid`, `control.tls` and the three directories have no default."""

    pod: PodSection
    control_listen: Listen = Address()
    status_listen: Listen = Address()
    tls: TlsSection
    handoff_directory: Path = Field(description="Holds sidecar.sock and sidecar.lock.")
    server_uids: tuple[int, ...] = Field(default=(), description="Whose workers may connect, beside our own UID.")
    journal_directory: Path
    cache_directory: Path
    ready_file: Path | None = None
    pool: PoolSection = PoolSection()
    gpu: GpuSection | None = None
    sources: tuple[SourceRule, ...] = ()
    trusted_keys: tuple[str, ...] = Field(default=(), description="ed25519:BASE64, who may sign bundles.")
    engines: dict[str, str] = Field(
        default_factory=dict, description="Engines beside the built-in ones: name to MODULE:ATTRIBUTE."
    )
    shared_models: dict[str, SharedModelsSection] = Field(
        default_factory=dict, description="By engine: models that all its voices share, loaded once."
    )
    scorers: ScorersSection = ScorersSection()
    limits: LimitsSection = LimitsSection()
    tiers: TiersSection = TiersSection()
    deadlines: DeadlineSection = DeadlineSection()
    throttle: ThrottleSection = ThrottleSection()
    out_of_reach_s: float = Field(
        default=60, gt=0, description="Silence of the operator after which the sidecar judges an open watch itself."
    )
    models_retry_s: float = Field(
        default=10,
        gt=0,
        description="Pause before shared models that failed are tried again; doubles up to 60 times this.",
    )
    desired_directory: Path | None = Field(
        default=None, description="Where the fleet's desired set is mounted; the sidecar follows it."
    )
    desired_retry_s: float = Field(
        default=10, gt=0, description="Pause before what failed is tried again; doubles up to 60 times this."
    )
    desired_alone_s: float = Field(
        default=150,
        gt=0,
        description="Silence of the operator after which a voice that speaks follows the desired set; longer than "
        "`outOfReachS`, because nobody is in a hurry and an operator that is well reads a quiet pod only every 75 s.",
    )
    desired_settle_s: float = Field(
        default=90,
        ge=0,
        description="How long the mount must have said the same before a voice that speaks follows it: mounts lag.",
    )


def load_config(path: Path, *, environment: Mapping[str, str] = os.environ) -> Config:
    """Read and check a configuration file.

    Parameters
    ----------
    environment
        Says who the pod is (`POD_VARIABLES`), so that one file serves all pods of a fleet.

    Raises
    ------
    InvalidConfig
        Unreadable, no YAML, or a field that does not hold.
    """
    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidConfig(f"{path}: cannot be read: {error.strerror}") from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise InvalidConfig(f"{path}:{line}: {error.problem or 'is not YAML'}") from error
    try:
        return Config.model_validate(_with_identity(_plain(document), environment))
    except ValidationError as error:
        raise InvalidConfig("\n".join(_sentences(path, document, error))) from error


def _with_identity(document: Any, environment: Mapping[str, str]) -> Any:
    told = {field: environment[name] for name, field in POD_VARIABLES.items() if environment.get(name)}
    if not told or not isinstance(document, dict):
        return document
    pod = document.get("pod")
    return {**document, "pod": {**(pod if isinstance(pod, dict) else {}), **told}}


def _plain(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    return node


def _sentences(path: Path, document: Any, error: ValidationError) -> list[str]:
    lines = []
    for mistake in error.errors(include_url=False):
        place = mistake["loc"]
        name = ".".join(str(part) for part in place)
        lines.append(f"{path}:{_line_of(document, place)}: {name}: {mistake['msg']}")
    return lines


def _line_of(document: Any, place: tuple[int | str, ...]) -> int:
    """Line of the deepest part of `place` that exists, counted from 1."""
    line: int = 1
    node: Any = document
    for part in place:
        try:
            position = node.lc.item(part) if isinstance(part, int) else node.lc.key(part)
            line, node = position[0] + 1, node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line
