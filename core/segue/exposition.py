"""Figures as Prometheus reads them, without holding up a loop that has better to do.

Separate because all three processes do the same: figures are collected on the loop, which alone may look at its books,
and made into text (two thirds of the time) in a thread. With a thousand voices that is tenths of a second, in which a
flip must not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from typing_extensions import override


class _Collected(CollectorRegistry):
    """What a registry told at one moment."""

    def __init__(self, families: list[Metric]) -> None:
        super().__init__()
        self._families = families

    @override
    def collect(self) -> Iterable[Metric]:
        return self._families


async def exposition(registry: CollectorRegistry) -> bytes:
    """The text format of everything in the registry, as it is now."""
    return await asyncio.to_thread(generate_latest, _Collected(list(registry.collect())))
