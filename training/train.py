"""Train the shared base of the demo voices, then fine-tune it per style.

    python training/train.py --steps 3000
    python training/train.py --steps 200 --start base.pt --style narrator-brisk

One thread; the step count sets the schedule, so a run is repeatable. Writes a checkpoint every 200 steps.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model import Prosody, Timbre
from numpy.typing import NDArray
from speakers import STYLES
from torch import Tensor, nn

from segue_engines.demo.places import frame_places, token_places

HELD_OUT = 10
"""The last utterances of each style are never trained on."""


@dataclass(frozen=True, slots=True)
class Example:
    """One utterance as the model takes it; arrays per token or per 5 ms frame."""

    style: int
    ids: NDArray[np.int64]
    position: NDArray[np.float32]
    durations: NDArray[np.int64]
    owner: NDArray[np.int64]
    place: NDArray[np.float32]
    target: NDArray[np.float32]
    pitch: NDArray[np.float32]
    voiced: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What targets are normalised by: bands over all styles, pitch per style."""

    band_mean: NDArray[np.float32]
    band_std: NDArray[np.float32]
    pitch_mean: dict[str, float]
    pitch_std: dict[str, float]


def statistics(folder: Path) -> Statistics:
    """Measure the training data."""
    mean: dict[str, float] = {}
    std: dict[str, float] = {}
    bands: list[NDArray[np.float32]] = []
    for name in STYLES:
        data = np.load(folder / f"{name}.npz")
        pitch = data["log_f0"][data["log_f0"] > 0]
        mean[name], std[name] = float(np.median(pitch)), float(pitch.std())
        bands.append(data["envelope"].astype(np.float32))
    joined = np.concatenate(bands)
    return Statistics(joined.mean(0), joined.std(0), mean, std)


def load(folder: Path, name: str, stats: Statistics) -> list[Example]:
    """All utterances of one style."""
    data = np.load(folder / f"{name}.npz")
    arrays = {key: data[key] for key in data.files}
    token_ends, frame_ends = np.cumsum(arrays["tokens"]), np.cumsum(arrays["frames"])
    examples: list[Example] = []
    for token_end, tokens, frame_end, frames in zip(
        token_ends, arrays["tokens"], frame_ends, arrays["frames"], strict=True
    ):
        part = slice(token_end - tokens, token_end)
        span = slice(frame_end - frames, frame_end)
        log_f0 = arrays["log_f0"][span]
        voiced = log_f0 > 0
        if voiced.sum() < 10:
            continue
        filled = np.interp(np.arange(frames), np.flatnonzero(voiced), log_f0[voiced])
        envelope = (arrays["envelope"][span].astype(np.float32) - stats.band_mean) / stats.band_std
        owner, place = frame_places(arrays["durations"][part])
        examples.append(
            Example(
                style=list(STYLES).index(name),
                ids=arrays["ids"][part],
                position=token_places(arrays["ids"][part].tolist(), arrays["word_starts"][part].tolist()),
                durations=arrays["durations"][part],
                owner=owner,
                place=place,
                target=np.concatenate((envelope, arrays["aperiodicity"][span].astype(np.float32)), axis=1),
                pitch=((filled - stats.pitch_mean[name]) / stats.pitch_std[name]).clip(-4, 4).astype(np.float32),
                voiced=voiced.astype(np.float32),
            )
        )
    return examples


def batches(examples: list[Example], *, frames: int, draw: random.Random) -> Iterator[list[Example]]:
    """Endless batches of about `frames` frames, of utterances of like length."""
    while True:
        order = sorted(examples, key=lambda item: len(item.owner) * draw.uniform(0.9, 1.1))
        groups: list[list[Example]] = [[]]
        for item in order:
            if groups[-1] and (len(groups[-1]) + 1) * len(item.owner) > frames:
                groups.append([])
            groups[-1].append(item)
        draw.shuffle(groups)
        yield from groups


def padded(arrays: list[NDArray[Any]]) -> Tensor:
    """Stack arrays of unequal length with zeros behind."""
    return nn.utils.rnn.pad_sequence([torch.from_numpy(array) for array in arrays], batch_first=True)


def losses(prosody: Prosody, timbre: Timbre, batch: list[Example]) -> dict[str, Tensor]:
    """Mean losses of a batch: durations, pitch, voicing, envelope, aperiodicity."""
    style = torch.tensor([item.style for item in batch])
    token_mask = padded([np.ones((len(item.ids), 1), np.float32) for item in batch])
    mask = padded([np.ones((len(item.owner), 1), np.float32) for item in batch])
    hidden, log_duration = prosody.encode(
        padded([item.ids for item in batch]), padded([item.position for item in batch]), style, token_mask
    )
    owner, place = padded([item.owner for item in batch]), padded([item.place for item in batch])
    frames = torch.gather(hidden, 1, owner[..., None].expand(-1, -1, hidden.shape[-1]))
    pitch, voiced = padded([item.pitch for item in batch]), padded([item.voiced for item in batch])
    guess, logit = prosody.contour(frames[:, ::2], place[:, ::2], mask[:, ::2])
    spectra = timbre(frames, place, pitch, style, mask)
    target = padded([item.target for item in batch])
    wanted = torch.log(padded([item.durations.astype(np.float32) for item in batch]).clamp(min=1.0))
    some = mask[:, ::2, 0]
    weight = (0.1 + 0.9 * voiced[:, ::2]) * some
    error = (spectra - target).abs() * mask
    return {
        "duration": ((log_duration - wanted).abs() * token_mask[..., 0]).sum() / token_mask.sum(),
        "pitch": ((guess - pitch[:, ::2]).abs() * weight).sum() / weight.sum(),
        "voicing": (
            nn.functional.binary_cross_entropy_with_logits(logit, voiced[:, ::2], reduction="none") * some
        ).sum()
        / some.sum(),
        "envelope": error[..., :80].sum() / mask.sum() / 80,
        "aperiodicity": error[..., 80:].sum() / mask.sum() / 80,
    }


WEIGHTS = {"duration": 1.0, "pitch": 1.0, "voicing": 0.5, "envelope": 2.0, "aperiodicity": 2.0}


def train(options: argparse.Namespace) -> None:
    """Run the schedule and write checkpoints."""
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    folder = options.data.expanduser() / "features"
    stats = statistics(folder)
    names = [options.style] if options.style else list(STYLES)
    loaded = [load(folder, name, stats) for name in names]
    examples = [item for style in loaded for item in style[:-HELD_OUT]]
    held_out = [item for style in loaded for item in style[-HELD_OUT:]]
    prosody, timbre = Prosody(len(STYLES)), Timbre(len(STYLES))
    if options.start:
        state = torch.load(options.start.expanduser())
        prosody.load_state_dict(state["prosody"])
        timbre.load_state_dict(state["timbre"])
    parameters = [*prosody.parameters(), *timbre.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01)
    stream = batches(examples, frames=options.frames, draw=random.Random(options.seed))
    began = time.monotonic()
    running: dict[str, float] = {}
    for step in range(1, options.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = options.rate * _schedule(step, options.steps)
        parts = losses(prosody, timbre, next(stream))
        optimiser.zero_grad(set_to_none=True)
        torch.stack([WEIGHTS[name] * value for name, value in parts.items()]).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        for name, value in parts.items():
            running[name] = 0.95 * running.get(name, value.item()) + 0.05 * value.item()
        if step % 50 == 0:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in running.items())
            print(f"{step:5d}  {(time.monotonic() - began) / step:.2f} s/step  {shown}", flush=True)
        if step % 200 == 0 or step == options.steps:
            _save(options.out.expanduser(), prosody, timbre, stats, step)
            _report(prosody, timbre, held_out)


def _schedule(step: int, steps: int) -> float:
    warm = min(100, steps // 10)
    if step <= warm:
        return step / warm
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))


def _save(path: Path, prosody: Prosody, timbre: Timbre, stats: Statistics, step: int) -> None:
    state = {"prosody": prosody.state_dict(), "timbre": timbre.state_dict(), "step": step}
    state["statistics"] = {
        "band_mean": torch.from_numpy(stats.band_mean),
        "band_std": torch.from_numpy(stats.band_std),
        "pitch_mean": stats.pitch_mean,
        "pitch_std": stats.pitch_std,
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.rename(path)


def _report(prosody: Prosody, timbre: Timbre, held_out: list[Example]) -> None:
    with torch.no_grad():
        parts = losses(prosody, timbre, held_out)
    print("held out  " + "  ".join(f"{name} {value.item():.3f}" for name, value in parts.items()), flush=True)


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("~/.cache/segue/train"))
    parser.add_argument("--out", type=Path, default=Path("~/.cache/segue/train/base.pt"))
    parser.add_argument("--start", type=Path, help="checkpoint to fine-tune")
    parser.add_argument("--style", choices=list(STYLES), help="train on this style only")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--frames", type=int, default=6000, help="5 ms frames in a batch")
    parser.add_argument("--seed", type=int, default=7)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
