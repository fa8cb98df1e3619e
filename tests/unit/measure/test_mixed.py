"""The detector of mixed answers catches what it must, and only that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from segue_cli.measure.audio import UnreadableAudio, decode, encode_wav
from segue_cli.measure.load import spool_name
from segue_cli.measure.mixed import Fault, Rendering, inject_faults, judge, judge_pilots, judge_records
from segue_cli.measure.shots import Record, Shot

RATE_HZ = 24_000
PILOT = 1e-3


def speech(seed: int, seconds: float = 1.0) -> NDArray[np.float32]:
    """Noise below 4 kHz with a pause in the middle: as different between seeds as two voices, silent as one."""
    count = int(seconds * RATE_HZ)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=count))
    spectrum[int(4000 * seconds) :] = 0
    sound = np.fft.irfft(spectrum, count)
    sound[count // 3 : count // 2] = 0
    return np.asarray(sound * 0.1 / np.abs(sound).max(), dtype=np.float32)


def with_pilots(sound: NDArray[np.float32], *frequencies_hz: float) -> NDArray[np.float32]:
    time_s = np.arange(len(sound)) / RATE_HZ
    tones = sum(PILOT * np.sin(2 * np.pi * hz * time_s) for hz in frequencies_hz)
    return np.asarray(sound + tones, dtype=np.float32)


def rendering(name: str, *, seed: int, prosody_hz: float, timbre_hz: float, seconds: float = 1.0) -> Rendering:
    return Rendering(
        revision=name * 64,
        samples=with_pilots(speech(seed, seconds), prosody_hz, timbre_hz),
        rate_hz=RATE_HZ,
        pilots_hz={"prosody": prosody_hz, "timbre": timbre_hz},
    )


V1 = rendering("a", seed=1, prosody_hz=10_000, timbre_hz=11_000)
V2 = rendering("b", seed=2, prosody_hz=10_200, timbre_hz=11_200, seconds=1.2)


def as_sent(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """What 16 bits leave of it."""
    return decode(encode_wav(samples, RATE_HZ), response_format="wav")[0]


def fault(samples: NDArray[np.float32], *, named: Rendering, other: Rendering) -> Fault | None:
    finding = judge(samples, named=named, others=[other])
    return None if finding is None else finding.fault


def test_honest_answers_pass() -> None:
    assert judge(as_sent(V1.samples), named=V1, others=[V2]) is None
    assert judge(as_sent(V2.samples), named=V2, others=[V1]) is None


def test_rounding_between_batch_sizes_passes() -> None:
    wobble = np.random.default_rng(3).normal(size=len(V1.samples)).astype(np.float32) * np.float32(2e-6)
    assert judge(as_sent(V1.samples + wobble), named=V1, others=[V2]) is None


def test_switch_in_mid_stream_is_caught() -> None:
    switched = as_sent(inject_faults(V1.samples, V2.samples, RATE_HZ))
    assert fault(switched, named=V1, other=V2) is Fault.LENGTH
    assert fault(switched[: len(V1.samples)], named=V1, other=V2) is Fault.FOREIGN


def test_one_foreign_window_in_a_pause_is_caught_by_its_pilots() -> None:
    """Two revisions hardly differ in a pause; their tones do."""
    window = slice(9600, 12000)
    one = with_pilots(np.zeros(24_000, np.float32), 10_000, 11_000) * np.float32(0.4)
    two = with_pilots(np.zeros(24_000, np.float32), 10_200, 11_200) * np.float32(0.4)
    named = Rendering(revision="a" * 64, samples=one, rate_hz=RATE_HZ, pilots_hz=V1.pilots_hz)
    other = Rendering(revision="b" * 64, samples=two, rate_hz=RATE_HZ, pilots_hz=V2.pilots_hz)
    mixed = one.copy()
    mixed[window] = two[window]
    assert fault(as_sent(one), named=named, other=other) is None
    assert fault(as_sent(mixed), named=named, other=other) in (Fault.PILOT, Fault.FOREIGN)


def test_voice_of_two_halves_is_caught() -> None:
    halves = with_pilots(speech(1), 10_000, 11_200)
    assert fault(as_sent(halves), named=V1, other=V2) is Fault.UNKNOWN
    finding = judge_pilots(as_sent(halves), named=V1, others=[V2])
    assert finding is not None
    assert finding.fault is Fault.PILOT
    assert "timbre" in finding.message


def test_pilots_of_honest_answers_are_heard_under_speech() -> None:
    assert judge_pilots(as_sent(V1.samples), named=V1, others=[V2]) is None


def test_lost_pilots_are_noticed() -> None:
    finding = judge_pilots(as_sent(speech(1)), named=V1, others=[V2])
    assert finding is not None
    assert "no pilot tone" in finding.message


def test_another_revision_under_this_name_is_caught() -> None:
    named = Rendering(revision="a" * 64, samples=V1.samples[:24_000], rate_hz=RATE_HZ)
    other = Rendering(revision="b" * 64, samples=V2.samples[:24_000], rate_hz=RATE_HZ)
    assert fault(as_sent(other.samples), named=named, other=other) is Fault.FOREIGN


def test_cut_answer_is_a_length_fault() -> None:
    assert fault(as_sent(V1.samples[:-100]), named=V1, other=V2) is Fault.LENGTH


def test_equal_answers_are_judged_once_and_counted_each(tmp_path: Path) -> None:
    shots = [Shot(voice="v", text="x", response_format="wav"), Shot(voice="v", text="x", response_format="mp3")]
    (tmp_path / spool_name(0, revision=V1.revision, digest="good")).write_bytes(encode_wav(V1.samples, RATE_HZ))
    (tmp_path / spool_name(0, revision=V1.revision, digest="bad")).write_bytes(encode_wav(V2.samples, RATE_HZ))
    records = [record(digest="good")] * 3 + [record(digest="bad")] * 2 + [record(shot=1, digest="mp3")]
    count = judge_records(records, shots=shots, spool=tmp_path, renderings=lambda *_: [V1, V2])
    assert (count.judged, count.mixed, count.distinct_answers, count.not_comparable) == (5, 2, 2, 1)
    assert count.findings


def test_unknown_revision_counts_as_mixed(tmp_path: Path) -> None:
    shots = [Shot(voice="v", text="x", response_format="wav")]
    count = judge_records([record(digest="d")], shots=shots, spool=tmp_path, renderings=lambda *_: [V2])
    assert count.mixed == 1


@pytest.mark.parametrize("body", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"ID3" + bytes(40)])
def test_bytes_that_are_no_wav_are_refused(body: bytes) -> None:
    with pytest.raises(UnreadableAudio):
        decode(body, response_format="wav")


def test_streamed_wav_without_a_length_is_read_to_its_end() -> None:
    body = bytearray(encode_wav(V1.samples, RATE_HZ))
    body[40:44] = b"\xff\xff\xff\xff"
    samples, rate_hz = decode(bytes(body), response_format="wav")
    assert (len(samples), rate_hz) == (len(V1.samples), RATE_HZ)


def record(*, shot: int = 0, digest: str) -> Record:
    return Record(
        shot=shot,
        due_ns=0,
        start_ns=0,
        first_ns=1,
        end_ns=2,
        status=200,
        revision=V1.revision,
        shielded="",
        cache="bypass",
        size_bytes=48_000,
        digest=digest,
        error="",
    )
