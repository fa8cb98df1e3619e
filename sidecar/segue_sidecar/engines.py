"""Which engine speaks a voice, by the name in its spec.

Separate so that the sidecar can refuse an unknown name without importing an engine: that is what costs, and only
children do it. A place is `MODULE:ATTRIBUTE`, or the name of a built-in engine.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from segue.engine import Engine
from segue.errors import WeightsError
from segue_engines.registry import engine_names, get_engine


def all_places(extra: Mapping[str, str]) -> dict[str, str]:
    """Every engine by name; those of the configuration go before the built-in ones."""
    return {**{name: name for name in engine_names()}, **extra}


def place_of(engine: str, extra: Mapping[str, str]) -> str:
    """Where an engine is found.

    Raises
    ------
    WeightsError
        Nobody knows the name.
    """
    known = all_places(extra)
    if engine not in known:
        raise WeightsError(f"no engine is called {engine!r}; this sidecar has {', '.join(sorted(known))}")
    return known[engine]


def load_engine(place: str) -> Engine:
    """Import an engine and make one.

    Raises
    ------
    WeightsError
        The place does not exist, or what it needs is not installed.
    """
    module, separator, attribute = place.partition(":")
    try:
        engine: Engine = getattr(importlib.import_module(module), attribute)() if separator else get_engine(place)
    except (ImportError, AttributeError) as error:
        raise WeightsError(f"the engine at {place} cannot be loaded: {error}; is its extra installed?") from error
    return engine
