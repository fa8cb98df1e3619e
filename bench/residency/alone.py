"""How long one voice takes to come up while nobody asks for another: from memory, from disk, from its source.

Separate from the visit of all voices, in which they wait for room and for each other.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from bench.harness import (
    BenchFailed,
    Commander,
    Stack,
    commanding,
    copy_weights,
    example_versions,
    revision_files,
    running_stack,
)
from bench.residency.asking import ask
from bench.residency.rises import by_source, rises_in
from segue.wire import RESTING, Tier
from segue_cli.measure.variants import numbered
from segue_cli.up.configs import NAMESPACE

IDLE_S = 0.3
REST_S = 60.0
TIERS = {"warm": Tier.WARM, "cold": Tier.COLD}


async def measure_alone(times: int) -> dict[str, dict[str, float]]:
    """So often from each source; milliseconds by source."""
    async with (
        running_stack(name="residency-alone", sidecar={"tiers": {"idleS": IDLE_S}}) as stack,
        commanding(stack) as commander,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{stack.port}", timeout=60, trust_env=False) as client,
    ):
        for number, (name, tier) in enumerate(TIERS.items()):
            await _enter(stack, commander, name, tier, number=number)
        for number in range(times):
            for name in TIERS:
                await _ask_at_rest(commander, client, name, number=number)
        for number in range(times):
            await _until_resting(commander, "cold")
            for path in (stack.plan.layout.cache / "prepared").glob("*/*"):
                path.unlink(missing_ok=True)
            await _ask_at_rest(commander, client, "cold", number=number)
        return by_source(rises_in(_log(stack)))


async def _enter(stack: Stack, commander: Commander, name: str, tier: Tier, *, number: int) -> None:
    voice = f"{NAMESPACE}/{name}"
    weights = numbered(
        copy_weights(example_versions()[0], stack.voices / name / "v1"), stack.voices / name, number=number
    )
    files = revision_files(voice, weights)
    await commander.ensure(voice, files, tier=tier)
    await commander.point(voice, files.revision)


async def _ask_at_rest(commander: Commander, client: httpx.AsyncClient, name: str, *, number: int) -> None:
    await _until_resting(commander, name)
    answered = await ask(client, name, number)
    if answered.failure:
        raise BenchFailed(f"{name} did not come up: {answered.failure}")


async def _until_resting(commander: Commander, name: str) -> None:
    """Nobody asks, so it goes where its tier is; its copy is on disk by then."""
    voice = f"{NAMESPACE}/{name}"
    async with asyncio.timeout(REST_S):
        state = await commander.state()
        while True:
            (revision,) = state.voices[voice].revisions.values()
            if revision.phase in RESTING and revision.stored:
                return
            state = await commander.client.state(since=state.etag, wait_s=5, term=commander.term) or state


def _log(stack: Stack) -> Path:
    return stack.services["sidecar"].log_file
