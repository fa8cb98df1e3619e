"""Names of voices that Kubernetes and URLs can carry, made of whatever people call their speakers.

Separate because a name must come out the same each time: it depends on the names in the folder alone. The rule: spell
it in ASCII (anyascii: 派蒙 becomes PaiMeng, みさき misaki), lower-case it, make each run of other characters one
hyphen, cut it to 63. Where several come out the same, the one that was spelled so from the beginning keeps it; the
others get six digits of a digest of what they are called.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from anyascii import anyascii

LONGEST: Final = 63
"""Of an RFC 1123 label."""


@dataclass(frozen=True, slots=True, order=True)
class Called:
    """What a voice is called in the folder.

    Attributes
    ----------
    ending
        Tells voices of the same name apart: the ending of their weight folders, such as `v2Pro`. Empty: none needed.
    """

    name: str
    ending: str = ""

    @property
    def label(self) -> str:
        """The label that the rule gives, whoever else has it."""
        return _ended(_label(self.name) or f"voice-{_digest(self.name, 8)}", _label(self.ending))

    @property
    def is_spelled_so(self) -> bool:
        """Whether the rule had nothing to change."""
        return self.label == (f"{self.name}-{self.ending}" if self.ending else self.name)

    @property
    def own_label(self) -> str:
        """A label that no other gets."""
        return _ended(self.label, _digest(f"{self.name}|{self.ending}", 6))


def distinct_labels(called: Iterable[Called]) -> dict[Called, str]:
    """A label for each, no two the same."""
    by_label: dict[str, list[Called]] = {}
    for each in sorted(set(called)):
        by_label.setdefault(each.label, []).append(each)
    labels: dict[Called, str] = {}
    for label, owners in by_label.items():
        keeper = owners[0] if len(owners) == 1 else next((each for each in owners if each.is_spelled_so), None)
        labels |= {each: label if each == keeper else each.own_label for each in owners}
    return labels


def _ended(label: str, ending: str) -> str:
    """The label with an ending that is never cut."""
    if not ending:
        return label[:LONGEST].rstrip("-")
    return f"{label[: LONGEST - 1 - len(ending)].rstrip('-')}-{ending}"


def _label(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", anyascii(text).lower()).strip("-")


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:digits]
