"""Engines by the name that a `VoiceModel` gives them.

Separate, and lazy, so that a server that speaks with numpy never imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from segue.engine import Engine
from segue.errors import SegueError


def _demo(settings: Mapping[str, Any]) -> Engine:
    _check("demo", settings, known=())
    from segue_engines.demo.engine import DemoEngine

    return DemoEngine()


def _gpt_sovits(settings: Mapping[str, Any]) -> Engine:
    _check("gpt-sovits", settings, known=("g2pw",))
    try:
        from segue_engines.gpt_sovits.engine import GptSovitsEngine
        from segue_engines.gpt_sovits.front_end import PieceReader, reader_with
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise SegueError("the engine 'gpt-sovits' needs torch: pip install \"segue[gpt-sovits]\"") from error
    folder = settings.get("g2pw")
    front_end: PieceReader | None = reader_with(g2pw=Path(folder)) if folder else None
    return GptSovitsEngine(front_end=front_end)


def _check(engine: str, settings: Mapping[str, Any], *, known: tuple[str, ...]) -> None:
    for name, value in settings.items():
        if name not in known or not isinstance(value, str):
            there_are = f"it has {', '.join(known)}, each a path" if known else "it has none"
            raise SegueError(f"the engine {engine!r} has no setting {name!r} with the value {value!r}: {there_are}")


_ENGINES: Final[dict[str, Callable[[Mapping[str, Any]], Engine]]] = {"demo": _demo, "gpt-sovits": _gpt_sovits}


def engine_names() -> tuple[str, ...]:
    """The engines that this installation knows."""
    return tuple(_ENGINES)


def get_engine(name: str, settings: Mapping[str, Any] | None = None) -> Engine:
    """Find an engine.

    Parameters
    ----------
    settings
        What this installation has for it: of `gpt-sovits`, `g2pw`, the path of a G2PWModel folder.

    Raises
    ------
    SegueError
        There is none of that name, or a setting that it lacks; the message lists those there are.
    """
    if name not in _ENGINES:
        raise SegueError(f"no engine {name!r}: spec.engine must be one of {', '.join(map(repr, _ENGINES))}")
    return _ENGINES[name](settings or {})
