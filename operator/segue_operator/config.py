"""What the operator is told at its start, and the refusal of anything it does not know.

`adapter` says where the voices live: in a `folder` of YAML files, or in a `kubernetes` API server. Each has a model of
its own, because they share little more than the operator's certificate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from segue.errors import InvalidVoiceModel, SegueError
from segue.model.spec import Name
from segue.model.yaml_text import Chunk, line_of, parse_chunk, plain
from segue_operator.console.config import ConsoleConfig
from segue_operator.triggers.config import HooksConfig, PrometheusConfig

Seconds = float
LogFormat = Literal["auto", "text", "json"]


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


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdigit() and int(port) < 65536):
        raise ValueError(f"is ADDRESS:PORT, such as 127.0.0.1:8080 or [::]:8080, not {text!r}")
    return text


Address = Annotated[str, AfterValidator(_address)]
"""Where to listen; port 0 takes a free one."""


class OperatorConfig(_Section):
    """The file of an operator that serves a folder."""

    adapter: Literal["folder"] = "folder"
    voices: Path = Field(description="The folder with the YAML files.")
    status_directory: Path = Field(description="One JSON file per voice.")
    state_directory: Path = Field(description="Leadership, digests, events.")
    socket: Path = Field(description="Unix socket of the local API.")
    ready_file: Path | None = None
    fleet: FleetConfig
    tls: TlsFiles | None = Field(default=None, description="None: plain HTTP, for tests only.")
    log_format: LogFormat = "auto"
    idle_poll_s: Seconds = Field(default=60.0, gt=0, description="How often quiet pods are read, jittered.")
    listen: Address | None = Field(default=None, description="Plain HTTP: health, hooks. None: nowhere.")
    hooks: HooksConfig | None = None
    prometheus: PrometheusConfig | None = None
    console: ConsoleConfig | None = None

    @model_validator(mode="after")
    def _hooks_are_reachable(self) -> OperatorConfig:
        if self.hooks is not None and self.listen is None:
            raise ValueError("hooks needs listen, the address at which Alertmanager calls")
        return self


class LeaseConfig(_Section):
    """The Lease by which one of several operators leads."""

    name: Name = "segue-operator"
    namespace: Name = "segue-system"
    identity: str | None = Field(default=None, min_length=1, description="Default: host name and a random part.")
    duration_s: Seconds = Field(default=15.0, ge=1, description="Others take the Lease when it was silent for so long.")
    renew_deadline_s: Seconds = Field(default=10.0, gt=0, description="A leader that could not renew so long stops.")
    retry_s: Seconds = Field(default=2.0, gt=0, description="Pause between two attempts.")

    @model_validator(mode="after")
    def _ordered(self) -> LeaseConfig:
        if not self.retry_s < self.renew_deadline_s < self.duration_s:
            raise ValueError(
                f"needs retryS < renewDeadlineS < durationS, or two lead at once; "
                f"not {self.retry_s:g}, {self.renew_deadline_s:g}, {self.duration_s:g}"
            )
        return self


class SourceRule(_Section):
    """URIs that voices of some namespaces may name; the sidecars have an allow-list of their own."""

    namespaces: tuple[Name, ...] = Field(default=(), description="Empty: every namespace that may use the fleet.")
    uri_prefixes: tuple[str, ...] = Field(min_length=1, description="Complete up to a `/` or the end of a URI.")


class ClusterFleet(_Section):
    """A fleet whose pods are chosen by configuration and not by a label that tenants can set."""

    namespace: Name
    pod_selector: dict[str, str] = Field(min_length=1, description="Labels that a pod must have, all of them.")
    allowed_namespaces: tuple[Name | Literal["*"], ...] = Field(
        default=(), description='Namespaces whose voices may use it besides its own; "*": all.'
    )
    sources: tuple[SourceRule, ...] = Field(default=(), description="Empty: whatever the sidecars allow.")


class KubernetesConfig(_Section):
    """The file of an operator that serves a cluster."""

    adapter: Literal["kubernetes"]
    kubeconfig: Path | None = Field(
        default=None, description="None: the pod's service account, else $KUBECONFIG or ~/.kube/config."
    )
    context: str | None = Field(default=None, description="Context of the kubeconfig; None: its current one.")
    namespaces: tuple[Name, ...] = Field(default=(), description="Empty: the whole cluster.")
    lease: LeaseConfig = LeaseConfig()
    listen: Address = Field(default="127.0.0.1:8080", description="Plain HTTP: health, metrics, hooks.")
    ready_file: Path | None = None
    log_format: LogFormat = "auto"
    idle_poll_s: Seconds = Field(default=60.0, gt=0, description="How often quiet pods are read, jittered.")
    tls: TlsFiles | None = Field(default=None, description="None: plain HTTP to the sidecars, for tests only.")
    control_port: int = Field(default=8443, ge=1, le=65535, description="A container port `segue-control` wins.")
    max_concurrent_rollouts: int = Field(default=10, ge=1, description="Of a fleet.")
    fleets: dict[Name, ClusterFleet] = Field(default_factory=dict)
    hooks: HooksConfig | None = None
    prometheus: PrometheusConfig | None = None
    console: ConsoleConfig | None = None


AnyConfig = OperatorConfig | KubernetesConfig


def load_config(path: Path) -> AnyConfig:
    """Read YAML or JSON.

    Raises
    ------
    InvalidConfig
        The file cannot be read, is no YAML, or has a field that is unknown or wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = parse_chunk(Chunk(text=text, first_line=1), file=str(path))
        content = plain(node)
        model = _model_of(content)
        return model.model_validate(content)
    except OSError as error:
        raise InvalidConfig(f"{path} cannot be read: {error.strerror or error}") from error
    except InvalidVoiceModel as error:
        raise InvalidConfig(str(error)) from error
    except ValidationError as error:
        raise InvalidConfig("\n".join(_sentences(path, node, error))) from error
    except ValueError as error:
        raise InvalidConfig(f"{path}: {error}") from error


def _model_of(content: Any) -> type[OperatorConfig] | type[KubernetesConfig]:
    """By `adapter`, and not by pydantic's discriminator: its mistakes would name fields by adapter too."""
    match content.get("adapter", "folder") if isinstance(content, Mapping) else "folder":
        case "folder":
            return OperatorConfig
        case "kubernetes":
            return KubernetesConfig
        case other:
            raise ValueError(f"adapter: is folder or kubernetes, not {other!r}")


def _sentences(path: Path, node: Any, error: ValidationError) -> Iterator[str]:
    for mistake in error.errors(include_url=False):
        line, _ = line_of(node, mistake["loc"], first_line=1)
        field = ".".join(str(part) for part in mistake["loc"])
        message = "is no key that is known here" if mistake["type"] == "extra_forbidden" else mistake["msg"]
        message = message.removeprefix("Value error, ")
        yield f"{path}:{line}: {field}: {message}"
