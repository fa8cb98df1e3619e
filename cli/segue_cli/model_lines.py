"""How the shared models of an engine are shown: which are there and how large, which are not and what that disables.

Separate because `get`, `describe` and `up` say it in the same words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def models_line(models: Mapping[str, Any]) -> str:
    """One line for one engine on one pod."""
    return f"shared models of {models['engine']}: {'; '.join(_clauses(models))}"


def models_lines(each: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each engine; pods that say the same are counted and not listed."""
    pods: dict[str, list[str]] = {}
    for models in each:
        pods.setdefault(models_line(models), []).append(str(models["pod"]))
    return [line if len(pods) == 1 else f"{line} (on {', '.join(names)})" for line, names in pods.items()]


def _clauses(models: Mapping[str, Any]) -> Iterable[str]:
    fraction = models["progress"]["fraction"]
    percent = f" {fraction:.0%}" if 0 < fraction < 1 else ""
    why = models["message"] or models["reason"]
    if models["phase"] != "Ready":
        yield f"{models['phase']}{percent}{f': {why}' if why else ''} (from {models['source']})"
    there = [f"{part['name']} {part['sizeBytes'] / 1e6:.1f} MB" for part in models["parts"]]
    if there:
        yield ", ".join(there)
    elif models["phase"] == "Ready":
        yield f"none in {models['source']}"
    for model, missing in models["absent"].items():
        yield f"absent: {model} ({missing})"
