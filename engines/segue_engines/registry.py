"""Engines by the name that a `VoiceModel` gives them.

Separate, and lazy, so that a server that speaks with numpy never imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from segue.engine import Engine
from segue.errors import SegueError


def _demo() -> Engine:
    from segue_engines.demo.engine import DemoEngine

    return DemoEngine()


def _gpt_sovits() -> Engine:
    try:
        from segue_engines.gpt_sovits.engine import GptSovitsEngine
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise SegueError("the engine 'gpt-sovits' needs torch: pip install \"segue[gpt-sovits]\"") from error
    return GptSovitsEngine()


_ENGINES: Final[dict[str, Callable[[], Engine]]] = {"demo": _demo, "gpt-sovits": _gpt_sovits}


def engine_names() -> tuple[str, ...]:
    """The engines that this installation knows."""
    return tuple(_ENGINES)


def get_engine(name: str) -> Engine:
    """Find an engine.

    Raises
    ------
    SegueError
        There is none of that name; the message lists those there are.
    """
    if name not in _ENGINES:
        raise SegueError(f"no engine {name!r}: spec.engine must be one of {', '.join(map(repr, _ENGINES))}")
    return _ENGINES[name]()
