"""The statistics are those of the books."""

from __future__ import annotations

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.rollout.statistics import distinct_texts, rate_allowed_by, wilson_lower_bound


@pytest.mark.parametrize(
    ("errors", "requests", "z", "bound"),
    [
        (10, 100, 1.96, 0.0552),  # Newcombe 1998, table II, method 3 (two-sided 95 %): 0.0552
        (15, 148, 1.96, 0.0624),  # Newcombe 1998, table I: 0.0624
        (81, 263, 1.96, 0.2553),  # Newcombe 1998, table I: 0.2553
        (0, 20, 1.96, 0.0),
    ],
)
def test_wilson_bound_is_the_published_one(errors: int, requests: int, z: float, bound: float) -> None:
    assert wilson_lower_bound(errors, requests, z=z) == pytest.approx(bound, abs=2e-4)


def test_no_requests_accuse_nobody() -> None:
    assert wilson_lower_bound(0, 0) == 0.0


@given(requests=st.integers(1, 10_000), data=st.data())
def test_the_bound_lies_between_zero_and_the_observed_rate(requests: int, data: st.DataObject) -> None:
    errors = data.draw(st.integers(0, requests))
    assert 0.0 <= wilson_lower_bound(errors, requests) <= errors / requests + 1e-12


def test_a_hundred_successes_allow_three_per_cent() -> None:
    assert rate_allowed_by(100) == pytest.approx(0.0295, abs=1e-3)


@pytest.mark.parametrize("texts", [1, 20, 100, 300])
def test_linear_counting_finds_about_the_number_of_texts(texts: int) -> None:
    bitmap = 0
    for index in range(texts):
        bitmap |= 1 << (int.from_bytes(hashlib.sha256(str(index).encode()).digest()[:4]) % 512)
    assert distinct_texts(bitmap) == pytest.approx(texts, rel=0.2, abs=1)


def test_a_full_bitmap_means_very_many() -> None:
    assert distinct_texts((1 << 512) - 1) == math.inf
