"""`docs/metrics.md`: every metric of every process, from what the process says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from tools.metrics.sample import texts

UNITS = {
    "timestamp_seconds": "Unix seconds",
    "seconds": "seconds",
    "bytes": "bytes",
    "ratio": "share of 1",
    "similarity": "cosine",
    "lu": "LU",
    "semitones": "semitones",
    "rows": "rows",
    "fds": "descriptors",
}
"""By how a name ends, as Prometheus' naming rules have it; everything else is a count."""

BOUNDS = {
    "voice": "`namespace/name` of a voice that exists; the server tells those of which a worker has a revision, "
    "1,000 at most, and adds the others up as `other`",
    "revision": "first ten digits; gone with the revision (the server adds it up as `past`)",
    "outcome": "how something ended, one of a list in the code",
    "class": "2xx, 4xx, 5xx",
    "worker": "a place among the workers, w0 and on",
    "kind": "a list in the code",
    "phase": "a list in the code",
    "reason": "a list in the code; at most 64 by the operator",
    "status": "of an HTTP answer",
    "verb": "of an API call",
    "code": "of an API server's answer; 0: none",
    "watch": "what is watched",
    "source": "where weights came from: `memory`, `disk`, `source`",
    "engine": "a name in the sidecar's configuration",
    "model": "a list in the engine's code",
}
"""Every label that a process sets, and why it cannot grow without end."""

EXPOSES = {
    "server": "`:8001/metrics` of a server pod (`status`)",
    "sidecar": "`:8081/metrics` of a server pod (`sidecar-status`)",
    "operator": "`:8080/metrics` of the operator (`http`)",
}
HEAD = """\
<!-- Written by `make generate` from the collectors of the three processes; do not edit. -->
# Metrics

All that the processes tell Prometheus. `segue up` prints the three addresses; in a cluster the chart's PodMonitors
(`monitoring.podMonitors`) find the ports by name. What to do when one of them is out of bounds is in
[runbooks/](runbooks/), what to look at first in the dashboards (`monitoring.dashboards`).

Use and memory of GPUs are not in it: NVIDIA's dcgm-exporter tells them by pod, from outside, where a process that hangs
cannot be asked. What a worker takes of CPU and memory is read from the kernel for the same reason.

Histograms are classic ones. Series of a revision end when no worker has it any more: what it counted is added to
`revision="past"` in one scrape, so leave that out of every rate. Counters begin at 0 with their process.
"""


@dataclass(frozen=True, slots=True, order=True)
class Described:
    """One metric of one process."""

    name: str
    kind: str
    labels: tuple[str, ...]
    unit: str
    meaning: str


def described(text: str) -> list[Described]:
    """Every metric of an exposition by its name, the processes' own first."""
    found = [
        Described(
            name=_told_name(family.name, family.type),
            kind=family.type,
            labels=tuple(dict.fromkeys(label for each in family.samples for label in each.labels if label != "le")),
            unit=_unit(family.name),
            meaning=family.documentation,
        )
        for family in text_string_to_metric_families(text)
        if not family.name.endswith("_created")
    ]
    return sorted(found, key=lambda each: (each.name.startswith("process_"), each.name))


def render_page() -> str:
    """The page."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield HEAD
    for process, text in texts().items():
        yield f"## {process.capitalize()}\n"
        yield f"At {EXPOSES[process]}.\n"
        yield "| name | type | labels | unit | meaning |"
        yield "|---|---|---|---|---|"
        for each in described(text):
            labels = ", ".join(f"`{label}`" for label in each.labels)
            yield f"| `{each.name}` | {each.kind} | {labels} | {each.unit} | {each.meaning} |"
        yield ""
    yield "## Labels\n"
    yield "| label | values |"
    yield "|---|---|"
    for label, values in sorted(BOUNDS.items()):
        yield f"| `{label}` | {values} |"
    yield ""


def _told_name(family: str, kind: str) -> str:
    return f"{family}_total" if kind == "counter" and not family.endswith("_total") else family


def _unit(name: str) -> str:
    return next((unit for ending, unit in UNITS.items() if name.endswith(f"_{ending}")), "")
