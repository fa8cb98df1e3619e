"""The libraries behind the languages, imported when their language is first read.

Separate so that a missing one is told in the same words everywhere, and so that a voice that speaks English never pays
for a Japanese dictionary.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Final

from segue.errors import SynthesisError
from segue_engines.gpt_sovits.text.pieces import Tongue

LIBRARIES: Final = {
    Tongue.ZH: {"rjieba": "rjieba", "pypinyin": "pypinyin", "opencc": "opencc"},
    Tongue.YUE: {"ToJyutping": "ToJyutping"},
    Tongue.JA: {"pyopenjtalk": "pyopenjtalk-plus"},
    Tongue.KO: {},
    Tongue.EN: {},
}
"""Module to the distribution that has it, by language."""


def library(module: str, *, tongue: Tongue) -> ModuleType:
    """Import a library of a language.

    Raises
    ------
    SynthesisError
        It is not there, or its dictionary is not; the message says what to install.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):  # pyopenjtalk greets on standard output
            return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise SynthesisError(
            f"cannot read {tongue.value!r} text: {LIBRARIES[tongue][module]} cannot be imported ({error}); "
            "pip install 'segue[gpt-sovits]'"
        ) from error


def missing_libraries(tongue: Tongue) -> tuple[str, ...]:
    """Distributions that a language needs and that are not installed. Imports nothing."""
    wanted = LIBRARIES[tongue].items()
    return tuple(name for module, name in wanted if importlib.util.find_spec(module) is None)
