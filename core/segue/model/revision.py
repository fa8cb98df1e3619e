"""What makes two versions of a voice the same: a hash over what is heard, and nothing else.

Separate and versioned because a thousand voices would roll if an operator upgrade changed one byte of it: golden hashes
are in the tests. URIs are not in it (a moved file changes no voice), nor is anything about how a version is rolled out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from segue.errors import InvalidVoiceModel
from segue.model.scalars import short as short
from segue.model.spec import VoiceSpec
from segue.model.status import RevisionSource
from segue.model.voice import VoiceModel

PROJECTION = "segue.dev/revision/v1"
"""Names the shape below. A change of shape is a new name, used only for voices that it does not roll."""


def canonical_hash(value: Any) -> str:
    """sha256 over canonical JSON: sorted keys, no spaces, UTF-8; whole floats are written as integers."""
    text = json.dumps(_normal(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _normal(value: Any) -> Any:
    """JSON has one kind of number: 1 and 1.0 must not be two revisions (YAML and the API server differ here)."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _normal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_normal(item) for item in value]
    return value


def revision_of(spec: VoiceSpec) -> str:
    """The revision of a spec, 64 hex digits.

    Raises
    ------
    InvalidVoiceModel
        A file has no digest; the message names the field.
    """
    return canonical_hash(_projection(spec))


def source_of(spec: VoiceSpec) -> RevisionSource:
    """What the history keeps of a spec, so that its revision can be had again."""
    return RevisionSource(
        revision=revision_of(spec), weights=dict(spec.weights), reference=spec.reference, options=dict(spec.options)
    )


def with_digests(voice: VoiceModel, digests: Mapping[str, str]) -> VoiceModel:
    """The voice with digests filled in where the spec gives none.

    Parameters
    ----------
    digests
        sha256 by field: `weights.NAME` and `reference`.
    """
    weights = {
        name: source if source.sha256 else source.model_copy(update={"sha256": digests.get(f"weights.{name}")})
        for name, source in voice.spec.weights.items()
    }
    reference = voice.spec.reference
    if reference is not None and reference.sha256 is None:
        reference = reference.model_copy(update={"sha256": digests.get("reference")})
    spec = voice.spec.model_copy(update={"weights": weights, "reference": reference})
    return voice.model_copy(update={"spec": spec})


def missing_digests(spec: VoiceSpec) -> dict[str, str]:
    """URIs of files without a digest, by field (`weights.NAME`, `reference`)."""
    missing = {f"weights.{name}": source.uri for name, source in spec.weights.items() if source.sha256 is None}
    if spec.reference is not None and spec.reference.sha256 is None:
        missing["reference"] = spec.reference.uri
    return missing


def _projection(spec: VoiceSpec) -> dict[str, Any]:
    for field, uri in missing_digests(spec).items():
        raise InvalidVoiceModel(
            f"is required for {uri}; run `segue pin` or write the file's sha256", field=f"spec.{field}.sha256"
        )
    projection: dict[str, Any] = {
        "projection": PROJECTION,
        "engine": spec.engine.value,
        "weights": {name: source.sha256 for name, source in spec.weights.items()},
    }
    if spec.options:
        projection["options"] = spec.options
    if spec.reference is not None:
        parts = {
            "sha256": spec.reference.sha256,
            "text": spec.reference.text,
            "language": spec.reference.language,
        }
        projection["reference"] = {key: value for key, value in parts.items() if value is not None}
    return projection
