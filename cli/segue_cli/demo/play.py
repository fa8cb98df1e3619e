"""Sets the stage, keeps the traffic on, plays the chapters, judges every answer, writes the reports.

Separate from the command so that tests run it without a terminal.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from segue.model import Status
from segue_cli.demo.acts import ACTS, QUICK, Act, Stage, play_act
from segue_cli.demo.material import CAST, NAMESPACE, STAR, prepare_material
from segue_cli.demo.observer import Observer
from segue_cli.demo.page import render_page
from segue_cli.demo.report import as_json, figures_of, flips_of
from segue_cli.demo.script import traffic
from segue_cli.demo.story import Figures, Story
from segue_cli.demo.teller import Teller
from segue_cli.measure.effective import FlipDelays, flip_delays, heads_of, read_transitions
from segue_cli.measure.environment import environment, write_report
from segue_cli.measure.load_process import LoadProcess
from segue_cli.measure.mixed import judge_records
from segue_cli.measure.processes import stats_pages
from segue_cli.measure.renderings import Renderings, RevisionFiles
from segue_cli.measure.running_up import RunningUp
from segue_cli.measure.selftest import SelfTest, try_the_detector
from segue_cli.measure.shots import LoadPlan, OpenLoop

RATE_PER_S = 14.0
LISTENERS = 40
AFTER_THE_LAST_S = 2.0
READY_S = 150.0
LONGEST_S = 900.0
SELFTEST_SHOTS = 6


def run_demo(out: Path, *, quick: bool, console: Console) -> int:
    """Play; 0 when nothing failed, nothing mixed and every chapter ended as it should."""
    measured_in = environment()
    folder = Path(tempfile.mkdtemp(prefix="segue-demo-"))
    story = Story(began_ns=time.monotonic_ns())
    try:
        with Teller(story, console) as teller:
            acts = [act for act in ACTS if not quick or act.name in QUICK]
            result = asyncio.run(_perform(folder, story, teller, acts))
        figures, selftest = result
        out.mkdir(parents=True, exist_ok=True)
        write_report(out / "report.json", as_json(story, figures, selftest), measured_in)
        (out / "report.html").write_text(render_page(story, figures, measured_in), encoding="utf-8")
    finally:
        shutil.copytree(folder / "state" / "logs", out / "logs", dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    return _verdict(story, figures, selftest, out=out, console=console)


async def _perform(folder: Path, story: Story, teller: Teller, acts: Sequence[Act]) -> tuple[Figures, SelfTest]:
    teller.say("copying the example voices; your own files are not touched")
    material = await asyncio.to_thread(prepare_material, folder)
    up = RunningUp(material.voices, folder / "state")
    renderings = Renderings([])
    try:
        await up.start()
        teller.say("segue up runs: sidecar, server and operator, each a process of its own")
        stage = Stage(
            up=up,
            story=story,
            teller=teller,
            observer=Observer(up, story, teller),
            material=material,
            renderings=renderings,
        )
        delays, spool = await _play_all(stage, folder, acts)
        teller.say("the play is over; everything stops cleanly")
    finally:
        await up.stop()
    teller.say(f"judging {len(story.records):,} answers, window by window")
    mixed = await asyncio.to_thread(judge_records, story.records, shots=story.shots, spool=spool, renderings=renderings)
    story.findings = mixed.findings
    selftest = await asyncio.to_thread(_selftest, stage)
    return figures_of(story, delays=delays, mixed=mixed), selftest


async def _play_all(stage: Stage, folder: Path, acts: Sequence[Act]) -> tuple[FlipDelays, Path]:
    up, story, teller = stage.up, stage.story, stage.teller
    await _until_all(up, lambda status: status.active_revision, what="every voice speaks")
    _name_first_versions(stage)
    teller.say(f"{', '.join(CAST)} have passed their first verification and speak")
    watching = asyncio.create_task(stage.observer.run())
    host, port = up.address
    story.shots = traffic(CAST)
    spool = folder / "spool"
    plan = LoadPlan(
        host=host,
        port=port,
        shots=tuple(story.shots),
        pace=OpenLoop(rate_per_s=RATE_PER_S),
        max_s=LONGEST_S,
        spool=str(spool),
        sessions=LISTENERS,
    )
    pids = up.worker_pids()
    try:
        with stats_pages(pids) as pages, LoadProcess(plan, directory=folder, on_tick=teller.traffic) as load:
            heads = heads_of(pages)
            teller.say(f"{LISTENERS} listeners ask {RATE_PER_S:g} times a second, plain and streaming")
            await _until_all(up, lambda status: status.stable_revision, what="every voice is confirmed")
            for act in acts:
                await play_act(stage, act)
            await asyncio.sleep(AFTER_THE_LAST_S)
            story.records = await asyncio.to_thread(load.stop)
            transitions = read_transitions(pages, heads)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    flips = [flip for flip in flips_of(up.layout.logs / "operator.log") if flip.voice in stage.observer.slots]
    return flip_delays(flips, slots=stage.observer.slots, transitions=transitions), spool


async def _until_all(up: RunningUp, said: Callable[[Status], str | None], *, what: str) -> None:
    await up.until(lambda: all(said(up.status(f"{NAMESPACE}/{name}")) for name in CAST), within_s=READY_S, what=what)


def _name_first_versions(stage: Stage) -> None:
    for name in CAST:
        revision = stage.up.status(f"{NAMESPACE}/{name}").active_revision or ""
        version = stage.material.first[name]
        stage.story.revisions[revision] = version.label
        stage.renderings.add(RevisionFiles(voice=name, revision=revision, weights=version.weights))


def _selftest(stage: Stage) -> SelfTest:
    named = {label: revision for revision, label in stage.story.revisions.items()}
    one, other = named[stage.material.first[STAR].label], named[stage.material.good.label]
    shots = [shot for shot in stage.story.shots if shot.voice == STAR and "?" not in shot.text][:SELFTEST_SHOTS]
    return try_the_detector(stage.renderings, shots, one=one, other=other)


def _verdict(story: Story, figures: Figures, selftest: SelfTest, *, out: Path, console: Console) -> int:
    table = Table(title="What listeners noticed", title_justify="left", title_style="bold", show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    flip = figures.command_to_effective_ms
    for name, value in (
        ("requests", f"{figures.requests:,}"),
        ("failed", f"{figures.failed} {dict(figures.failures) or ''}"),
        ("mixed two versions", f"{figures.mixed} of {figures.judged:,} judged"),
        ("failures of a bad version, shielded", f"{figures.shielded}"),
        ("command to effective", f"p50 {flip.p50:.2f}, p99 {flip.p99:.2f}, max {flip.max:.2f} ms"),
        ("p99 latency while a version loads", f"{figures.p99_latency_ratio_during_preload:.2f} × otherwise"),
        ("injected faults that the detector caught", f"{selftest.caught} of {selftest.injected}"),
    ):
        table.add_row(name, value)
    console.print()
    console.print(table)
    for chapter in story.chapters:
        mark = "[green]as it should[/]" if chapter.as_expected else f"[red bold]expected: {chapter.expected}[/]"
        console.print(f"  {chapter.title}: {chapter.outcome}, {chapter.seconds:.1f} s, {mark}")
    for finding in story.findings:
        console.print(f"  [red]{finding}[/]")
    console.print(f"\nreport: {out / 'report.html'}  figures: {out / 'report.json'}")
    good = not figures.failed and not figures.mixed and selftest.good
    return 0 if good and all(chapter.as_expected for chapter in story.chapters) else 1
