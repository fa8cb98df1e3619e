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

FLEET = "default"
NAMESPACE = "default"
POD_NAME = "local"
IDLE_POLL_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one `segue up` is to be.

    Attributes
    ----------
    status_port, control_port, sidecar_status_port
        Free ports on 127.0.0.1, chosen once, so that a process that is started again is where it was.
    allow
        URI prefixes that voices may name, beside their own folder.
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
    workers: int | None = None
    keys_file: Path | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    allow: Sequence[str] = ()
    trusted_keys: Sequence[str] = ()
    log_format: Literal["auto", "text", "json"] = "text"

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
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"


def ready_file(layout: Layout, name: str) -> Path:
    """Where a process says that it serves."""
    return layout.run / f"{name}.ready.json"


def write_configs(plan: Plan, *, operator_tls: KeyPairFiles, sidecar_tls: Path) -> None:
    """Write all three."""
    _write(plan.sidecar_config, _sidecar(plan, sidecar_tls))
    _write(plan.server_config, _server(plan))
    _write(plan.operator_config, _operator(plan, operator_tls))


def _sidecar(plan: Plan, tls: Path) -> dict[str, Any]:
    layout = plan.layout
    return {
        "pod": {"uid": plan.pod_uid, "name": POD_NAME, "namespace": NAMESPACE, "fleet": FLEET},
        "controlListen": f"127.0.0.1:{plan.control_port}",
        "statusListen": f"127.0.0.1:{plan.sidecar_status_port}",
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
        "statusListen": f"127.0.0.1:{plan.status_port}",
        "socketDir": str(plan.layout.handoff),
        "readyFile": str(ready_file(plan.layout, "server")),
        "aliases": dict(plan.aliases),
    }
    if plan.workers is not None:
        config["workers"] = plan.workers
    if plan.keys_file is not None:
        config["keysFile"] = str(plan.keys_file.resolve())
    return config


def _operator(plan: Plan, tls: KeyPairFiles) -> dict[str, Any]:
    layout = plan.layout
    url = f"https://127.0.0.1:{plan.control_port}"
    return {
        "adapter": "folder",
        "voices": str(plan.voices),
        "statusDirectory": str(layout.status),
        "stateDirectory": str(layout.root / "operator"),
        "socket": str(layout.operator_socket),
        "readyFile": str(ready_file(layout, "operator")),
        "fleet": {
            "name": FLEET,
            "namespace": NAMESPACE,
            "pods": [{"url": url, "uid": plan.pod_uid, "name": POD_NAME}],
        },
        "tls": {"cert": str(tls.cert), "key": str(tls.key), "ca": str(tls.ca)},
        "logFormat": plan.log_format,
        "idlePollS": IDLE_POLL_S,
    }


def _write(path: Path, config: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    temporary.chmod(0o600)
    temporary.replace(path)
