"""The three configuration files that `segue up` writes, one for each process it starts.

Separate because they are the contract with those processes: the same files, with other values, are what Helm mounts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segue.tls import KeyPairFiles
from segue_cli.layout import Layout
from segue_cli.shared_models import ENGINE

FLEET = "default"
NAMESPACE = "default"
POD_NAME = "local"
IDLE_POLL_S = 5.0


@dataclass(frozen=True, slots=True)
class Hooks:
    """By which token and where Alertmanager may call."""

    token_file: Path
    host: str
    port: int

    @property
    def listen(self) -> str:
        """`ADDRESS:PORT`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ConsolePlan:
    """Where the console is served, and which tokens let people act on it."""

    port: int
    token_file: Path

    @property
    def url(self) -> str:
        """For a browser on this machine."""
        return f"http://127.0.0.1:{self.port}/"


@dataclass(frozen=True, slots=True)
class PrometheusAccess:
    """Where `watch.queries` are evaluated."""

    url: str
    token_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one `segue up` is to be.

    Attributes
    ----------
    status_port, control_port, sidecar_status_port, operator_status_port
        Free ports on 127.0.0.1, chosen once, so that a process that is started again is where it was. Where the
        operator listens for Alertmanager it shows its figures as well; without either it shows none.
    allow
        URI prefixes that voices may name, beside their own folder.
    models
        Folder of the models that all voices of gpt-sovits share.
    own_address
        Where everything but the speech API is listened for.
    pod_name, namespace, fleet
        Who the sidecar is; the integration suite runs several of them as pods of a cluster.
    """

    layout: Layout
    voices: Path
    host: str
    port: int
    status_port: int
    control_port: int
    sidecar_status_port: int
    pod_uid: str
    budget_bytes: int
    models: Path | None = None
    workers: int | None = None
    keys_file: Path | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    references: Sequence[Path] = ()
    allow: Sequence[str] = ()
    trusted_keys: Sequence[str] = ()
    log_format: Literal["auto", "text", "json"] = "text"
    own_address: str = "127.0.0.1"
    pod_name: str = POD_NAME
    namespace: str = NAMESPACE
    fleet: str = FLEET
    operator_status_port: int | None = None
    hooks: Hooks | None = None
    prometheus: PrometheusAccess | None = None
    console: ConsolePlan | None = None

    @property
    def operator_listen(self) -> str | None:
        """`ADDRESS:PORT` of the operator's plain listener: figures, and alerts where a token is set."""
        if self.hooks is not None:
            return self.hooks.listen
        return f"{self.own_address}:{self.operator_status_port}" if self.operator_status_port is not None else None

    @property
    def metrics(self) -> Mapping[str, str]:
        """Where each process shows its figures, for somebody on this machine."""
        found = {
            "server": f"http://{self.own_address}:{self.status_port}/metrics",
            "sidecar": f"http://{self.own_address}:{self.sidecar_status_port}/metrics",
        }
        if self.operator_listen is not None:
            host, _, port = self.operator_listen.rpartition(":")
            found["operator"] = f"http://{_reachable(host)}:{port}/metrics"
        return found

    @property
    def sidecar_config(self) -> Path:
        """Where the sidecar's file is."""
        return self.layout.run / "sidecar.json"

    @property
    def server_config(self) -> Path:
        """Where the server's file is."""
        return self.layout.run / "server.json"

    @property
    def operator_config(self) -> Path:
        """Where the operator's file is."""
        return self.layout.run / "operator.json"

    @property
    def url(self) -> str:
        """Where the speech API answers, for somebody on this machine."""
        return f"http://{_reachable(self.host)}:{self.port}"


def _reachable(host: str) -> str:
    """An address as a URL has it, for somebody on this machine: who listens everywhere listens on loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def ready_file(layout: Layout, name: str) -> Path:
    """Where a process says that it serves."""
    return layout.run / f"{name}.ready.json"


def write_configs(plan: Plan, *, operator_tls: KeyPairFiles, sidecar_tls: Path) -> None:
    """Write all three."""
    write_pod_configs(plan, sidecar_tls=sidecar_tls)
    _write(plan.operator_config, _operator(plan, operator_tls))


def write_pod_configs(plan: Plan, *, sidecar_tls: Path) -> None:
    """Write those of sidecar and server."""
    _write(plan.sidecar_config, _sidecar(plan, sidecar_tls))
    _write(plan.server_config, _server(plan))


def _sidecar(plan: Plan, tls: Path) -> dict[str, Any]:
    layout = plan.layout
    shared = {"sharedModels": {ENGINE: {"directory": str(plan.models)}}} if plan.models is not None else {}
    return {
        **shared,
        "pod": {"uid": plan.pod_uid, "name": plan.pod_name, "namespace": plan.namespace, "fleet": plan.fleet},
        "controlListen": f"{plan.own_address}:{plan.control_port}",
        "statusListen": f"{plan.own_address}:{plan.sidecar_status_port}",
        "tls": {"directory": str(tls)},
        "handoffDirectory": str(layout.handoff),
        "journalDirectory": str(layout.journal),
        "cacheDirectory": str(layout.cache),
        "readyFile": str(ready_file(layout, "sidecar")),
        "pool": {"budgetBytes": plan.budget_bytes},
        "sources": [{"uriPrefixes": [plan.voices.as_uri(), *plan.allow], "privateAddresses": True}],
        "trustedKeys": list(plan.trusted_keys),
    }


def _server(plan: Plan) -> dict[str, Any]:
    host = f"[{plan.host}]" if ":" in plan.host else plan.host
    config: dict[str, Any] = {
        "listen": f"{host}:{plan.port}",
        "statusListen": f"{plan.own_address}:{plan.status_port}",
        "socketDir": str(plan.layout.handoff),
        "readyFile": str(ready_file(plan.layout, "server")),
        "aliases": dict(plan.aliases),
        "references": {"roots": [{"path": str(folder)} for folder in plan.references]},
    }
    if plan.workers is not None:
        config["workers"] = plan.workers
    if plan.keys_file is not None:
        config["keysFile"] = str(plan.keys_file.resolve())
    return config


def _operator(plan: Plan, tls: KeyPairFiles) -> dict[str, Any]:
    layout = plan.layout
    url = f"https://{plan.own_address}:{plan.control_port}"
    return {
        **_triggers(plan),
        **_console(plan),
        "adapter": "folder",
        "voices": str(plan.voices),
        "statusDirectory": str(layout.status),
        "stateDirectory": str(layout.root / "operator"),
        "socket": str(layout.operator_socket),
        "readyFile": str(ready_file(layout, "operator")),
        "fleet": {
            "name": plan.fleet,
            "namespace": plan.namespace,
            "pods": [{"url": url, "uid": plan.pod_uid, "name": plan.pod_name}],
        },
        "tls": {"cert": str(tls.cert), "key": str(tls.key), "ca": str(tls.ca)},
        "logFormat": plan.log_format,
        "idlePollS": IDLE_POLL_S,
    }


def _triggers(plan: Plan) -> dict[str, Any]:
    sections: dict[str, Any] = {}
    if plan.operator_listen is not None:
        sections["listen"] = plan.operator_listen
    if plan.hooks is not None:
        sections["hooks"] = {"tokenFile": str(plan.hooks.token_file)}
    if plan.prometheus is not None:
        sections["prometheus"] = {"url": plan.prometheus.url}
        if plan.prometheus.token_file is not None:
            sections["prometheus"]["tokenFile"] = str(plan.prometheus.token_file)
    return sections


def _console(plan: Plan) -> dict[str, Any]:
    if plan.console is None:
        return {}
    speech = {"url": plan.url, "metricsUrl": f"http://{plan.own_address}:{plan.status_port}"}
    listen = f"{plan.own_address}:{plan.console.port}"
    return {"console": {"listen": listen, "tokenFile": str(plan.console.token_file), "speech": speech}}


def _write(path: Path, config: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    temporary.chmod(0o600)
    temporary.replace(path)
