"""The variables of a query: `$segue_namespace`, `$segue_voice` and `$segue_revision`, put in as they are.

Separate from the client, which knows nothing of voices. Nothing has to be escaped: a namespace and a voice are RFC 1123
labels and a revision is hex, so none of them can end a PromQL string or mean anything in a regular expression. That is
checked all the same, because statuses are written by hand now and then.
"""

from __future__ import annotations

import re

from segue.errors import SegueError
from segue.model import Phase, VoiceModel
from segue.model.revision import short

_VARIABLE = re.compile(r"\$\{?(segue_namespace|segue_voice|segue_revision)\b\}?")
_HARMLESS = re.compile(r"[A-Za-z0-9-]+")


class UnsafeValue(SegueError):
    """A name that cannot be put into a query as it is."""


def render(promql: str, voice: VoiceModel) -> str:
    """The query with its variables replaced; anything else that begins with `$` is left to Prometheus.

    `$segue_revision` is the short form, as in the label `revision` of the server's metrics.

    Raises
    ------
    UnsafeValue
        A value has characters that mean something in PromQL.
    """
    values = {
        "segue_namespace": voice.metadata.namespace,
        "segue_voice": voice.metadata.name,
        "segue_revision": short(judged_revision(voice)),
    }

    def value_of(match: re.Match[str]) -> str:
        value = values[match[1]]
        if not _HARMLESS.fullmatch(value):
            raise UnsafeValue(f"${match[1]} is {value!r}, which cannot be put into a query")
        return value

    return _VARIABLE.sub(value_of, promql)


def judged_revision(voice: VoiceModel) -> str | None:
    """The revision that a query speaks about: the one that is flipped to or watched, else the stable one."""
    rollout = voice.status.rollout
    if rollout is not None and voice.status.phase in (Phase.FLIPPING, Phase.WATCHING):
        return rollout.source.revision
    return voice.status.stable_revision
