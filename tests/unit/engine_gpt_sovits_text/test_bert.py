"""Character features over the phones of a piece."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.unit.engine_gpt_sovits_text.reading import FRONT_END, pieces

from segue_engines.gpt_sovits.text.bert import FEATURES, phone_features


class _Places:
    """Features that tell the place of each character, from 1."""

    def of(self, text: str) -> NDArray[np.float32]:
        return np.repeat(np.arange(1, len(text) + 1, dtype=np.float32)[:, None], FEATURES, axis=1)


class _TooShort:
    def of(self, text: str) -> NDArray[np.float32]:
        return np.zeros((len(text) - 1, FEATURES), np.float32)


def test_each_character_is_repeated_as_often_as_it_has_phones() -> None:
    prompt = FRONT_END.read_prompt("你好，世界", language="zh")
    features = phone_features(prompt, model=_Places())
    assert features.shape == (1024, 10)
    assert features.dtype == np.float32
    assert features[0].tolist() == [1, 1, 2, 2, 3, 4, 4, 5, 5, 6]


def test_other_languages_have_zeros() -> None:
    (piece,) = pieces("我爱music", "auto")
    features = phone_features(piece, model=_Places())
    assert features.shape == (1024, len(piece.phone_ids))
    assert features[7, :4].tolist() == [1, 1, 2, 2]
    assert not features[:, 4:].any()
    assert not phone_features(pieces("佢食飯未呀", "yue")[0], model=_Places()).any()


def test_without_a_model_all_is_zero() -> None:
    (piece,) = pieces("今天很好。", "zh")
    assert not phone_features(piece, model=None).any()


def test_features_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"5 characters have the shape \(4, 1024\)"):
        phone_features(pieces("今天很好。", "zh")[0], model=_TooShort())
