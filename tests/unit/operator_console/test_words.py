"""The page's two dictionaries: the same keys, the same gaps, and no word of the page that is in neither."""

from __future__ import annotations

import json
import re
from importlib import resources

import pytest

from segue_operator.console.actions import ACTIONS
from segue_operator.console.attention import CODES
from segue_operator.console.detail import PHASES
from segue_operator.console.static import assets

STATIC = resources.files("segue_operator.console").joinpath("page")


def words(language: str) -> dict[str, str]:
    found = json.loads(STATIC.joinpath(f"strings.{language}.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


ENGLISH, CHINESE = words("en"), words("zh")


def gaps(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


def scripts() -> str:
    return "\n".join(asset.content.decode() for name, asset in assets().items() if name.endswith(".js"))


def test_both_languages_have_the_same_keys_in_the_same_order() -> None:
    assert list(ENGLISH) == list(CHINESE)


@pytest.mark.parametrize("key", ENGLISH)
def test_both_languages_fill_the_same_gaps(key: str) -> None:
    assert gaps(ENGLISH[key]) == gaps(CHINESE[key])
    assert CHINESE[key].strip()


def test_every_key_that_the_page_names_is_there() -> None:
    page = STATIC.joinpath("index.html").read_text(encoding="utf-8")
    named = set(re.findall(r'data-t(?:-label|-placeholder)?="([^"]+)"', page))
    named |= set(re.findall(r'\bt\("([^"]+)"', scripts()))
    assert named <= ENGLISH.keys()


def test_every_state_says_what_it_is_why_and_what_to_do() -> None:
    wanted = {f"{kind}.{code}" for kind in ("code", "why", "next") for code in CODES}
    wanted |= {f"act.{action}" for action in ACTIONS} | {f"phase.{phase}" for phase in (*PHASES, "RollingBack")}
    assert wanted <= ENGLISH.keys()
    assert {key for key in ENGLISH if key.startswith(("code.", "why.", "next."))} <= wanted


def test_no_key_is_left_over() -> None:
    text = scripts() + STATIC.joinpath("index.html").read_text(encoding="utf-8")
    families = (
        "code.",
        "why.",
        "next.",
        "act.",
        "ask.",
        "phase.",
        "step.",
        "figures.",
        "filter.",
        "ranking.",
        "listen.vote.",
    )
    assert [key for key in ENGLISH if f'"{key}"' not in text and not key.startswith(families)] == []


def test_scripts_make_no_markup_out_of_text_and_ask_nobody_else() -> None:
    text = scripts()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "https://"):
        assert word not in text
    assert [url for url in re.findall(r"http://[^\"]+", text) if url != "http://www.w3.org/2000/svg"] == []
