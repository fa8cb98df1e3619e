"""What the console is configured with: the `console` section of the operator's file.

Separate from the rest of the configuration because both adapters take the same section.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

Port = Annotated[int, Field(ge=1, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdigit() and int(port) < 65536):
        raise ValueError(f"is ADDRESS:PORT, such as 127.0.0.1:8090 or [::]:8090, not {text!r}")
    return text


def _base_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError(f"is http://HOST:PORT, not {text!r}")
    return text.rstrip("/")


class SpeechAccess(_Section):
    """Where sentences are spoken: one speech API that has every revision, or the server in each pod."""

    url: Annotated[str, AfterValidator(_base_url)] | None = Field(
        default=None, description="Of the one speech API (one machine). None: pods are asked, each at its own address."
    )
    port: Port = Field(default=8000, description="Of the speech API in each pod.")
    ports: dict[str, Port] = Field(default_factory=dict, description="By fleet, where it is another one.")
    metrics_url: Annotated[str, AfterValidator(_base_url)] | None = Field(
        default=None,
        description="Base URL of the server whose /metrics has the ranking; None: Prometheus, if there is one.",
    )


class ConsoleConfig(_Section):
    """The page. Without this section nothing of it is there."""

    listen: Annotated[str, AfterValidator(_address)] = Field(
        default="127.0.0.1:8090", description="Plain HTTP. Loopback is what `kubectl port-forward` reaches."
    )
    token_file: Path | None = Field(
        default=None, description="One bearer token a line; whoever has one may act. None: the page only shows."
    )
    hosts: tuple[str, ...] = Field(
        default=(), description="Host names by which a proxy of yours reaches it, besides loopback and `listen`."
    )
    speech: SpeechAccess | None = Field(default=None, description="None: nothing can be listened to.")

    @model_validator(mode="after")
    def _hosts_are_names(self) -> ConsoleConfig:
        for host in self.hosts:
            if not host or "/" in host or "*" in host or ":" in host.strip("[]").replace("::", ""):
                raise ValueError(f"hosts are names without scheme and port, such as console.example.org, not {host!r}")
        return self
