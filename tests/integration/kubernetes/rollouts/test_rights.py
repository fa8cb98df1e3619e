"""The operator's rights are no larger than what it does: each of them is used by the story of one voice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.support.cluster import TestCluster
from tests.support.pods.case import Case
from tests.support.pods.rights import RIGHTS, granted, used
from tests.support.pods.traffic import MIXED_TEXTS
from tests.support.running import eventually

from segue.model import revision_of

pytestmark = [pytest.mark.cluster, pytest.mark.process, pytest.mark.timeout(600)]

OPEN_WATCH: Mapping[str, Any] = {"watch": {"duration": "20s", "sustainedFor": "5s"}}
CONFIRMED_SOON: Mapping[str, Any] = {"watch": {"duration": "3s", "sustainedFor": "2s"}}
COUNTED_UP_S = 60.0
"""An Event that is said again is counted up at most every half minute."""


def test_every_right_that_is_shipped_is_used(case: Case, own_cluster: TestCluster) -> None:
    voice, first = case.speaking(OPEN_WATCH, first=case.stage.wardrobe.narrator)
    case.listen(voice, texts=MIXED_TEXTS)
    bad = voice.apply(case.stage.wardrobe.fails_on_questions)
    voice.wait_rolled_back(bad)
    voice.wait(lambda seen: revision_of(seen.spec) == first, what="the spec is written back")
    voice.follow(CONFIRMED_SOON)
    second = case.fresh()
    for version in (second, case.stage.wardrobe.narrator, second):
        voice.edit(version)
        voice.wait_promoted(version.revision)
    case.heard(voice, second.revision)
    eventually(
        lambda: granted() <= used(own_cluster),
        within_s=COUNTED_UP_S,
        what=f"every right is used: not {sorted(granted() - used(own_cluster))}",
    )
    assert used(own_cluster) <= granted(), "it is let do what it was not given"


def test_the_rights_in_one_namespace_are_the_same_ones() -> None:
    assert granted(RIGHTS.parent / "namespaced" / "rights.yaml") == granted()
