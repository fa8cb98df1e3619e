"""The sentences that a voice is proved on when its owner names none.

Chosen to cover the sounds of the language and to make well over ten seconds together; plain statements, so that the
figures of two revisions differ by voice and not by mood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Case:
    """One sentence to speak.

    Attributes
    ----------
    text
        What to say.
    language
        BCP-47 primary tag.
    """

    text: str
    language: str = "en"


_SENTENCES: Final[Mapping[str, tuple[str, ...]]] = {
    "en": (
        "The early train to the coast was late again, so we waited on the platform with a cup of tea.",
        "She thought the old church looked smaller than the one in her father's photograph.",
        "Please measure the garden twice, and write the figures on the yellow paper.",
        "A quick shower of rain washed the dust from the leaves and cooled the narrow street.",
        "His younger brother joined the village choir and enjoyed every evening of it.",
        "They put five large boxes of books by the kitchen door and drove home before dark.",
    ),
    "de": (
        "Der frühe Zug zur Küste hatte wieder Verspätung, also warteten wir mit einer Tasse Tee auf dem Bahnsteig.",
        "Sie fand, dass die alte Kirche kleiner aussah als auf dem Foto ihres Vaters.",
        "Bitte miss den Garten zweimal und schreibe die Zahlen auf das gelbe Papier.",
        "Ein kurzer Schauer wusch den Staub von den Blättern und kühlte die schmale Straße.",
    ),
    "zh": (
        "去海边的早班火车又晚点了，我们只好在站台上喝着茶等待。",
        "她觉得那座老教堂看起来比父亲照片里的要小一些。",
        "请把花园量两遍，然后把数字写在黄色的纸上。",
        "一阵急雨洗去了树叶上的灰尘，也让狭窄的街道凉快下来。",
    ),
    "ja": (
        "海へ向かう朝の列車がまた遅れたので、私たちはお茶を飲みながらホームで待ちました。",
        "彼女は、古い教会が父の写真よりも小さく見えると思いました。",
        "庭を二回測って、数字を黄色い紙に書いてください。",
        "にわか雨が葉のほこりを洗い流し、狭い通りを涼しくしました。",
    ),
    "ko": (
        "바닷가로 가는 아침 기차가 또 늦어서 우리는 차를 마시며 승강장에서 기다렸습니다.",
        "그녀는 오래된 교회가 아버지의 사진에서보다 작아 보인다고 생각했습니다.",
        "정원을 두 번 재고 숫자를 노란 종이에 적어 주세요.",
        "소나기가 나뭇잎의 먼지를 씻어 내고 좁은 거리를 시원하게 했습니다.",
    ),
}


def builtin_cases(language: str) -> tuple[Case, ...]:
    """The built-in sentences of a language; none for a language that has no set.

    Parameters
    ----------
    language
        A tag such as `en` or `en-GB`; only its first part counts.
    """
    primary = language.lower().replace("_", "-").split("-", 1)[0]
    if primary == "yue":
        primary = "zh"
    return tuple(Case(text, language) for text in _SENTENCES.get(primary, ()))
