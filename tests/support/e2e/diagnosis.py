"""What a failed test leaves for whoever has to find out why: the cluster as it was, in `build/e2e/TEST/`.

Separate from the tests because in CI nobody can look afterwards.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.cluster import TestCluster
from tests.support.e2e.place import Place
from tests.support.e2e.report import PATH

LOG_LINES = 400
LOOKS = {
    "pods.txt": ("get", "pods", "-A", "-o", "wide"),
    "voices.txt": ("describe", "vmodels", "-A"),
    "events.txt": ("get", "events", "-A", "--sort-by=.lastTimestamp"),
    "pods-described.txt": ("describe", "pods", "-A"),
}


def diagnose(place: Place, name: str) -> Path:
    """Write it down; the folder. Nothing that fails here hides why the test failed."""
    folder = PATH.parent / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, look in LOOKS.items():
        done = place.cluster.kubectl(*look, check=False)
        (folder / file).write_text(f"{done.stdout}{done.stderr}", encoding="utf-8")
    _write_logs(place.cluster, folder)
    if place.node is not None:
        for log in place.node.logs.glob("*.log"):
            (folder / log.name).write_bytes(log.read_bytes()[-200_000:])
    return folder


def _write_logs(cluster: TestCluster, folder: Path) -> None:
    listed = cluster.kubectl("get", "pods", "-A", "-o", "json", check=False)
    for body in json.loads(listed.stdout or '{"items": []}')["items"]:
        namespace, pod = body["metadata"]["namespace"], body["metadata"]["name"]
        containers = (*body["spec"].get("initContainers", ()), *body["spec"]["containers"])
        for container in (each["name"] for each in containers):
            for suffix, more in (("", ()), ("-before", ("--previous",))):
                place = ("-n", namespace, "logs", pod, "-c", container, f"--tail={LOG_LINES}", *more)
                said = cluster.kubectl(*place, check=False)
                if said.returncode == 0 and said.stdout:
                    (folder / f"{pod}-{container}{suffix}.log").write_text(said.stdout, encoding="utf-8")
