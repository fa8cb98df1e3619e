"""What `OTEL_*` variables say of where spans go and of which there are.

Separate because it is all that is read of them. Names, defaults and what is done with nonsense (a warning, and the
default) are those of https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ and
https://opentelemetry.io/docs/specs/otel/protocol/exporter/.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal
from urllib.parse import unquote, urlsplit

from segue.errors import SegueError

OF_TRACES = "OTEL_EXPORTER_OTLP_TRACES_"
OF_ALL = "OTEL_EXPORTER_OTLP_"
PATH = "v1/traces"

Compression = Literal["none", "gzip", "deflate"]

_COMPRESSIONS: dict[str, Compression] = {"none": "none", "gzip": "gzip", "deflate": "deflate"}
_SAMPLERS = ("always_on", "always_off", "traceidratio")
_LOW_64 = (1 << 64) - 1

log = logging.getLogger(__name__)


class EndpointRejected(SegueError):
    """Nothing can be sent to what is configured as the receiver."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """Of which traces there are spans: all, none, or a share that every process chooses alike."""

    ratio: float = 1.0
    follows_parent: bool = True

    def takes(self, trace: int, *, parent_is_sampled: bool | None) -> bool:
        """Whether spans of a trace are made; `parent_is_sampled` is None for one that begins here."""
        if self.follows_parent and parent_is_sampled is not None:
            return parent_is_sampled
        return trace & _LOW_64 < round(self.ratio * (1 << 64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where spans go.

    Attributes
    ----------
    timeout_s
        For one batch, tries and pauses together.
    resource
        What is told of the process.
    queue_spans
        As many wait to be sent; more are dropped.
    batch_spans
        Most in one request; as soon as there are so many they are sent.
    delay_s
        After so long fewer are sent too.
    """

    url: str
    headers: Mapping[str, str]
    compression: Compression
    timeout_s: float
    ca_file: str | None
    certificate_file: str | None
    key_file: str | None
    resource: Mapping[str, str]
    sampler: Sampler
    queue_spans: int
    batch_spans: int
    delay_s: float


def read_settings(service: str, environment: Mapping[str, str]) -> Settings:
    """Of a process called `service`, unless the environment names it; there must be an endpoint.

    Raises
    ------
    EndpointRejected
        It is not an http or https URL.
    """

    def of_exporter(name: str) -> str:
        return environment.get(OF_TRACES + name, "") or environment.get(OF_ALL + name, "")

    queue_spans = int(_number(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 2048, least=1))
    batch_spans = int(_number(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, least=1))
    timeout_name = OF_TRACES + "TIMEOUT" if environment.get(OF_TRACES + "TIMEOUT") else OF_ALL + "TIMEOUT"
    return Settings(
        url=_url(environment),
        headers=_pairs(of_exporter("HEADERS")),
        compression=_compression(of_exporter("COMPRESSION")),
        timeout_s=_number(environment, timeout_name, 10.0, least=0.001),
        ca_file=of_exporter("CERTIFICATE") or None,
        certificate_file=of_exporter("CLIENT_CERTIFICATE") or None,
        key_file=of_exporter("CLIENT_KEY") or None,
        resource=_resource(service, environment),
        sampler=_sampler(environment),
        queue_spans=queue_spans,
        batch_spans=min(batch_spans, queue_spans),
        delay_s=_number(environment, "OTEL_BSP_SCHEDULE_DELAY", 5000, least=1) / 1000,
    )


def _url(environment: Mapping[str, str]) -> str:
    url = environment.get(OF_TRACES + "ENDPOINT", "")
    if not url:
        url = f"{environment.get(OF_ALL + 'ENDPOINT', '').removesuffix('/')}/{PATH}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EndpointRejected(f"traces cannot be sent to {url!r}: an endpoint is like http://127.0.0.1:4318")
    return url


def _resource(service: str, environment: Mapping[str, str]) -> dict[str, str]:
    sdk = {
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "segue",
        "telemetry.sdk.version": version("segue"),
        "service.name": service,
    }
    told = _pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    named = environment.get("OTEL_SERVICE_NAME")
    return {**sdk, **told, **({"service.name": named} if named else {})}


def _sampler(environment: Mapping[str, str]) -> Sampler:
    name = environment.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    bare = name.removeprefix("parentbased_")
    if bare not in _SAMPLERS:
        log.warning("OTEL_TRACES_SAMPLER is %r, which is none of %s: every request is traced", name, _SAMPLERS)
        return Sampler()
    ratio = {"always_on": 1.0, "always_off": 0.0}.get(bare)
    if ratio is None:
        ratio = _number(environment, "OTEL_TRACES_SAMPLER_ARG", 1.0, least=0.0, most=1.0)
    return Sampler(ratio, follows_parent=bare != name)


def _compression(text: str) -> Compression:
    name = text.strip().lower() or "none"
    if name not in _COMPRESSIONS:
        log.warning("traces are sent as they are: compression %r is none of %s", text, tuple(_COMPRESSIONS))
    return _COMPRESSIONS.get(name, "none")


def _number(
    environment: Mapping[str, str], name: str, default: float, *, least: float, most: float = float("inf")
) -> float:
    text = environment.get(name, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not (least <= number <= most and number < float("inf")):
        log.warning("%s is %r, which is no number from %g to %g: %g is used", name, text, least, most, default)
        return default
    return number


def _pairs(text: str) -> dict[str, str]:
    """`key=value,key=value`, with percent signs where a character would be misread."""
    found: dict[str, str] = {}
    for pair in filter(None, (each.strip() for each in text.split(","))):
        key, equals, value = pair.partition("=")
        if not key.strip() or not equals:
            log.warning("a pair of an OTEL_ variable is left out: it has no form key=value")  # it may be a secret
            continue
        found[unquote(key.strip())] = unquote(value.strip())
    return found
