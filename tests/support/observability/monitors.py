"""A Prometheus and an Alertmanager of our own on loopback, as processes that end with us.

Configured as the documents say: scraping as the chart's PodMonitors would, and Alertmanager's route as in
docs/rollouts.md, with shorter waits.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from ruamel.yaml import YAML
from tests.support.debian_packages import home_of, obtain
from tests.support.observability.shortened import SCRAPE_S

from segue_cli.up.ports import free_port

READY_S = 30.0
POLL_S = 0.1
STOP_S = 10.0
STEP_S = 2 * SCRAPE_S
ASK_S = 30.0


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Answers questions about the run."""

    url: str

    def over(self, expr: str, *, start_s: float, end_s: float) -> list[dict[str, Any]]:
        """The series that an expression had at any time; those that were never a number are left out.

        Raises
        ------
        AssertionError
            Prometheus does not take the expression.
        """
        query = {"query": expr, "start": start_s, "end": end_s, "step": STEP_S}
        answer = httpx.post(f"{self.url}/api/v1/query_range", data=query, timeout=ASK_S).json()
        assert answer["status"] == "success", f"{expr}: {answer}"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return [series for series in found if any(value != "NaN" for _, value in series["values"])]

    def now(self, expr: str) -> list[dict[str, Any]]:
        """What it is at the moment."""
        answer = httpx.post(f"{self.url}/api/v1/query", data={"query": expr}, timeout=ASK_S).json()
        assert answer["status"] == "success", f"{expr}: {answer}"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def unhealthy_rules(self) -> list[str]:
        """Rules that it could not evaluate, with why."""
        groups = httpx.get(f"{self.url}/api/v1/rules", timeout=ASK_S).json()["data"]["groups"]
        return [
            f"{rule['name']}: {rule.get('lastError', rule['health'])}"
            for group in groups
            for rule in group["rules"]
            if rule["health"] != "ok"
        ]


@contextmanager
def monitoring(
    folder: Path, *, targets: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, Any]], hook: str, token: Path
) -> Iterator[Prometheus]:
    """Both, while the block runs.

    Parameters
    ----------
    targets
        `static_configs` of Prometheus, one a process.
    hook, token
        The operator's webhook and the file with its token.
    """
    alertmanager, prometheus = free_port(), free_port()
    _write(folder / "alertmanager.yml", _alertmanager_config(hook, token))
    _write(folder / "rules.yml", {"groups": list(groups)})
    _write(folder / "prometheus.yml", _prometheus_config(targets, alertmanager))
    with (
        _running(
            "prometheus-alertmanager",
            folder,
            alertmanager,
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}",
            "--cluster.listen-address=",
        ),
        _running(
            "prometheus",
            folder,
            prometheus,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
        ),
    ):
        yield Prometheus(f"http://127.0.0.1:{prometheus}")


def version_of(name: str) -> str:
    """The first line of what it says of itself."""
    done = subprocess.run([str(obtain(name)), "--version"], capture_output=True, text=True, timeout=30, check=True)
    return (done.stdout + done.stderr).splitlines()[0].partition(" (")[0]


def _prometheus_config(targets: Sequence[Mapping[str, Any]], alertmanager: int) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]},
        "scrape_configs": [{"job_name": "segue", "static_configs": list(targets)}],
    }


def _alertmanager_config(hook: str, token: Path) -> dict[str, Any]:
    return {
        "route": {
            "receiver": "people",
            "routes": [
                {
                    "matchers": ['segue_voice!=""'],
                    "receiver": "segue",
                    "continue": True,
                    "group_by": ["segue_namespace", "segue_voice"],
                    "group_wait": "0s",
                    "group_interval": "1s",
                    "repeat_interval": "5m",
                }
            ],
        },
        "receivers": [
            {"name": "people"},
            {
                "name": "segue",
                "webhook_configs": [
                    {
                        "url": hook,
                        "send_resolved": True,
                        "max_alerts": 500,
                        "http_config": {"authorization": {"credentials_file": str(token)}},
                    }
                ],
            },
        ],
    }


@contextmanager
def _running(name: str, folder: Path, port: int, *arguments: str) -> Iterator[None]:
    program = obtain(name)
    command = [str(program), *arguments, f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (folder / f"{name}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=home_of(program))
    try:
        _wait_ready(process, f"http://127.0.0.1:{port}/-/ready", folder / f"{name}.log")
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if httpx.get(url, timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(POLL_S)
    raise AssertionError(f"{url} is not ready: {log.read_text(encoding='utf-8')[-2000:]}")


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(dict(content), file)
