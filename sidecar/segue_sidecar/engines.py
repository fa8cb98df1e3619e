"""Which engine speaks a voice, by the name in its spec.

Separate so that children can find an engine without the rest of the sidecar: a place is `MODULE:ATTRIBUTE`, importing
it is what costs, and only children do.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from segue.engine import Engine
from segue.errors import WeightsError

BUILT_IN: Mapping[str, str] = {"demo": "segue_engines.demo.engine:DemoEngine"}


def place_of(engine: str, extra: Mapping[str, str]) -> str:
    """Where an engine is found.

    Raises
    ------
    WeightsError
        Nobody knows the name.
    """
    known = {**BUILT_IN, **extra}
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
    module, _, attribute = place.partition(":")
    try:
        engine: Engine = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise WeightsError(f"the engine at {place} cannot be loaded: {error}; is its extra installed?") from error
    return engine
