"""The node's network: an address for itself, addresses for pods, and the way between them.

Separate because it is a choice: the plug-in `ptp` routes every packet between two pods through the node, so that
Services work without bridge netfilter, and whatever a pod dials can be seen by the node (`flows.py`).
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.support.node.packages import program

ADDRESS = "10.200.0.2"
PODS = "10.244.0.0/16"
POD_RANGE = "10.244.0.0/24"
GATEWAY = "10.244.0.1"
SERVICES = "10.96.0.0/16"
INTERFACE = "node0"


def bring_up() -> None:
    """Make the node's interface in this (empty) network namespace, and let it route."""
    ip = str(program("ip"))
    for command in (
        [ip, "link", "add", INTERFACE, "type", "veth", "peer", "name", f"{INTERFACE}-peer"],
        [ip, "link", "set", f"{INTERFACE}-peer", "up"],
        [ip, "addr", "add", f"{ADDRESS}/24", "dev", INTERFACE],
        [ip, "link", "set", INTERFACE, "up"],
        [ip, "route", "add", "default", "via", ADDRESS.rsplit(".", 1)[0] + ".1", "dev", INTERFACE],
    ):
        subprocess.run(command, check=True, capture_output=True)
    for name in ("ip_forward", "conf/all/route_localnet"):
        Path(f"/proc/sys/net/ipv4/{name}").write_text("1", encoding="ascii")


def write_plugins_config(folder: Path) -> Path:
    """What containerd reads; the folder with it."""
    folder.mkdir(parents=True, exist_ok=True)
    address_management = {"type": "host-local", "ranges": [[{"subnet": POD_RANGE}]], "routes": [{"dst": "0.0.0.0/0"}]}
    document = {
        "cniVersion": "0.4.0",
        "name": "segue",
        "plugins": [
            {"type": "ptp", "mtu": 1500, "ipam": address_management},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
    (folder / "10-segue.conflist").write_text(json.dumps(document, indent=2), encoding="utf-8")
    return folder
