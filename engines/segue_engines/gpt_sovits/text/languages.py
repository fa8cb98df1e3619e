"""The languages that a request may name, and what each does with the languages it finds in a text."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from segue_engines.gpt_sovits.text.pieces import Tongue


class Language(StrEnum):
    """What a text is said to be in.

    `auto` and `auto_yue` find out (`auto_yue` takes Chinese for Cantonese). `zh`, `yue`, `ja` and `ko` name the
    language of all that is not English. `all_X` does so too, and reads digits inside English as X as well. `en` is all
    English.
    """

    AUTO = "auto"
    AUTO_YUE = "auto_yue"
    EN = "en"
    ZH = "zh"
    YUE = "yue"
    JA = "ja"
    KO = "ko"
    ALL_ZH = "all_zh"
    ALL_YUE = "all_yue"
    ALL_JA = "all_ja"
    ALL_KO = "all_ko"

    @property
    def named(self) -> Tongue | None:
        """The language that it names; `None` where languages are found out."""
        name = self.value.removeprefix("all_")
        return Tongue(name) if name in frozenset(Tongue) else None

    @property
    def owns_digits(self) -> bool:
        """Whether digits are always of the named language, even between English words."""
        return self.value.startswith("all_")

    @property
    def full_stop(self) -> str:
        """The mark that closes a sentence without one."""
        return "." if self is Language.EN else "。"


_TAGS: Final = {"cmn": Language.ZH, "jp": Language.JA, "kr": Language.KO}


def language_named(name: str) -> Language | None:
    """Find a language by upstream's name or by a BCP-47 tag (`zh-TW`, `EN`, `cmn-Hans`); `None` if there is none."""
    lowered = name.strip().lower()
    if lowered in frozenset(Language):
        return Language(lowered)
    primary = lowered.replace("_", "-").partition("-")[0]
    return Language(primary) if primary in frozenset(Language) else _TAGS.get(primary)
