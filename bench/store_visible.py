"""How long a store into the pointer page takes to be seen by another process.

Separate from the swap bench because it needs two cores for itself: a writer stores words as the sidecar does, a reader
in another process looks at the slot without a pause, and both note CLOCK_MONOTONIC. On a busy machine either may be
taken off its core for milliseconds between two instructions; that is the scheduler's time and not the store's, so such
samples are left out, and counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from segue.memory.page import COLD, PageReader, PointerPage
from segue_cli.measure.latency import Spread

SLOT = 4242
STORES = 4000
PAUSE_NS = 30_000
PREEMPTED_NS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Visibility:
    """Microseconds from just before the store until the other process has loaded the new word."""

    spread: Spread
    samples: int
    preempted: int
    """Samples left out because writer or reader was off its core for over 20 us at that moment."""


def measure_store_visible() -> Visibility:
    """Store 4,000 words and have another process look for them."""
    page = PointerPage.create()
    fd = page.export()
    cores = sorted(os.sched_getaffinity(0))
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "bench.store_visible", str(fd), str(cores[-1])],
            stdout=subprocess.PIPE,
            pass_fds=(fd,),
        ) as reader:
            assert reader.stdout is not None
            reader.stdout.readline()
            os.sched_setaffinity(0, {cores[0]})
            try:
                stores = _store_all(page)
            finally:
                os.sched_setaffinity(0, set(cores))
            looks: dict[str, tuple[int, int]] = json.loads(reader.stdout.readline())
    finally:
        os.close(fd)
        page.close()
    return _visibility(stores, {int(epoch): look for epoch, look in looks.items()})


def _visibility(stores: dict[int, tuple[int, int]], looks: dict[int, tuple[int, int]]) -> Visibility:
    seen = [
        (looks[epoch][1] - before, max(after - before, looks[epoch][1] - looks[epoch][0]))
        for epoch, (before, after) in stores.items()
        if epoch in looks
    ]
    kept = [delay_ns / 1e3 for delay_ns, longest_step_ns in seen if longest_step_ns <= PREEMPTED_NS]
    return Visibility(spread=Spread.of(kept), samples=len(kept), preempted=len(stores) - len(kept))


def _store_all(page: PointerPage) -> dict[int, tuple[int, int]]:
    word = COLD
    stores: dict[int, tuple[int, int]] = {}
    for _ in range(STORES):
        word = word.followed_by(active=1 + word.epoch % 2)
        resume_ns = time.monotonic_ns() + PAUSE_NS
        while time.monotonic_ns() < resume_ns:
            pass
        before_ns = time.monotonic_ns()
        stores[word.epoch] = (before_ns, page.store(SLOT, word))
    return stores


def _watch(fd: int, core: int) -> None:
    os.sched_setaffinity(0, {core})
    page = PageReader(fd)
    looks: dict[int, tuple[int, int]] = {}
    print("ready", flush=True)
    before = page.load_raw(SLOT)
    looked_ns = time.monotonic_ns()
    while before & 0xFFFF != STORES:
        raw = page.load_raw(SLOT)
        now_ns = time.monotonic_ns()
        if raw != before:
            looks[raw & 0xFFFF] = (looked_ns, now_ns)
            before = raw
        looked_ns = now_ns
    page.close()
    print(json.dumps(looks), flush=True)


if __name__ == "__main__":
    _watch(int(sys.argv[1]), int(sys.argv[2]))
