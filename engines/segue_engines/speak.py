"""Speech in one call, for the command line and the probes: the loop that a server runs for many rows at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.engine import (
    Device,
    Engine,
    PartView,
    PreparedModels,
    PreparedPart,
    PreparedVoice,
    PrepareOptions,
    ReferenceInput,
    SynthesisRequest,
    Synthesizer,
    VoiceView,
)


def synthesize(synthesizer: Synthesizer, request: SynthesisRequest) -> NDArray[np.float32]:
    """Speak a whole request; `(samples,) float32` at the synthesizer's rate.

    Raises
    ------
    TextRejected
        The text cannot be read.
    Exception
        Whatever stopped the row.
    """
    row = synthesizer.admit(request)
    try:
        pieces: list[NDArray[np.float32]] = []
        while not row.done:
            synthesizer.step([row])
            pieces.append(row.take())
        if row.error is not None:
            raise row.error
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    finally:
        row.close()


def view_of(
    voice: PreparedVoice, *, options: Mapping[str, Any] | None = None, shared: Mapping[str, PartView] | None = None
) -> VoiceView:
    """See a prepared voice as a worker would see it in an arena, without one."""
    return VoiceView(parts=_views(voice.parts), options=options or {}, shared=shared or {})


def shared_views(models: PreparedModels) -> dict[str, PartView]:
    """See prepared shared models as `PrepareOptions.shared` and `VoiceView.shared` take them, without an arena."""
    return _views(models.parts)


def load_voice(
    engine: Engine,
    files: Mapping[str, Path],
    *,
    options: Mapping[str, Any] | None = None,
    reference: ReferenceInput | None = None,
    shared: Mapping[str, PartView] | None = None,
) -> Synthesizer:
    """Prepare and build a voice in this process, without arena or server."""
    prepared = engine.prepare(files, PrepareOptions(options=options or {}, reference=reference, shared=shared or {}))
    return engine.build(view_of(prepared, options=options, shared=shared), Device())


def _views(parts: Mapping[str, PreparedPart]) -> dict[str, PartView]:
    return {name: PartView(tensors=part.tensors, meta=part.meta) for name, part in parts.items()}
