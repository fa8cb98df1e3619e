"""What the letters of formulas are called."""

from __future__ import annotations

import unicodedata
from typing import Final, NamedTuple


class GreekLetter(NamedTuple):
    """The name of a Greek letter in each language."""

    english: str
    chinese: str
    japanese: str
    korean: str


_LETTERS: Final = {
    "α": GreekLetter("alpha", "阿尔法", "アルファ", "알파"),
    "β": GreekLetter("beta", "贝塔", "ベータ", "베타"),
    "γ": GreekLetter("gamma", "伽马", "ガンマ", "감마"),
    "δ": GreekLetter("delta", "德尔塔", "デルタ", "델타"),
    "ε": GreekLetter("epsilon", "艾普西龙", "イプシロン", "엡실론"),
    "ζ": GreekLetter("zeta", "泽塔", "ゼータ", "제타"),
    "η": GreekLetter("eta", "伊塔", "イータ", "에타"),
    "θ": GreekLetter("theta", "西塔", "シータ", "세타"),
    "ι": GreekLetter("iota", "约塔", "イオタ", "이오타"),
    "κ": GreekLetter("kappa", "卡帕", "カッパ", "카파"),
    "λ": GreekLetter("lambda", "兰姆达", "ラムダ", "람다"),
    "μ": GreekLetter("mu", "缪", "ミュー", "뮤"),
    "ν": GreekLetter("nu", "纽", "ニュー", "뉴"),
    "ξ": GreekLetter("xi", "克西", "クサイ", "크시"),
    "ο": GreekLetter("omicron", "奥密克戎", "オミクロン", "오미크론"),
    "π": GreekLetter("pi", "派", "パイ", "파이"),
    "ρ": GreekLetter("rho", "柔", "ロー", "로"),
    "σ": GreekLetter("sigma", "西格玛", "シグマ", "시그마"),
    "τ": GreekLetter("tau", "陶", "タウ", "타우"),
    "υ": GreekLetter("upsilon", "宇普西龙", "ウプシロン", "입실론"),
    "φ": GreekLetter("phi", "斐", "ファイ", "피"),
    "χ": GreekLetter("chi", "希", "カイ", "카이"),
    "ψ": GreekLetter("psi", "普西", "プサイ", "프사이"),
    "ω": GreekLetter("omega", "欧米伽", "オメガ", "오메가"),
}


def greek_letter(char: str) -> GreekLetter | None:
    """Find a Greek letter, in either case and with any accent; `None` for other characters."""
    plain = unicodedata.normalize("NFKD", char.lower())[:1]
    return _LETTERS.get("σ" if plain == "ς" else plain)
