"""What the original changes by request, and how it is changed here: each answer names the command.

Separate from speaking: nothing in here does anything. Weights that a client could swap would go past verification,
canary and rollback, and past whoever may change a voice.
"""

from __future__ import annotations

import shlex

from segue.memory.messages import VoiceName
from segue_server.api.compat.parameters import CompatError


def weights(voice: VoiceName, half: str, path: str | None) -> CompatError:
    """Answer `/set_gpt_weights` or `/set_sovits_weights`; `half` is `gpt` or `sovits`."""
    if not path:
        return CompatError(400, f"{half} weight path is required")
    return CompatError(
        409,
        f"change {half} weight failed",
        exception=f"weights are not changed by request here, but rolled out, checked and watched, while {voice.name!r} "
        f"goes on speaking: segue roll {_typed(voice)} --weights {shlex.quote(f'{half}={path}')}",
    )


def reference(voice: VoiceName, path: str | None) -> CompatError:
    """Answer `/set_refer_audio`."""
    file = shlex.quote(path) if path else "FILE"
    return CompatError(
        409,
        "set refer audio failed",
        exception="one client's recording would be heard by all others: send ref_audio_path with each request (where "
        "the server's references.roots allow it), or change the voice's own: "
        f"segue roll {_typed(voice)} --reference {file} --reference-text TEXT",
    )


def control(command: str | None) -> CompatError:
    """Answer `/control`."""
    if not command:
        return CompatError(400, "command is required")
    return CompatError(
        409,
        f"{command[:80]} is not possible by request",
        exception="new weights need no restart (segue roll VOICE --weights NAME=FILE); the server itself is ended by "
        "whoever started it: Ctrl-C in segue up, kubectl rollout restart in a cluster",
    )


def _typed(voice: VoiceName) -> str:
    return shlex.quote(voice.name if voice.namespace == "default" else str(voice))
