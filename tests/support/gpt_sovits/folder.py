"""A whole folder as GPT-SoVITS leaves it, with drawn weights: what `segue import` and `segue up` can be tried with.

    python -m tests.support.gpt_sovits.folder OUT --size reduced --voices 2

then `segue import OUT --out voices`. Nothing in it was trained: its voices babble, each in its own way, and end after a
few seconds. `full` has the shapes of real files (290 MB a voice and version, 840 MB of shared models).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
from numpy.typing import NDArray
from tests.support.gpt_sovits.files import WeightFile, sovits_file, t2s_file
from tests.support.gpt_sovits.pretrained import full_sizes, reduced_sizes, write_models
from tests.support.gpt_sovits.torch_writer import Tensor

from segue.engine import SynthesisRequest
from segue_engines.demo.engine import DemoEngine
from segue_engines.speak import load_voice, synthesize

SIZES: Final = ("reduced", "full")
VERSIONS: Final = ("v2", "v2Pro", "v2ProPlus")

_NAMES: Final = ("ann", "mei", "ben", "lin")
_LINES: Final = (
    ("EN", "The server keeps speaking while the new weights arrive."),
    ("ZH", "今天天气很好，我们一起去公园散步吧。"),
    ("EN", "Please measure the rope twice, then cut it once."),
    ("ZH", "列车将在三分钟后到达，请站在黄线以外。"),
)
"""What lists say is said in the recordings. What is heard is the demo engine's English: nothing was trained on it."""

_SPOKEN: Final = (
    "Nobody noticed that the reader had changed in the middle of the sentence.",
    "Seven brown foxes jumped over the garden wall and vanished in the mist.",
)
_DEMO_VOICES: Final = ("aria", "bert", "cleo", "narrator")
_EXAMPLES: Final = Path(__file__).parents[3] / "examples" / "voices"

_HEAD: Final = "model.ar_predict_layer.weight"
_ENDING: Final = {
    "t2s-reduced-a": {1: 0.9, 2: 2.4, 3: 1.16, 4: 2.14},
    "t2s": {1: 1.61, 2: 0.83, 3: 2.66, 4: 1.35},
}
"""By seed, how much the EOS is wanted so that half of all texts end within some 55 tokens (2.2 s), nearly all within
200. Found by bisection over 15 random texts with random prompts; a drawn network ends by no rule of its own."""


def write_folder(
    root: Path, *, size: str = "reduced", voices: int = 2, versions: int = 2, version: str = "v2Pro"
) -> list[str]:
    """Write weights, recordings, lists and shared models; returns the names of the voices.

    Parameters
    ----------
    size
        `reduced` (T2S of 2 layers, narrow SoVITS) or `full`.
    versions
        Weight files of each half: epochs 8, 16, … of SoVITS, 10, 15, … of T2S.
    version
        Of the SoVITS files.
    """
    names = [_name(place) for place in range(voices)]
    for place, name in enumerate(names):
        for update in range(versions):
            t2s, sovits = _halves(size, version, seed=1 + place * versions + update)
            t2s.write(root / f"GPT_weights_{version}" / f"{name}-e{10 + 5 * update}.ckpt")
            epoch = 8 * (update + 1)
            sovits.write(root / f"SoVITS_weights_{version}" / f"{name}_e{epoch}_s{25 * epoch}.pth")
        _record(root, name, place)
    sizes = full_sizes() if size == "full" else reduced_sizes()
    write_models(root / "GPT_SoVITS" / "pretrained_models", sizes)
    return names


def ending_t2s_file(table: str, *, seed: int) -> WeightFile:
    """A `.ckpt` whose tokens come to an end; seeds beyond the last known one begin again with the first."""
    known = sorted(_ENDING[table])
    chosen = known[(seed - 1) % len(known)]
    file = t2s_file(table, seed=chosen, eos_gain=0.0)
    last = 1 + max(int(name.split(".")[3]) for name in file.tensors if name.startswith("model.h.layers."))
    bias, head = file.tensors[f"model.h.layers.{last - 1}.norm2.bias"], file.tensors[_HEAD]
    file.tensors[_HEAD] = Tensor(head.shape, head.dtype, partial(_with_ending, head, bias, _ENDING[table][chosen]))
    return file


def _with_ending(head: Tensor, bias: Tensor, wanted: float) -> NDArray[Any]:
    """The head has no bias, but all states have one: that of the last norm. Along it the EOS gets its logit."""
    rows, direction = head.make().copy(), bias.make()
    rows[-1] = wanted * direction / (direction @ direction)
    return rows


def _halves(size: str, version: str, *, seed: int) -> tuple[WeightFile, WeightFile]:
    if size == "full":
        return ending_t2s_file("t2s", seed=seed), sovits_file(f"sovits-{version.lower()}", seed=seed)
    return ending_t2s_file("t2s-reduced-a", seed=seed), sovits_file(f"sovits-{version.lower()}-reduced", seed=seed)


def _record(root: Path, name: str, place: int) -> None:
    """Two recordings of 3 to 10 s, and the list that names them."""
    lines = []
    for take, (samples, rate_hz) in enumerate(_recordings(_DEMO_VOICES[place % len(_DEMO_VOICES)]), start=1):
        audio = root / "output" / "slicer_opt" / f"{name}_{take}.wav"
        audio.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(audio, samples, rate_hz, subtype="PCM_16")
        language, text = _LINES[(place + 2 * (take - 1)) % len(_LINES)]
        lines.append(f"{audio}|{name}|{language}|{text}\n")
    listed = root / "logs" / name / f"{name}.list"
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text("".join(lines), encoding="utf-8")


def _recordings(demo_voice: str) -> Iterator[tuple[NDArray[np.float32], int]]:
    folder = sorted((_EXAMPLES / demo_voice).glob("v*"))[0]
    speaker = load_voice(DemoEngine(), {half: folder / f"{half}.pth" for half in ("prosody", "timbre")})
    try:
        for seed, text in enumerate(_SPOKEN):
            yield synthesize(speaker, SynthesisRequest(text=text, seed=seed)), speaker.sample_rate
    finally:
        speaker.close()


def _name(place: int) -> str:
    return _NAMES[place] if place < len(_NAMES) else f"voice{place + 1}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.gpt_sovits.folder", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder to write; made if it is not there")
    parser.add_argument("--size", choices=SIZES, default="reduced")
    parser.add_argument("--voices", type=int, default=2)
    parser.add_argument("--versions", type=int, default=2, help="weight files of each half of a voice")
    parser.add_argument("--version", choices=VERSIONS, default="v2Pro", help="of the SoVITS files")
    chosen = parser.parse_args(arguments)
    names = write_folder(
        chosen.out, size=chosen.size, voices=chosen.voices, versions=chosen.versions, version=chosen.version
    )
    print(f"{chosen.out}: {', '.join(names)}")


if __name__ == "__main__":
    main()
