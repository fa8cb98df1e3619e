"""Documents of voices with sensible defaults, for tests that care about one field."""

from __future__ import annotations

import hashlib
from typing import Any

from segue.model import VoiceModel, revision_of

KEY = "default/narrator"


def digest(text: str) -> str:
    """A stable sha256 for a name."""
    return hashlib.sha256(text.encode()).hexdigest()


def voice_document(version: str = "v1", **sections: Any) -> dict[str, Any]:
    """A VoiceModel whose weights are called after the version.

    Parameters
    ----------
    sections
        Further sections of the spec, such as `rollout={...}`.
    """
    weights = {"acoustic": {"uri": f"file:///voices/{version}.npz", "sha256": digest(version)}}
    return {
        "apiVersion": "segue.dev/v1alpha1",
        "kind": "VoiceModel",
        "metadata": {"name": "narrator", "namespace": "default"},
        "spec": {"engine": "demo", "weights": weights, **sections},
    }


def voice(version: str = "v1", **sections: Any) -> VoiceModel:
    """The same, read."""
    return VoiceModel.parse(voice_document(version, **sections))


def revision(version: str) -> str:
    """The revision of a version."""
    return revision_of(voice(version).spec)
