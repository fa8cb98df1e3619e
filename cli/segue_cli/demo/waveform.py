"""A recording as a picture: one bar for each stretch, coloured by the revision that spoke it.

Separate from the timeline because its axis is the listener's time, not the clock's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

import numpy as np

from segue_cli.demo.story import Reading

WIDTH = 1088
HEIGHT = 92
BAR = 3


def draw_waveform(reading: Reading, names: Mapping[str, str]) -> str:
    """SVG of the reading: bars, a line where the voice changes version, no text inside."""
    order = {revision: number for number, revision in enumerate(names)}
    parts = "\n".join(_bars(reading, order))
    changes = "\n".join(_changes(reading, names))
    return (
        f'<svg class="waveform" viewBox="0 0 {WIDTH} {HEIGHT + 22}" role="img" '
        f'aria-label="Waveform of the reading, coloured by version">{parts}{changes}</svg>'
    )


def _bars(reading: Reading, order: Mapping[str, int]) -> Iterable[str]:
    count = WIDTH // (BAR + 1)
    edges = np.linspace(0, len(reading.samples), count + 1).astype(int)
    loudest = float(np.abs(reading.samples).max()) or 1.0
    paths: dict[str, list[str]] = {}
    for bar in range(count):
        piece = reading.samples[edges[bar] : edges[bar + 1]]
        level = float(np.sqrt(np.mean(piece**2))) if len(piece) else 0.0
        tall = max(1.5, min(1.0, level / loudest * 2.6) * (HEIGHT - 6))
        revision = revision_at(reading, int(edges[bar]))
        paths.setdefault(revision, []).append(f"M{bar * (BAR + 1) + 2} {(HEIGHT - tall) / 2:.1f}v{tall:.1f}")
    for revision, path in paths.items():
        yield f'<path class="bar r{order.get(revision, 7) % 8}" d="{"".join(path)}"/>'


def _changes(reading: Reading, names: Mapping[str, str]) -> Iterable[str]:
    before = ""
    for first, _, revision in reading.parts:
        if revision != before:
            x = first / max(len(reading.samples), 1) * WIDTH
            yield f'<path class="change" d="M{x:.1f} 0V{HEIGHT}"/>' if before else ""
            name = names.get(revision, revision[:10])
            yield f'<text class="tick" x="{x + 4:.1f}" y="{HEIGHT + 16}">{escape(name)}</text>'
        before = revision


def revision_at(reading: Reading, sample: int) -> str:
    """Which revision spoke at a sample."""
    return [revision for first, _, revision in reading.parts if first <= sample][-1] if reading.parts else ""
