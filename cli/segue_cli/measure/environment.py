"""Where and how a figure was measured, and writing it down.

Separate because a figure without machine, commit and command is an anecdote; every report carries them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def environment() -> dict[str, Any]:
    """Machine, versions, commit and command of this process, as plain JSON."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", *_module_and_arguments()]),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("segue", "numpy", "fastapi", "uvicorn", "pydantic")},
    }


def write_report(path: Path, figures: Mapping[str, Any], measured_in: Mapping[str, Any]) -> None:
    """Write figures and their environment as JSON; NaN (nothing measured) becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(_without_nan({**figures, "environment": measured_in}), indent=2, ensure_ascii=False)
    partial = path.with_suffix(".partial")
    partial.write_text(content + "\n", encoding="utf-8")
    partial.rename(path)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    if isinstance(value, float) and value != value:
        return None
    return value


def _module_and_arguments() -> list[str]:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    name = spec.name if spec is not None else Path(sys.argv[0]).name
    return [name.removesuffix(".__main__"), *sys.argv[1:]]


def _commit() -> str:
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return answer.stdout.strip() or "unknown"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
