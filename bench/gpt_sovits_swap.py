"""The promises of a swap, with GPT-SoVITS voices of the real size: 290 MB a version, HuBERT and the others beside them.

Two v2Pro voices with drawn weights, read from files as the trainer writes them. Measured by the same code as the demo
engine's swap: flips while every queue is full, new versions that are loaded under a steady load, every answer judged
window by window. What differs is the engine, which needs seconds for a sentence here: fewer requests, the same steps.

All versions are served in float32, where a row sounds the same whoever shares its batch (to 1e-4): only then can a
foreign window be told from a rounding.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from tests.support.gpt_sovits.files import WeightFile, sovits_file
from tests.support.gpt_sovits.folder import ending_t2s_file, write_folder
from tests.support.gpt_sovits.torch_writer import Tensor

from bench.cast import Cast, enter
from bench.harness import commanding, revision_files, running_stack
from bench.swap import NewVersion, Performance, Size, perform, report_of
from bench.table import Options, at_least, at_most, note, parse_options, print_lines, tell
from segue.engine import PartView, PrepareOptions, ReferenceInput
from segue_cli.measure.environment import environment, write_report
from segue_cli.measure.latency import Spread
from segue_cli.measure.renderings import Renderings, RevisionFiles
from segue_cli.measure.shots import Mode, Shot, failures
from segue_cli.measure.texts import TEXTS
from segue_cli.up.configs import NAMESPACE
from segue_engines.gpt_sovits.engine import GptSovitsEngine

BUDGET_BYTES: Final = 8 << 30
VERSION: Final = "v2Pro"
OPTIONS: Final[Mapping[str, Any]] = {"dtype": "fp32", "decoder_dtype": "fp32", "language": "en"}
_SHIFTED: Final = "model.h.layers.0.norm1.bias"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large the weights are, and how much is done with them."""

    weights: str
    texts: int
    ahead: int
    """Versions that wait on disk to be loaded."""
    size: Size


FULL = Scale(
    weights="full",
    texts=4,
    ahead=3,
    size=Size(
        requests=100,
        flips=200,
        compared=40,
        calibration_s=20,
        selftest_shots=2,
        listeners=4,
        patience_s=180,
        drain_s=180,
    ),
)
SHORT = Scale(
    weights="reduced",
    texts=4,
    ahead=3,
    size=Size(requests=60, flips=40, compared=20, calibration_s=5, selftest_shots=2, listeners=4),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """All files of a run."""

    root: Path
    voices: tuple[str, ...]
    weights: str

    @property
    def models(self) -> Path:
        """The models that all voices share."""
        return self.root / "GPT_SoVITS" / "pretrained_models"

    def files(self, voice: str, version: int) -> RevisionFiles:
        """One version of a voice."""
        weights = {
            "gpt": self.root / f"GPT_weights_{VERSION}" / f"{voice}-e{5 + 5 * version}.ckpt",
            "sovits": self.root / f"SoVITS_weights_{VERSION}" / f"{voice}_e{8 * version}_s{200 * version}.pth",
        }
        return self.revision(voice, weights)

    def revision(self, voice: str, weights: Mapping[str, Path]) -> RevisionFiles:
        """A revision of a voice with these weights."""
        path = self.root / "output" / "slicer_opt" / f"{voice}_1.wav"
        reference = ReferenceInput(path=path, text="The server keeps speaking while new weights arrive.", language="en")
        return revision_files(
            f"{NAMESPACE}/{voice}", weights, options=OPTIONS, engine="gpt-sovits", reference=reference
        )

    def bytes_of(self, files: RevisionFiles) -> int:
        """Of its weight files."""
        return sum(path.stat().st_size for path in files.weights.values())


def make_material(root: Path, scale: Scale) -> Material:
    """Write two voices of two versions each, and the shared models."""
    names = write_folder(root, size=scale.weights, voices=2, versions=2, version=VERSION)
    return Material(root=root, voices=tuple(names), weights=scale.weights)


def write_version(material: Material, number: int) -> dict[str, Path]:
    """A version of the first voice that nobody has seen yet: both halves have another digest."""
    t2s, sovits = ("t2s", "sovits-v2pro") if material.weights == "full" else ("t2s-reduced-a", "sovits-v2pro-reduced")
    folder = material.root / "later"
    halves = {
        "gpt": (_shifted(ending_t2s_file(t2s, seed=1), number), folder / f"{number}.ckpt"),
        "sovits": (sovits_file(sovits, seed=1000 + number), folder / f"{number}.pth"),
    }
    return {name: file.write(path) for name, (file, path) in halves.items()}


def _shifted(file: WeightFile, number: int) -> WeightFile:
    """Hardly another sound, but another file: it must still come to an end as the original does."""
    tensor = file.tensors[_SHIFTED]
    file.tensors[_SHIFTED] = Tensor(tensor.shape, tensor.dtype, partial(_plus, tensor, 1e-3 * number))
    return file


def _plus(tensor: Tensor, value: float) -> np.ndarray[Any, Any]:
    return np.asarray(tensor.make() + np.float32(value), np.float32)


def make_cast(material: Material) -> Cast:
    """Both voices with both versions."""
    return Cast(
        {f"{NAMESPACE}/{voice}": [material.files(voice, 1), material.files(voice, 2)] for voice in material.voices}
    )


def make_shots(material: Material, scale: Scale) -> list[Shot]:
    """Short texts, said by both; every third streams."""
    texts = sorted(TEXTS, key=len)[: scale.texts]
    return [
        Shot(
            voice=voice, text=text, seed=number, response_format="wav", mode=Mode.WHOLE if number % 3 else Mode.CHUNKED
        )
        for number, text in enumerate(texts)
        for voice in material.voices
    ]


def make_renderings(material: Material, cast: Cast) -> Renderings:
    """What all of them should sound like, from the files, in this process."""
    engine = GptSovitsEngine()
    shared = {
        name: PartView(tensors=part.tensors, meta=part.meta)
        for name, part in engine.prepare_models(material.models, PrepareOptions()).parts.items()
        if name != "roberta"  # nothing Chinese is said
    }
    bare = [replace(files, voice=files.voice.partition("/")[2]) for each in cast.revisions.values() for files in each]
    return Renderings(bare, engine=engine, shared=shared)


def _from(material: Material, ahead: Sequence[Mapping[str, Path]]) -> NewVersion:
    """Versions in turn: writing one takes seconds of a core, which must not be taken while latency is measured."""
    voice = material.voices[0]
    return lambda number: material.revision(voice, ahead[(number - 1) % len(ahead)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was measured.

    Attributes
    ----------
    version_bytes
        Of the two files of a version.
    pool_peak_bytes
        The most that all arenas together took, shared models included.
    """

    performance: Performance
    version_bytes: int
    pool_peak_bytes: int


async def measure(scale: Scale) -> Result:
    """Flips, preloads and the judgement."""
    with tempfile.TemporaryDirectory(prefix="segue-bench-voices-") as folder:
        tell(f"writing {scale.weights} weights: two voices of two versions, versions to come, the shared models")
        material = await asyncio.to_thread(make_material, Path(folder), scale)
        ahead = [await asyncio.to_thread(write_version, material, number) for number in range(1, 1 + scale.ahead)]
        sidecar = {
            "sources": [{"uriPrefixes": [material.root.as_uri()], "privateAddresses": True}],
            "sharedModels": {"gpt-sovits": {"directory": str(material.models)}},
        }
        async with (
            running_stack(name="gpt-sovits-swap", sidecar=sidecar, budget_bytes=BUDGET_BYTES) as stack,
            commanding(stack) as commander,
        ):
            cast = make_cast(material)
            tell("bringing up all four")
            await enter(commander, cast)
            performance = await perform(
                stack,
                commander,
                cast,
                shots=make_shots(material, scale),
                size=scale.size,
                renderings=make_renderings(material, cast),
                new_version=_from(material, ahead),
            )
            peak_bytes = (await commander.state()).pool.peak_bytes
        return Result(
            performance=performance,
            version_bytes=material.bytes_of(material.files(material.voices[0], 1)),
            pool_peak_bytes=peak_bytes,
        )


def report(result: Result) -> dict[str, object]:
    """The figures as JSON."""
    figures, details = report_of(result.performance)
    sizes = {"version_bytes": result.version_bytes, "pool_peak_bytes": result.pool_peak_bytes}
    return {**figures, **sizes, "details": details}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 where a promise is broken."""
    options: Options = parse_options("gpt_sovits_swap", arguments)
    scale = SHORT if options.short else FULL
    measured_in = environment()
    result = asyncio.run(measure(scale))
    write_report(options.out / "gpt_sovits_swap.json", report(result), measured_in)
    done = result.performance
    delays, compared, silence = done.flips.delays, done.compared, done.silence
    preloads = Spread.of([(end - begin) / 1e9 for begin, end in done.preloads])
    lines = [
        note("a version on disk", f"{result.version_bytes / 1e6:.0f} MB"),
        at_least("requests", len(done.records), scale.size.requests),
        at_least("flips", delays.flips, scale.size.flips),
        at_most("failed", sum(failures(done.records).values()), 0),
        at_most("mixed", done.mixed.mixed, 0),
        at_least("injected faults caught", done.selftest.caught, done.selftest.injected),
        at_most("command to effective, p99", delays.command_to_effective_ms.p99, 5, unit=" ms", needs_full=True),
        note("  p50", f"{delays.command_to_effective_ms.p50:.2f} ms"),
        note("preload under load, p50 / max", f"{preloads.p50:.1f} / {preloads.max:.1f} s"),
        at_most("p99 latency during preload / besides", compared.p99_ratio, 1.25, needs_full=True),
        note("  p99 during / besides", f"{compared.during.p99:.0f} / {compared.besides.p99:.0f} ms"),
        note("  requests during / besides", f"{compared.during_count:,} / {compared.besides_count:,}"),
        note("longest silence during preload / besides", f"{silence.during_s:.1f} / {silence.besides_s:.1f} s"),
        note("arenas at most", f"{result.pool_peak_bytes / 1e6:,.0f} MB"),
        note("requests a second while flipping", f"{done.flips.rate_per_s:.2f}"),
    ]
    return 0 if print_lines("gpt_sovits_swap", lines, short=options.short) else 1


if __name__ == "__main__":
    sys.exit(main())
