"""Text to phones for GPT-SoVITS voices: Chinese, Cantonese, English, Japanese, Korean, and all of them in one sentence.

`TextFrontEnd` is the door, `Piece` what comes out. `scripts` washes, `cutting` cuts, `runs` tells languages apart; each
language is a module or folder of its own, imported when it is first met; `bert` spreads text features over phones.
"""

from segue_engines.gpt_sovits.text.cutting import Cut
from segue_engines.gpt_sovits.text.frontend import TextFrontEnd
from segue_engines.gpt_sovits.text.languages import Language, language_named
from segue_engines.gpt_sovits.text.mandarin.polyphones import Polyphones, Word
from segue_engines.gpt_sovits.text.pieces import Piece, Reading, Run, Tongue
from segue_engines.gpt_sovits.text.symbols import SYMBOL_IDS, SYMBOLS

__all__ = [
    "SYMBOLS",
    "SYMBOL_IDS",
    "Cut",
    "Language",
    "Piece",
    "Polyphones",
    "Reading",
    "Run",
    "TextFrontEnd",
    "Tongue",
    "Word",
    "language_named",
]
