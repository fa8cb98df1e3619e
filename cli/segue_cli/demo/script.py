"""What listeners ask for during the demo: the sentences of the steady traffic, and the paragraph that is read aloud.

Separate because it is text. Some sentences are questions: an update of the demo fails on exactly those.
"""

from __future__ import annotations

from collections.abc import Sequence

from segue_cli.measure.shots import Mode, Shot
from segue_cli.measure.texts import TEXTS

QUESTIONS: tuple[str, ...] = (
    "Is it late?",
    "Who is there?",
    "Shall we go on?",
    "Did you hear that?",
    "Where is the key?",
    "Can you see it?",
    "Is this the road?",
    "What time is it?",
)

PARAGRAPH: tuple[str, ...] = (
    "Listen to this voice for a while.",
    "It reads to you from a server that is busy with many others.",
    "Somebody has just saved a new version of it.",
    "The files are being fetched and checked, far away from these words.",
    "They are laid into memory, beside the ones that speak now.",
    "A first sentence is tried where nobody can hear it.",
    "Then it is judged, by its sound and by its words.",
    "A few listeners hear it first.",
    "In a moment, one number will change.",
    "From here on, every sentence comes from the new version.",
    "Nothing was stopped, and nothing was lost.",
    "That is all there is to it.",
)
KEPT_FOR_AFTER = 3
"""Sentences that are held back until the flip."""


def traffic(voices: Sequence[str]) -> list[Shot]:
    """Short sentences by all voices in turn: wav and pcm, every third streaming, every sixth a question."""
    shots = []
    for number in range(3 * len(TEXTS)):
        text = QUESTIONS[number // 6 % len(QUESTIONS)] if number % 6 == 5 else TEXTS[number % len(TEXTS)]
        shots.append(
            Shot(
                voice=voices[(number + number // len(TEXTS)) % len(voices)],
                text=text,
                seed=number,
                mode=(Mode.WHOLE, Mode.WHOLE, Mode.CHUNKED, Mode.WHOLE, Mode.WHOLE, Mode.SSE)[number * 5 % 6],
                response_format="wav" if number % 2 else "pcm",
            )
        )
    return shots
