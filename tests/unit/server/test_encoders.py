"""Every format, fed in pieces of any size, decodes to what was fed."""

from __future__ import annotations

import io
import wave

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from segue_server.audio.encoder import make_encoder
from segue_server.audio.formats import AudioFormat, OutputSpec
from segue_server.audio.raw import to_s16

SECONDS = 1.5
HZ = 330.0


def tone(rate_hz: int) -> NDArray[np.float32]:
    wave: NDArray[np.float32] = (0.4 * np.sin(2 * np.pi * HZ * np.arange(int(SECONDS * rate_hz)) / rate_hz)).astype(
        np.float32
    )
    return wave


def encoded(spec: OutputSpec, samples: NDArray[np.float32], *, engine_rate: int, piece: int) -> list[bytes]:
    encoder = make_encoder(spec, engine_rate=engine_rate)
    pieces = [encoder.feed(samples[start : start + piece]) for start in range(0, len(samples), piece)]
    return [*pieces, encoder.finish()]


def decoded(data: bytes) -> tuple[NDArray[np.float32], int]:
    with av.open(io.BytesIO(data), "r") as container:
        frames = list(container.decode(audio=0))
    resampler = av.AudioResampler(format="flt", layout="mono")
    pieces = [out.to_ndarray()[0] for frame in frames for out in resampler.resample(frame)]
    return np.concatenate(pieces).astype(np.float32), frames[0].sample_rate


def pitch_hz(samples: NDArray[np.float32], rate_hz: int) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * rate_hz / len(samples))


CONTAINERS = [each for each in AudioFormat if each is not AudioFormat.PCM]


@pytest.mark.parametrize("audio_format", CONTAINERS)
@pytest.mark.parametrize("engine_rate", [16_000, 24_000, 32_000])
def test_containers_keep_pitch_and_length(audio_format: AudioFormat, engine_rate: int) -> None:
    spec = OutputSpec(format=audio_format)
    data = b"".join(encoded(spec, tone(engine_rate), engine_rate=engine_rate, piece=1111))
    samples, rate_hz = decoded(data)
    assert len(samples) / rate_hz == pytest.approx(SECONDS, abs=0.13)
    assert pitch_hz(samples, rate_hz) == pytest.approx(HZ, abs=2)


@pytest.mark.parametrize("audio_format", [AudioFormat.WAV, AudioFormat.FLAC])
def test_lossless_formats_lose_nothing(audio_format: AudioFormat) -> None:
    spec = OutputSpec(format=audio_format, whole=audio_format is AudioFormat.FLAC)
    data = b"".join(encoded(spec, tone(24_000), engine_rate=24_000, piece=999))
    samples, _ = soundfile.read(io.BytesIO(data), dtype="int16")
    assert samples.tobytes() == to_s16(tone(24_000))


@pytest.mark.parametrize("audio_format", [AudioFormat.MP3, AudioFormat.OPUS, AudioFormat.AAC, AudioFormat.WAV])
def test_the_first_bytes_come_with_the_first_pieces(audio_format: AudioFormat) -> None:
    pieces = encoded(OutputSpec(format=audio_format), tone(24_000), engine_rate=24_000, piece=2400)
    with_sound = next(index for index, piece in enumerate(pieces) if len(piece) > 100)
    assert with_sound <= 2  # 0.3 s


def test_a_whole_wav_has_its_length_where_readers_look_for_it() -> None:
    whole = encoded(OutputSpec(format=AudioFormat.WAV, whole=True), tone(32_000), engine_rate=32_000, piece=999)
    assert not any(whole[:-1])
    with wave.open(io.BytesIO(whole[-1])) as file:
        assert (file.getframerate(), file.getnframes()) == (32_000, len(tone(32_000)))
        assert file.readframes(file.getnframes()) == to_s16(tone(32_000))
    assert int.from_bytes(whole[-1][4:8], "little") == len(whole[-1]) - 8


def test_vorbis_takes_minutes_at_once() -> None:
    """libvorbis keeps what it is given at once on the stack of the thread."""
    minutes = np.tile(tone(32_000), 60)
    data = b"".join(encoded(OutputSpec(format=AudioFormat.VORBIS), minutes, engine_rate=32_000, piece=len(minutes)))
    samples, rate_hz = soundfile.read(io.BytesIO(data))
    assert (len(samples), rate_hz) == (len(minutes), 32_000)


def test_a_flac_stream_flows_and_a_flac_file_knows_its_length() -> None:
    stream = encoded(OutputSpec(format=AudioFormat.FLAC), tone(24_000), engine_rate=24_000, piece=2400)
    assert len(stream[-1]) < sum(map(len, stream)) / 2
    whole = encoded(OutputSpec(format=AudioFormat.FLAC, whole=True), tone(24_000), engine_rate=24_000, piece=2400)
    assert soundfile.info(io.BytesIO(b"".join(whole))).frames == len(tone(24_000))


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
def test_pcm_is_resampled_without_a_seam(rate_hz: int) -> None:
    spec = OutputSpec(format=AudioFormat.PCM, sample_rate=rate_hz)
    in_pieces = b"".join(encoded(spec, tone(24_000), engine_rate=24_000, piece=777))
    at_once = b"".join(encoded(spec, tone(24_000), engine_rate=24_000, piece=10**6))
    assert in_pieces == at_once
    samples: NDArray[np.float32] = np.frombuffer(in_pieces, "<i2").astype(np.float32) / np.float32(32767)
    assert len(samples) == pytest.approx(SECONDS * rate_hz, abs=2)
    assert pitch_hz(samples, rate_hz) == pytest.approx(HZ, abs=2)


def test_pcm_is_24_khz_whatever_the_engine_speaks_at() -> None:
    assert OutputSpec(format=AudioFormat.PCM).rate_for(32_000) == 24_000


def test_loud_samples_are_clipped_and_do_not_wrap() -> None:
    loud = np.array([1.002, -1.5, 1.0, -1.0], np.float32)
    assert np.frombuffer(to_s16(loud), "<i2").tolist() == [32767, -32767, 32767, -32767]


@pytest.mark.parametrize("audio_format", list(AudioFormat))
def test_an_encoder_can_be_given_up_half_way(audio_format: AudioFormat) -> None:
    encoder = make_encoder(OutputSpec(format=audio_format), engine_rate=24_000)
    encoder.feed(tone(24_000))
    encoder.close()
    encoder.close()
