"""Rows of the demo engine: alone or together, whole or in pieces, the samples are the same."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.engine_demo.builders import build, random_weights, run, say

from segue.engine import Row, SynthesisRequest, Synthesizer
from segue.errors import TextRejected
from segue_engines.demo.row import MAX_PHONE_FRAMES, lay_out
from segue_engines.demo.text.inventory import PHONE_IDS
from segue_engines.demo.weights import PROSODY, TIMBRE

TEXTS = (
    "The quick brown fox.",
    "Is this the house, where the old woman lived, before the river took it away? Yes.",
    "No!",
    "Five or six sentences are enough. One more. And one more after that, please.",
)


def test_the_synthesizer_and_its_rows_are_what_the_server_expects() -> None:
    synthesizer: Synthesizer = build()
    assert isinstance(synthesizer.admit(SynthesisRequest(text="Yes.")), Row)


def test_audio_is_finite_mono_float32_within_bounds() -> None:
    sound = say(build(), TEXTS[1])
    assert sound.dtype == np.float32
    assert sound.ndim == 1
    assert np.isfinite(sound).all()
    assert 0.01 < np.abs(sound).max() <= 1.0


def test_streaming_gives_the_samples_of_plain_synthesis() -> None:
    synthesizer = build()
    for text in TEXTS:
        plain = say(synthesizer, text, seed=5)
        streamed = say(synthesizer, text, seed=5, streaming=True)
        assert len(plain) == len(streamed)
        assert np.abs(plain - streamed).max() < 1e-5


def test_a_row_sounds_the_same_whoever_is_in_its_batch() -> None:
    synthesizer = build()
    alone = [say(synthesizer, text, seed=place) for place, text in enumerate(TEXTS)]
    rows = [
        synthesizer.admit(SynthesisRequest(text=text, seed=place, streaming=place % 2 == 1))
        for place, text in enumerate(TEXTS)
    ]
    for single, together in zip(alone, run(synthesizer, rows), strict=True):
        assert len(single) == len(together)
        assert np.abs(single - together).max() < 1e-5


def test_a_row_that_joins_and_one_that_leaves_do_not_change_the_others() -> None:
    synthesizer = build()
    expected = say(synthesizer, TEXTS[3], seed=1)
    first = synthesizer.admit(SynthesisRequest(text=TEXTS[3], seed=1, streaming=True))
    leaver = synthesizer.admit(SynthesisRequest(text=TEXTS[1], streaming=True))
    pieces = []
    for step in range(1000):
        if step == 2:
            leaver.close()
        joined = [synthesizer.admit(SynthesisRequest(text=TEXTS[0]))] if step == 3 else []
        synthesizer.step([first, *joined, *([] if leaver.done else [leaver])])
        pieces.append(first.take())
        if first.done:
            break
    assert np.abs(np.concatenate(pieces) - expected).max() < 1e-5


def test_the_same_seed_repeats_and_another_does_not() -> None:
    synthesizer = build()
    assert np.array_equal(say(synthesizer, TEXTS[0], seed=2**63), say(synthesizer, TEXTS[0], seed=2**63))
    assert not np.array_equal(say(synthesizer, TEXTS[0], seed=1), say(synthesizer, TEXTS[0], seed=2))


def test_first_audio_comes_long_before_the_sentence_is_done() -> None:
    synthesizer = build()
    row = synthesizer.admit(SynthesisRequest(text=TEXTS[1], streaming=True))
    synthesizer.step([row])
    first = len(row.take()) / synthesizer.sample_rate
    assert not row.done
    assert 0.1 < first < 0.5


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_speed_changes_the_pace(speed: float) -> None:
    synthesizer = build()
    ratio = len(say(synthesizer, TEXTS[1])) / len(say(synthesizer, TEXTS[1], speed=speed))
    assert ratio == pytest.approx(speed, rel=0.05)


def test_the_voice_and_the_request_multiply_their_speeds() -> None:
    fast = build(options={"speed": 2.0})
    assert len(say(fast, TEXTS[1], speed=0.5)) == len(say(build(), TEXTS[1]))


def test_a_long_text_is_spoken_to_its_end() -> None:
    synthesizer = build()
    row = synthesizer.admit(SynthesisRequest(text="Mary had seven little lambs and a goat. " * 20))
    sound = run(synthesizer, [row])[0]
    assert len(row.tokens) == len(row.phones)
    assert len(sound) / synthesizer.sample_rate > 20 * 1.0


def test_tokens_grow_sentence_by_sentence_while_phones_are_known_at_once() -> None:
    synthesizer = build()
    row = synthesizer.admit(SynthesisRequest(text="No. Yes.", streaming=True))
    assert row.tokens == []
    synthesizer.step([row])
    assert [list(PHONE_IDS)[token] for token in row.tokens] == ["N", "OW1", "."]
    assert row.phones == ("N", "OW1", ".", "Y", "EH1", "S", ".")


def test_a_phone_that_would_not_end_is_cut_and_reported() -> None:
    synthesizer = build(prosody={"duration_bias": np.full(1, 9.0, np.float32)})
    row = synthesizer.admit(SynthesisRequest(text="No."))
    sound = run(synthesizer, [row])[0]
    assert row.capped
    assert len(sound) <= (3 * MAX_PHONE_FRAMES + 100) * 120


def test_an_ordinary_row_is_not_capped() -> None:
    synthesizer = build()
    row = synthesizer.admit(SynthesisRequest(text=TEXTS[1]))
    run(synthesizer, [row])
    assert not row.capped


def test_rounding_of_durations_does_not_add_up() -> None:
    timing = lay_out(np.full(100, 10.4, np.float32), speed=1.0)
    assert len(timing.owner) == 1040


def _breaks_on_questions() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    embedding: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = random_weights(PROSODY)["embedding"].copy()
    embedding[PHONE_IDS["?"]] = np.nan
    return embedding


def test_nan_is_handed_out_as_it_is_and_stays_in_its_row() -> None:
    broken = build(prosody={"embedding": _breaks_on_questions()})
    rows = [broken.admit(SynthesisRequest(text=text, seed=3)) for text in ("All is well.", "Is it well?", "It is.")]
    first, second, third = run(broken, rows)
    assert np.isnan(second).any()
    whole = build()
    for sound, text in ((first, "All is well."), (third, "It is.")):
        assert np.abs(sound - say(whole, text, seed=3)).max() < 1e-5


def test_an_error_in_one_row_stops_only_that_row() -> None:
    synthesizer = build()
    words = (TEXTS[0], "Bad.", TEXTS[1])
    rows = [synthesizer.admit(SynthesisRequest(text=text, seed=1)) for text in words]
    rows[1].speed = 0.0  # no such speed is admitted: it makes the layout of durations fail
    sounds = run(synthesizer, rows)
    assert isinstance(rows[1].error, ZeroDivisionError)
    for place in (0, 2):
        assert rows[place].error is None
        assert np.abs(sounds[place] - say(synthesizer, words[place], seed=1)).max() < 1e-5


@pytest.mark.parametrize("language", ["zh", "de-DE"])
def test_another_language_is_rejected(language: str) -> None:
    with pytest.raises(TextRejected, match="reads English"):
        build().admit(SynthesisRequest(text="Hello.", language=language))


def test_closing_a_row_drops_its_audio_and_is_idempotent() -> None:
    synthesizer = build()
    row = synthesizer.admit(SynthesisRequest(text=TEXTS[1]))
    synthesizer.step([row])
    row.close()
    row.close()
    assert row.done
    assert len(row.take()) == 0


def test_both_pilot_tones_stand_60_db_below_full_scale_through_pieces_and_pauses() -> None:
    synthesizer = build()
    sound = say(synthesizer, TEXTS[3], streaming=True).astype(np.float64)
    for frequency_hz in synthesizer.pilots_hz:
        index = np.arange(len(sound))
        turned = sound * np.exp(-2j * np.pi * frequency_hz / 24000 * index)
        windows = turned[: len(turned) // 1200 * 1200].reshape(-1, 1200).mean(axis=1) * 2
        assert np.abs(windows) == pytest.approx(1e-3, rel=0.2)
        assert np.angle(windows) == pytest.approx(-np.pi / 2, abs=0.2)


def test_pilots_come_from_their_own_halves() -> None:
    mixed = build(timbre=random_weights(TIMBRE, seed=1))
    assert mixed.pilots_hz == (10800.0, 10840.0)
