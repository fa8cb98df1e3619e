"""The README in both languages: the same commands, the same documents, and each leads to the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    """Lines behind `$`, without their comments."""
    return [re.split(r"\s#\s", line)[0].strip() for line in re.findall(r"^\$ (.+)$", text, flags=re.MULTILINE)]


def named(text: str) -> set[str]:
    """Commands in the middle of a sentence, which may go over two lines."""
    return {re.sub(r"\s+", " ", each) for each in re.findall(r"`((?:segue|kubectl|make|helm)\s[^`]+)`", text)}


def test_both_name_the_same_commands_in_the_same_order() -> None:
    assert commands(CHINESE) == commands(ENGLISH)
    assert len(commands(ENGLISH)) > 15


def test_both_name_the_same_words_of_the_command_line() -> None:
    assert named(CHINESE) == named(ENGLISH)


def links(text: str) -> set[str]:
    return set(re.findall(r"\]\(([^)]+)\)", text))


def test_each_leads_to_the_other_and_to_the_same_documents() -> None:
    assert links(ENGLISH) - links(CHINESE) == {"README.zh-CN.md"}
    assert links(CHINESE) - links(ENGLISH) == {"README.md"}


def test_both_have_the_same_sections() -> None:
    assert len(re.findall(r"^#+ ", CHINESE, flags=re.MULTILINE)) == len(
        re.findall(r"^#+ ", ENGLISH, flags=re.MULTILINE)
    )


@pytest.mark.parametrize("link", sorted(links(ENGLISH) | links(CHINESE)))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
