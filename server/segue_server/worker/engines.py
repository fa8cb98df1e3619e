"""Which engine speaks a voice, by the name in its spec: a built-in one, or one of the configuration's."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from segue.engine import Engine
from segue.errors import SegueError
from segue_engines.registry import get_engine


class EngineFinder:
    """Finds engines, and makes one of each."""

    def __init__(self, extra: Mapping[str, str], settings: Mapping[str, Mapping[str, str]]) -> None:
        """`extra` maps a name to `MODULE:ATTRIBUTE`; it goes before the built-in ones, which `settings` are for."""
        self._extra = extra
        self._settings = settings
        self._made: dict[str, Engine] = {}

    def __call__(self, name: str) -> Engine:
        """The engine of that name.

        Raises
        ------
        SegueError
            Nobody knows it, or it cannot be imported.
        """
        if name not in self._made:
            built_in = name not in self._extra
            self._made[name] = get_engine(name, self._settings.get(name)) if built_in else _import(self._extra[name])
        return self._made[name]


def _import(place: str) -> Engine:
    module, _, attribute = place.partition(":")
    try:
        engine: Engine = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise SegueError(f"the engine at {place} cannot be loaded: {error}; is its extra installed?") from error
    return engine
