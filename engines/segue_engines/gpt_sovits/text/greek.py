"""What the letters of formulas are called."""

from __future__ import annotations

import unicodedata
from typing import Final, NamedTuple


class GreekLetter(NamedTuple):
    """The name of a Greek letter in the languages whose readers do not know it (OpenJTalk does)."""

    english: str
    chinese: str
    korean: str


_LETTERS: Final = {
    "α": GreekLetter("alpha", "阿尔法", "알파"),
    "β": GreekLetter("beta", "贝塔", "베타"),
    "γ": GreekLetter("gamma", "伽马", "감마"),
    "δ": GreekLetter("delta", "德尔塔", "델타"),
    "ε": GreekLetter("epsilon", "艾普西龙", "엡실론"),
    "ζ": GreekLetter("zeta", "泽塔", "제타"),
    "η": GreekLetter("eta", "伊塔", "에타"),
    "θ": GreekLetter("theta", "西塔", "세타"),
    "ι": GreekLetter("iota", "约塔", "이오타"),
    "κ": GreekLetter("kappa", "卡帕", "카파"),
    "λ": GreekLetter("lambda", "兰姆达", "람다"),
    "μ": GreekLetter("mu", "缪", "뮤"),
    "ν": GreekLetter("nu", "纽", "뉴"),
    "ξ": GreekLetter("xi", "克西", "크시"),
    "ο": GreekLetter("omicron", "奥密克戎", "오미크론"),
    "π": GreekLetter("pi", "派", "파이"),
    "ρ": GreekLetter("rho", "柔", "로"),
    "σ": GreekLetter("sigma", "西格玛", "시그마"),
    "τ": GreekLetter("tau", "陶", "타우"),
    "υ": GreekLetter("upsilon", "宇普西龙", "입실론"),
    "φ": GreekLetter("phi", "斐", "피"),
    "χ": GreekLetter("chi", "希", "카이"),
    "ψ": GreekLetter("psi", "普西", "프사이"),
    "ω": GreekLetter("omega", "欧米伽", "오메가"),
}


def greek_letter(char: str) -> GreekLetter | None:
    """Find a Greek letter, in either case and with any accent; `None` for other characters."""
    plain = unicodedata.normalize("NFKD", char.lower())[:1]
    return _LETTERS.get("σ" if plain == "ς" else plain)
