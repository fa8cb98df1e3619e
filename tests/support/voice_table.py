"""VoiceModels that are invalid in one way each, and valid ones by the hundred.

The same table goes through `segue.model` (tests/unit) and through a real API server (tests/integration): whoever runs
`segue validate` must hear what `kubectl apply` would say. Bounds and types are taken from the schema of the CRD, so a
new field is in the table by itself; rules are written by hand.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.support.voices import digest

from segue.model.crd import crd

Document = dict[str, Any]
Path = tuple[str | int, ...]

_UNHEARD_OF = "unheardOf"
_LONG_NAME = "a" * 64


class _Absent:
    """The field is left out."""


ABSENT = _Absent()


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalid:
    """A document that is wrong in one place.

    Attributes
    ----------
    name
        Of the row.
    field
        What both answers must name.
    in_a_folder
        Whether a folder may say this: digests are computed there.
    """

    name: str
    document: Document
    field: str
    in_a_folder: bool = False


def whole_document() -> Document:
    """A valid voice that says everything that can be said."""
    window = {"schedule": "0 2 * * MON-FRI", "duration": "3h", "timeZone": "Asia/Shanghai"}
    spec = {
        "engine": "demo",
        "fleet": "default",
        "options": {"language": "en", "speed": 1.25, "steps": 4, "denoise": True},
        "weights": {"acoustic": {"uri": "s3://voices/acoustic.npz", "sha256": digest("acoustic")}},
        "reference": {"uri": "s3://voices/ref.wav", "sha256": digest("ref"), "text": "Hello.", "language": "en"},
        "verification": {
            "cases": [{"text": "Good morning.", "language": "en-GB"}],
            "minSimilarity": 0.85,
            "minPassRatio": 0.95,
            "maxTextErrorRate": 0.25,
            "signature": {"required": True, "uri": "s3://voices/bundle.json"},
        },
        "continuity": {"maxLoudnessDelta": "2LU", "maxPitchDelta": "1.5st", "maxPaceDelta": "10%", "action": "Refuse"},
        "rollout": {
            "preloadWindow": window,
            "switchWindow": window,
            "preloadWaves": [1, "25%", "100%"],
            "canary": {
                "mode": "Mirror",
                "steps": ["1%", "5.5%", "50%"],
                "successes": 200,
                "maxErrorRate": 0.002,
                "maxErrors": 5,
                "timeout": "1h30m",
                "insufficientTraffic": "Hold",
            },
            "consistency": "utterance",
            "approval": "Manual",
            "together": True,
            "maxFailedPods": 2,
            "progressDeadline": "15m",
            "paused": True,
        },
        "watch": {
            "duration": "20m",
            "maxErrorRate": 0.02,
            "sustainedFor": "2m30s",
            "minRequests": 100,
            "minErrors": 4,
            "insufficientTraffic": "Proceed",
            "queries": [{"name": "too-slow", "promql": "vector(1) > 2"}],
        },
        "rollback": {"mode": "StatusOnly", "keepWarm": "48h"},
        "residency": {"tier": "warm"},
    }
    return {
        "apiVersion": "segue.dev/v1alpha1",
        "kind": "VoiceModel",
        "metadata": {"name": "narrator", "namespace": "default"},
        "spec": spec,
    }


def changed(document: Document, path: Path, value: Any) -> Document:
    """A copy with one place changed, or left out."""
    result = copy.deepcopy(document)
    *parents, last = path
    node: Any = result
    for part in parents:
        node = node[part]
    if value is ABSENT:
        del node[last]
    else:
        node[last] = value
    return result


def field_name(path: Path) -> str:
    """`spec.rollout.canary.steps[0]`, as both sides write it."""
    text = str(path[0])
    for part in path[1:]:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text


def table() -> list[Invalid]:
    """Every row."""
    return [*_from_schema(), *_by_hand()]


def _by_hand() -> Iterator[Invalid]:
    """What rules forbid, as opposed to bounds: (path in the document, values, what is named if not the path)."""
    window = ("spec", "rollout", "preloadWindow")
    canary = ("spec", "rollout", "canary")
    watch = ("spec", "watch")
    rows: list[tuple[Path, list[Any], str]] = [
        (("metadata", "name"), ["nar.rator", _LONG_NAME], "metadata.name"),
        (("spec", "weights"), [{_LONG_NAME: _file()}, {"Acoustic": _file()}, {"a_b": _file()}], "weights"),
        (("spec", "options", "speed"), [[], [1], {}, {"a": 1}], ""),
        (("spec", "weights", "acoustic", "sha256"), ["abc", digest("x").upper(), f"sha256:{digest('x')}"], ""),
        (("spec", "verification", "minSimilarity"), [True, "often", -0.1, 1.1, [], {}, [0.9]], ""),
        (("spec", "continuity", "maxLoudnessDelta"), ["2", "2dB", "-1LU", "1.2345LU"], ""),
        (("spec", "continuity", "maxPitchDelta"), ["1", "1LU", "st"], ""),
        (("spec", "continuity", "maxPaceDelta"), ["101%", "-1%", "10", "10%\n", 0.1], ""),
        ((*window, "schedule"), ["0 2 * *", "@daily midnight", "0 2 * * * *"], ""),
        ((*window, "schedule"), ["60 2 * * *", "*/0 2 * * *", "0,61 2 * * *", "MON 2 * * *"], ""),
        ((*window, "schedule"), ["0 24 * * *", "0 2,30 * * *", "0 2-25 * * *"], ""),
        ((*window, "schedule"), ["0 2 0 * *", "0 2 32 * *", "0 2 W * *"], ""),
        ((*window, "schedule"), ["0 2 * 13 *", "0 2 * 0 *", "0 2 * MAI *"], ""),
        ((*window, "schedule"), ["0 2 * * 8", "0 2 * * MON-5", "0 2 * * FRI#6", "0 2 * * L"], ""),
        ((*window, "schedule"), ["30-10 2 * * *", "0 2 * * FRI-MON", "0 2 * DEC-feb/2 *"], ""),
        ((*window, "schedule"), ["0 2 30 2 *", "0 2 31 4,6 *", "0 2 30-31 FEB *"], ""),
        ((*window, "duration"), ["59s", "168h1s", "0s", "3 h", "1d"], ""),
        ((*window, "timeZone"), ["Mars/Base", "Local", "+02:00", "", "Asia Shanghai"], ""),
        (("spec", "rollout", "preloadWaves"), [[0], [1, "0%"], ["00%"]], ""),
        (("spec", "rollout", "preloadWaves", 0), ["25", "101%", 1.5, -1, 100_001, True], ""),
        (("spec", "rollout", "maxFailedPods"), ["5.5%", "a few", -1, 100_001, True], ""),
        (("spec", "rollout", "progressDeadline"), ["0s", "24h1s", "1s1m", "10"], ""),
        ((*canary, "steps"), [["50%", "5%"], ["5%", "5.0%"], ["0%"], ["0.00%", "5%"]], ""),
        ((*canary, "steps", 0), [5, 0.05, "5", "100.01%", "5.123%"], ""),
        ((*canary, "timeout"), ["0s", "168h1s", "soon", "10m\n"], ""),
        ((*watch, "duration"), ["0s", "169h", "1.5h"], ""),
        ((*watch, "sustainedFor"), ["0s", "1h1s"], ""),
        ((*watch, "sustainedFor"), ["21m"], "sustainedFor"),
        ((*watch, "minErrors"), [101], "minErrors"),
        ((*watch, "queries"), [[_query("same"), _query("same")]], "queries"),
        ((*watch, "queries", 0, "name"), ["Too_Slow", _LONG_NAME, ""], ""),
        (("spec", "rollback", "keepWarm"), ["168h1s", "1w"], ""),
    ]
    for path, values, named in rows:
        for value in values:
            shown = repr(value) if len(repr(value)) < 40 else f"{repr(value)[:36]}..."
            document = changed(whole_document(), path, value)
            yield Invalid(name=f"{field_name(path)}={shown}", document=document, field=named or field_name(path))


def _file() -> Document:
    return {"uri": "s3://voices/x.npz", "sha256": digest("x")}


def _query(name: str) -> Document:
    return {"name": name, "promql": "vector(1)"}


def _from_schema() -> Iterator[Invalid]:
    """One row for each limit of each field."""
    schema: Document = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    whole = whole_document()
    for path, node in _nodes(schema, whole["spec"], ("spec",)):
        for what, value in _beyond(node, _at(whole, path)):
            yield _row(whole, path, value, what)
        for name in node.get("required", ()):
            yield _row(whole, (*path, name), ABSENT, "left out")
        if "properties" in node:
            yield _row(whole, (*path, _UNHEARD_OF), 1, "unknown")


def _row(whole: Document, path: Path, value: Any, what: str) -> Invalid:
    computed = value is ABSENT and path[-1] == "sha256"
    return Invalid(
        name=f"{field_name(path)}: {what}",
        document=changed(whole, path, value),
        field=field_name(path),
        in_a_folder=computed,
    )


def _nodes(node: Document, value: Any, path: Path) -> Iterator[tuple[Path, Document]]:
    """Every place of the whole document, with its schema."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _nodes(child, value[name], (*path, name))
    if "items" in node:
        yield from _nodes(node["items"], value[0], (*path, 0))
    if isinstance(node.get("additionalProperties"), dict):
        name = next(iter(value))
        yield from _nodes(node["additionalProperties"], value[name], (*path, name))


def _at(document: Document, path: Path) -> Any:
    node: Any = document
    for part in path:
        node = node[part]
    return node


_OTHER_TYPE: dict[str, tuple[Any, ...]] = {
    "string": (7, True),
    "integer": ("7", 1.5, True),
    "number": ("0.5", True),
    "boolean": ("yes", 1),
    "object": ("text", []),
    "array": ("text", {}),
}


def _beyond(node: Document, value: Any) -> Iterator[tuple[str, Any]]:
    """Values just outside each limit, with a name for the limit."""
    for wrong in _OTHER_TYPE.get(node.get("type", ""), ()):
        yield f"{wrong!r} for a {node['type']}", wrong
    if "enum" in node:
        yield "not in the enum", "Nonsense"
    if "type" in node and "minimum" in node:
        yield "under the minimum", node["minimum"] - (0 if node.get("exclusiveMinimum") else 1)
    if "type" in node and "maximum" in node:
        yield "over the maximum", node["maximum"] + (1 if node["type"] == "integer" else 0.001)
    if node.get("minLength"):
        yield "too short", "x" * (node["minLength"] - 1)
    if node.get("type") == "string" and "maxLength" in node:
        yield "too long", "x" * (node["maxLength"] + 1)
    if node.get("type") == "string" and "pattern" in node:
        yield "not in the pattern", "§ $"
    yield from _beyond_sizes(node, value)


def _beyond_sizes(node: Document, value: Any) -> Iterator[tuple[str, Any]]:
    if node.get("type") == "array":
        if node.get("minItems"):
            yield "too few", []
        if "maxItems" in node:
            yield "too many", [value[0]] * (node["maxItems"] + 1)
    if node.get("type") == "object":
        if node.get("minProperties"):
            yield "too few", {}
        if "maxProperties" in node:
            one = next(iter(value.values()))
            yield "too many", {f"name-{index}": one for index in range(node["maxProperties"] + 1)}


def valid_documents(count: int, *, seed: int) -> list[Document]:
    """Different valid voices: each field is drawn, or left out for its default.

    Values are in the form in which Segue writes them (`1h30m`, not `90m`), so that documents can be compared.
    """
    draw = random.Random(seed)
    return [_valid(draw, index) for index in range(count)]


def _valid(draw: random.Random, index: int) -> Document:
    whole = whole_document()
    spec = _thinned(whole["spec"], draw, keep=("engine", "weights"))
    for section, fields in _CHOICES.items():
        node: Any = spec
        for part in section:
            node = node.get(part, {})
        for name, choices in fields.items():
            if name in node:
                node[name] = copy.deepcopy(draw.choice(choices))
    _made_to_fit(spec)
    return {**whole, "metadata": {"name": f"voice-{index}", "namespace": "default"}, "spec": spec}


def _thinned(node: Document, draw: random.Random, keep: tuple[str, ...] = ()) -> Document:
    """Each optional field is there or not; of a file, a case, a window or a query everything stays."""
    if {"uri", "text", "schedule", "promql"} & set(node):
        return node
    kept = {name: child for name, child in node.items() if name in keep or draw.random() < 0.6}
    return {name: _thinned(child, draw) if isinstance(child, dict) else child for name, child in kept.items()}


def _made_to_fit(spec: Document) -> None:
    """Fields that bound each other are drawn together, or not at all."""
    watch = spec.get("watch", {})
    for name in ("duration", "sustainedFor", "minRequests", "minErrors"):
        watch.pop(name, None)
    if "maxErrorRate" in watch:
        watch |= {"duration": "1h", "sustainedFor": "1h", "minRequests": 7, "minErrors": 7}


_WINDOWS = [
    {"schedule": schedule, "duration": duration, "timeZone": zone}
    for schedule, duration, zone in (
        ("0 2 * * *", "1m", "UTC"),
        ("*/15 0-6/2 1,15,L * mon-fri", "168h", "America/Argentina/Buenos_Aires"),
        ("59  23 LW JAN-MAR,12 SUN#5,7L", "24h", "Etc/GMT+7"),
        ("5/10 2 29 2 *", "1h30m", "Asia/Shanghai"),
        ("0 2 31 2,3 *", "1h1s", "Europe/Berlin"),
    )
]
_CHOICES: dict[tuple[str, ...], dict[str, list[Any]]] = {
    (): {
        "engine": ["demo", "gpt-sovits"],
        "fleet": ["default", "a", "x" * 63, "gpu-24g"],
        "options": [{}, {"speed": 1}, {"speed": 0.5, "text": "", "flag": False, "wild": "ü" * 300}],
        "weights": [
            {f"part-{number}": {"uri": "u" * 2048, "sha256": digest(str(number))} for number in range(16)},
            {"a": {"uri": "file:///x", "sha256": digest("x")}},
        ],
        "reference": [
            {"uri": "x", "sha256": digest("r")},
            {"uri": "x", "sha256": digest("r"), "text": "ß" * 10_000, "language": "zh-Hant-TW"},
        ],
    },
    ("verification",): {
        "cases": [[], [{"text": "語" * 2000}] * 64],
        "minSimilarity": [0, 1, 0.5, "auto"],
        "minPassRatio": [0, 1, 0.123456],
        "maxTextErrorRate": [0, 1],
    },
    ("continuity",): {
        "maxLoudnessDelta": ["0LU", "999.999LU"],
        "maxPitchDelta": ["0.5st", "12st"],
        "maxPaceDelta": ["0%", "100%", "33.33%"],
    },
    ("rollout",): {
        "preloadWindow": _WINDOWS,
        "switchWindow": _WINDOWS,
        "preloadWaves": [["100%"], [1] * 10, [100_000, "1%"]],
        "maxFailedPods": [0, "0%", "100%", 100_000],
        "progressDeadline": ["1s", "24h", "1h30m"],
        "approval": ["Automatic", "Manual"],
    },
    ("rollout", "canary"): {
        "mode": ["Split", "Mirror", "Skip"],
        "steps": [["0.01%"], ["1%", "2%", "100%"], [f"{step}%" for step in range(1, 11)]],
        "successes": [1, 1_000_000],
        "maxErrorRate": [0.000001, 1],
        "maxErrors": [1, 100_000],
        "timeout": ["1s", "168h"],
    },
    ("watch",): {"maxErrorRate": [0.000001, 1], "queries": [[], [_query(f"q-{number}") for number in range(16)]]},
    ("rollback",): {"mode": ["Auto", "RevertSpec", "StatusOnly"], "keepWarm": ["0s", "168h"]},
    ("residency",): {"tier": ["hot", "warm", "cold"]},
}
