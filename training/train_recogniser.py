"""Train the phone recogniser of the text-match probe on espeak-ng voices.

    python training/train_recogniser.py speak --out ~/.cache/segue/train/recogniser
    python training/train_recogniser.py train --out ~/.cache/segue/train/recogniser --minutes 15

`speak` writes mel bands and phone classes per voice; `train` fits the network, first frame by frame (espeak says when
each phone begins), then with CTC, and writes `engines/segue_engines/probes/data/recogniser.npz` in float16.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from corpus import sentences
from espeak import Espeak, Speaker
from speakers import STYLES
from torch import nn
from torch.nn import functional

from segue_engines.demo.text import read_text
from segue_engines.probes.phone_features import BANDS, PHONE_IDS, PHONES, log_mel
from segue_engines.probes.spectrum import HOP, SPEECH_RATE_HZ, at_rate

VARIANTS = (
    *("m1", "m2", "m3", "m4", "m5", "m7", "m8", "f1", "f2", "f3"),
    *("f4", "f5", "steph", "edward", "Andy", "Annie", "Denis", "Diogo", "Gene", "Jacky"),
    *("Lee", "Mario", "Michael", "Alex", "anika", "antonio", "aunty", "belinda", "benjamin", "david"),
    *("john", "linda", "norbert", "paul", "rob", "robert", "sandro", "victor", "pablo", "zac"),
)
OUTPUT = Path(__file__).parent.parent / "engines" / "segue_engines" / "probes" / "data" / "recogniser.npz"
WIDTH = 176
DILATIONS = (1, 2, 4, 1, 2, 4)


def speak(out: Path, *, minutes: float) -> None:
    """Speak with every variant, at many rates and pitches, and keep bands and classes."""
    espeak = Espeak()
    draw = random.Random(11)
    texts = sentences(40000, seed=4242)
    for index, variant in enumerate(VARIANTS):
        base = Speaker(voice=f"en-us+{variant}")
        examples: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        spoken_s = 0.0
        while spoken_s < minutes * 60:
            speaker = replace(
                base,
                rate_wpm=draw.randint(140, 210),
                pitch=draw.randint(25, 75),
                pitch_range=draw.randint(30, 70),
                resample=draw.uniform(0.85, 1.17),
            )
            for sentence in read_text(next(texts)):
                utterance = espeak.speak(sentence, speaker)
                if utterance is None:
                    continue
                example = _example(utterance.samples, speaker.rate_hz, utterance.phones, utterance.starts)
                spoken_s += len(utterance.samples) / speaker.rate_hz
                examples.append(example)
        _save(out / f"{index:02d}-{variant}.npz", examples)
        print(variant, len(examples), f"{spoken_s / 60:.1f} min", flush=True)
    for name in STYLES:
        _save(out / f"style-{name}.npz", _styles(name))


def _example(samples: np.ndarray, rate_hz: float, phones: tuple[str, ...], starts: tuple[int, ...]):
    audio = at_rate(samples, round(rate_hz))
    bands = log_mel(audio)
    frames = (np.array(starts) * SPEECH_RATE_HZ / rate_hz / HOP / 2).round().astype(int)
    return bands, *_labels(phones, frames, (len(bands) + 1) // 2)


def _labels(phones: tuple[str, ...], frames: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Class of each 20 ms frame (blank in pauses), and the classes in order."""
    framewise = np.zeros(count, np.int64)
    order = []
    for phone, begin, end in zip(phones, frames[:-1], frames[1:], strict=True):
        label = PHONE_IDS.get(phone.rstrip("012"), 0)
        framewise[begin:end] = label
        if label:
            order.append(label)
    return framewise, np.array(order, np.int64)


def _styles(name: str) -> list:
    root = Path("~/.cache/segue/train").expanduser()
    lines = (root / "labels" / f"{name}.jsonl").read_text().splitlines()
    examples = []
    for index, line in enumerate(lines):
        label = json.loads(line)
        audio, rate = soundfile.read(root / "wavs" / name / f"{index:04d}.wav", dtype="float32")
        starts = np.concatenate([[0], np.cumsum(label["frames"])]) * 120
        examples.append(_example(audio, rate, tuple(label["phones"]), tuple(starts)))
    return examples


def _save(path: Path, examples: list) -> None:
    bands, framewise, order = zip(*examples, strict=True)
    np.savez(
        path,
        bands=np.concatenate(bands).astype(np.float16),
        band_counts=[len(item) for item in bands],
        framewise=np.concatenate(framewise),
        order=np.concatenate(order),
        order_counts=[len(item) for item in order],
    )


def _load(path: Path) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    stored = np.load(path)
    counts = stored["band_counts"]
    bands = np.split(stored["bands"].astype(np.float32), np.cumsum(counts)[:-1])
    framewise = np.split(stored["framewise"], np.cumsum((counts + 1) // 2)[:-1])
    order = np.split(stored["order"], np.cumsum(stored["order_counts"])[:-1])
    return [tuple(map(torch.from_numpy, item)) for item in zip(bands, framewise, order, strict=True)]  # type: ignore[misc]


class Block(nn.Module):
    """Residual: dilated convolution, norm over channels, and a 1x1 convolution."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.wide = nn.Conv1d(WIDTH, WIDTH, 3, padding=dilation, dilation=dilation)
        self.norm = nn.LayerNorm(WIDTH)
        self.mix = nn.Conv1d(WIDTH, WIDTH, 1)
        self.drop = nn.Dropout(0.05)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.wide(x).transpose(1, 2)).transpose(1, 2)
        return x + self.drop(self.mix(functional.relu(hidden)))


class Recogniser(nn.Module):
    """64 bands at 100 Hz to 40 classes at 50 Hz."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(BANDS, WIDTH, 5, stride=2, padding=2)
        self.blocks = nn.ModuleList(Block(dilation) for dilation in DILATIONS)
        self.head = nn.Conv1d(WIDTH, len(PHONES) + 1, 1)

    def forward(self, bands: torch.Tensor) -> torch.Tensor:
        """`(batch, frames, 64)` to logits `(batch, ceil(frames / 2), classes)`."""
        x = functional.relu(self.stem(bands.transpose(1, 2)))
        for block in self.blocks:
            x = block(x)
        return self.head(functional.relu(x)).transpose(1, 2)


def _batch(examples: list, draw: random.Random, size: int):
    picked = [examples[draw.randrange(len(examples))] for _ in range(size)]
    longest = max(len(bands) for bands, _, _ in picked)
    longest += longest % 2
    bands = torch.zeros(size, longest, BANDS)
    framewise = torch.full((size, longest // 2), -100)
    for row, (mel, frames, _) in enumerate(picked):
        bands[row, : len(mel)] = _disturbed(mel, draw)
        framewise[row, : len(frames)] = frames[: longest // 2]
    orders = [order for _, _, order in picked]
    lengths = torch.tensor([(len(mel) + 1) // 2 for mel, _, _ in picked]).clamp(max=longest // 2)
    return bands, framewise, torch.cat(orders), lengths, torch.tensor([len(order) for order in orders])


def _disturbed(mel: torch.Tensor, draw: random.Random) -> torch.Tensor:
    """Other microphones, rooms and vocoders: tilt, noise floor, blur, gaps in time and frequency."""
    mel = mel.clone()
    position = torch.linspace(-1, 1, BANDS)
    mel += draw.uniform(-0.3, 0.3) * position + draw.uniform(-0.2, 0.2) * torch.cos(3.14 * position)
    if draw.random() < 0.5:
        floor = draw.uniform(-2.2, -0.6)
        mel = torch.logaddexp(3 * mel, torch.tensor(3 * floor) + 0.6 * torch.randn_like(mel)) / 3
    if draw.random() < 0.3:
        mel = functional.avg_pool1d(mel.T[None], 3, 1, 1)[0].T
    if draw.random() < 0.3:
        mel = functional.avg_pool1d(mel[None], 3, 1, 1)[0]
    mel += 0.08 * torch.randn_like(mel)
    start = draw.randrange(BANDS - 8)
    mel[:, start : start + draw.randrange(8)] = 0
    return mel - mel.mean(dim=0)


def train(out: Path, *, minutes: float) -> None:
    """Fit for about `minutes` on one thread and write the weights."""
    torch.set_num_threads(1)
    torch.manual_seed(5)
    draw = random.Random(5)
    groups = {path.stem: _load(path) for path in sorted(out.glob("*.npz"))}
    held = {name: examples[:12] for name, examples in groups.items() if name.startswith("style")}
    examples = [item for examples in groups.values() for item in examples[12:]]
    styled = [item for name, items in groups.items() if name.startswith("style") for item in items[12:]]
    examples += styled
    model = Recogniser()
    print(sum(p.numel() for p in model.parameters()), "parameters,", len(examples), "utterances", flush=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    began = time.monotonic()
    step = 0
    while (spent := (time.monotonic() - began) / (minutes * 60)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 100) * max(0.02, 1 - spent)
        bands, framewise, order, lengths, order_counts = _batch(examples, draw, 16)
        logits = model(bands)
        loss = functional.cross_entropy(logits.transpose(1, 2), framewise)
        if spent > 0.4:
            scores = logits.log_softmax(-1).transpose(0, 1)
            aligned = functional.ctc_loss(scores, order, lengths, order_counts, zero_infinity=True)
            loss = aligned + 0.1 * loss
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 200 == 0:
            print(f"{step} {spent:.2f} loss {loss.item():.3f} {_report(model, held)}", flush=True)
            _export(model)
    _export(model)
    print(_report(model, held))


def _report(model: Recogniser, held: dict) -> str:
    model.eval()
    rates = []
    for name, examples in held.items():
        wrong = total = 0
        for bands, _, order in examples:
            with torch.no_grad():
                best = model(bands[None])[0].argmax(-1).unique_consecutive().tolist()
            wrong += _edits([label for label in best if label], order.tolist())
            total += len(order)
        rates.append(f"{name.removeprefix('style-')} {wrong / total:.3f}")
    model.train()
    return ", ".join(rates)


def _edits(heard: list[int], wanted: list[int]) -> int:
    row = list(range(len(wanted) + 1))
    for i, left in enumerate(heard, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(wanted, 1):
            diagonal, row[j] = row[j], min(diagonal + (left != right), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def _export(model: Recogniser) -> None:
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().numpy().astype(np.float16) for name, value in model.state_dict().items()}
    np.savez(OUTPUT, dilations=np.array(DILATIONS), **state)


def main() -> None:
    """Speak or train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["speak", "train"])
    parser.add_argument("--out", type=Path, default=Path("~/.cache/segue/train/recogniser"))
    parser.add_argument("--minutes", type=float, default=15.0, help="speech per voice, or training time")
    options = parser.parse_args()
    out = options.out.expanduser()
    out.mkdir(parents=True, exist_ok=True)
    if options.step == "speak":
        speak(out, minutes=options.minutes)
    else:
        train(out, minutes=options.minutes)


if __name__ == "__main__":
    main()
