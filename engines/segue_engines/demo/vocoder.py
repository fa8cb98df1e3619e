"""Spectra to sound: a source-filter vocoder without weights, exact under streaming.

A train of pulses (the voice) and noise (the breath) are cut into overlapping windows, each is multiplied by the
spectrum of its frame, and the windows are added up. Nothing depends on how the frames are cut into pieces: the phase of
the pulses is carried, noise is drawn by sample index from a counter-based generator, overlaps are kept. (Griffin-Lim
would give every chunk a phase of its own.)
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from segue_engines.demo.bands import NYQUIST_HZ, bands_to_bins

Array = NDArray[np.float32]

RATE_HZ: Final = 24000
HOP: Final = 120
WINDOW: Final = 480
REACH: Final = WINDOW // 2
FFT: Final = 768
"""Window plus 12 ms for the response of the filter, so that it does not wrap around."""

_SPEECH_CEILING_HZ: Final = (10_200.0, 10_600.0)
"""Speech fades out between these, so that the pilot tones above lie in silence."""
_PULSE_TAPS: Final = 16
_PULSE_PHASES: Final = 64
_LIMIT_KNEE: Final = 0.8
_LIMIT_CEILING: Final = 0.98


def _hann() -> Array:
    """Scaled so that windows that are a hop apart add up to one."""
    return np.asarray((1.0 - np.cos(2.0 * np.pi * np.arange(WINDOW) / WINDOW)) * HOP / WINDOW, np.float32)


def _filter_matrices() -> tuple[Array, Array]:
    """Matrices from log power bands to log gain and phase of the minimum-phase filter; `(80, 385)` each.

    Folding the cepstrum (Oppenheim and Schafer, Discrete-Time Signal Processing, section 13.2) is linear in the log
    spectrum, so the whole way from bands to complex log gain is one matrix.
    """
    log_gain = 0.5 * bands_to_bins(FFT).astype(np.float64)
    cepstrum = np.fft.irfft(log_gain, FFT, axis=1)
    cepstrum[:, 1 : FFT // 2] *= 2.0
    cepstrum[:, FFT // 2 + 1 :] = 0.0
    phase = np.fft.rfft(cepstrum, FFT, axis=1).imag
    return log_gain.astype(np.float32), phase.astype(np.float32)


def _ceiling() -> Array:
    low, high = _SPEECH_CEILING_HZ
    bins = np.linspace(0.0, NYQUIST_HZ, FFT // 2 + 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * ((bins - low) / (high - low)).clip(0.0, 1.0)), np.float32)


def _pulse_shapes() -> Array:
    """Band-limited unit pulses at 64 places between two samples, and at the second of them; `(65, 16)`."""
    delays = np.arange(_PULSE_PHASES + 1) / _PULSE_PHASES
    times = np.arange(_PULSE_TAPS) - (_PULSE_TAPS // 2 - 1) - delays[:, None]
    window = 0.5 + 0.5 * np.cos(np.pi * times / (_PULSE_TAPS // 2 + 1))
    return (np.sinc(times) * window).astype(np.float32)


_WINDOW_SHAPE: Final = _hann()
_LOG_GAIN, _PHASE = _filter_matrices()
_CEILING: Final = _ceiling()
_PULSES: Final = _pulse_shapes()
_BANDS_TO_BINS: Final = bands_to_bins(FFT)


def pulses(f0_hz: NDArray[np.float64], *, voiced: NDArray[np.bool_], phase: float) -> tuple[Array, float]:
    """A pulse train of unit power that follows a pitch curve.

    Parameters
    ----------
    f0_hz
        `(samples,)` pitch at each sample.
    voiced
        `(samples,)` where pulses sound; the phase runs on elsewhere.
    phase
        Fraction of a period that has passed before the first sample.

    Returns
    -------
    tuple
        `(samples + 2 * REACH,)` float32, of which the first and last `REACH` lie outside the curve; the phase after it.
    """
    turns = phase + np.cumsum(f0_hz / RATE_HZ)
    whole = np.floor(turns)
    before = np.concatenate(([np.floor(phase)], whole[:-1]))
    at = np.flatnonzero((whole > before) & voiced)
    train = np.zeros(len(f0_hz) + 2 * REACH, np.float32)
    if len(at):
        period = RATE_HZ / f0_hz[at]
        exact = at - (turns[at] - whole[at]) * period + REACH
        slot = np.floor(exact).astype(int)
        places = slot[:, None] + np.arange(_PULSE_TAPS) - (_PULSE_TAPS // 2 - 1)
        np.add.at(train, places, _pulses_between(exact - slot) * np.sqrt(period)[:, None].astype(np.float32))
    return train, float(turns[-1] - whole[-1]) if len(turns) else phase


def _pulses_between(delays: NDArray[np.float64]) -> Array:
    """Pulses that begin a fraction of a sample late; `(pulses,)` to `(pulses, 16)`.

    Interpolated, so that what differs by a rounding error (rows of another batch) stays as little apart: the nearest of
    64 shapes would jump by a sixty-fourth of a sample.
    """
    place = delays * _PULSE_PHASES
    shape = place.astype(int)
    late = (place - shape)[:, None].astype(np.float32)
    return np.asarray(_PULSES[shape] * (1 - late) + _PULSES[shape + 1] * late, np.float32)


def noise(start: int, stop: int, *, seed: int) -> Array:
    """White noise of unit power for samples `start` to `stop` of a row: always the same for the same seed.

    Negative indexes are valid: the first window begins before the first sample.
    """
    first = start + REACH
    generator = np.random.Philox(key=seed)
    generator.advance(first // 4)
    raw = generator.random_raw(stop - start + first % 4)[first % 4 :]
    uniform = (raw >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
    return (uniform - np.float32(0.5)) * np.float32(np.sqrt(12.0))


def windows(source: Array, frames: int) -> Array:
    """Cut the windows of `frames` frames; `source` begins `REACH` samples before the first frame; `(frames, 480)`."""
    view = np.lib.stride_tricks.sliding_window_view(source, WINDOW)[::HOP][:frames]
    return view * _WINDOW_SHAPE


def filtered(pulse: Array, breath: Array, *, envelope: Array, aperiodicity: Array) -> Array:
    """Shape windows of pulses and noise by the spectra of their frames.

    Parameters
    ----------
    pulse, breath
        `(frames, 480)` from `windows`.
    envelope
        `(frames, 80)` log power.
    aperiodicity
        `(frames, 80)` amplitude of noise against the whole, 0 to 1.

    Returns
    -------
    Array
        `(frames, 768) float32`: what each frame adds to the sound, from `REACH` samples before its centre.
    """
    part = aperiodicity @ _BANDS_TO_BINS
    np.clip(part, 0.0, 1.0, out=part)
    gain = np.exp(envelope @ _LOG_GAIN)
    gain *= _CEILING
    angle = envelope @ _PHASE
    response = np.empty(gain.shape, np.complex64)
    np.multiply(gain, np.cos(angle), out=response.real)
    np.multiply(gain, np.sin(angle), out=response.imag)
    source = np.fft.rfft(pulse, FFT, axis=1)
    source *= np.sqrt(1.0 - part * part)
    source += np.fft.rfft(breath, FFT, axis=1) * part
    source *= response
    return np.asarray(np.fft.irfft(source, FFT, axis=1), np.float32)


def overlap_add(pieces: Array) -> Array:
    """Add frames a hop apart; `(frames, 768)` to `(frames * HOP + FFT - HOP,)`."""
    frames = len(pieces)
    blocks = -(-FFT // HOP)
    wide = np.zeros((frames, blocks * HOP), np.float32)
    wide[:, :FFT] = pieces
    total = np.zeros((frames + blocks, HOP), np.float32)
    for block in range(blocks):
        total[block : block + frames] += wide[:, block * HOP : (block + 1) * HOP]
    return total.reshape(-1)[: (frames - 1) * HOP + FFT]


def limited(sound: Array) -> Array:
    """Bend peaks above 0.8 smoothly towards 0.98; sample by sample, so that pieces do not matter. NaN stays NaN."""
    room = np.float32(_LIMIT_CEILING - _LIMIT_KNEE)
    size = np.abs(sound)
    loud = ~(size <= _LIMIT_KNEE)
    if loud.any():
        sound = sound.copy()
        bent = _LIMIT_KNEE + room * np.tanh((size[loud] - _LIMIT_KNEE) / room)
        sound[loud] = np.copysign(bent, sound[loud])
    return sound


def tones(frequencies_hz: tuple[float, ...], *, start: int, count: int, level: float) -> Array:
    """The sum of sines whose phase is counted from sample 0 of the row; `(count,) float32`."""
    wide = 512
    rows = -(-count // wide)
    total = np.zeros((rows, wide))
    for frequency_hz in frequencies_hz:
        turn = frequency_hz / RATE_HZ
        coarse = 2.0 * np.pi * np.mod((start + wide * np.arange(rows, dtype=np.float64)) * turn, 1.0)[:, None]
        fine = 2.0 * np.pi * turn * np.arange(wide)
        total += np.sin(coarse) * np.cos(fine) + np.cos(coarse) * np.sin(fine)
    return (level * total.reshape(-1)[:count]).astype(np.float32)
