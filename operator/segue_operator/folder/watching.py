"""When may the folder have changed? inotify says so within milliseconds; a slow look covers what it cannot see.

Separate because waiting is all it does: weights that lie elsewhere, network mounts and a folder that was replaced give
no notice, so everything is looked at again now and then as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from watchfiles import awatch

LOOK_EVERY_S = 5.0
AGAIN_AFTER_S = 0.15
DEBOUNCE_MS, STEP_MS = 100, 20
RETRY_S = 1.0

logger = logging.getLogger(__name__)


async def folder_wakeups(folder: Path, *, again: asyncio.Event) -> AsyncIterator[None]:
    """Yield at once, then whenever the folder may have changed.

    Parameters
    ----------
    again
        Set by the reader where something is still moving: it is looked at again a moment later.
    """
    changed = asyncio.Event()
    watcher = asyncio.create_task(_watch(folder, changed), name="watch folder")
    try:
        while True:
            again.clear()
            yield
            await _first_of(changed, again)
            changed.clear()
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


async def _first_of(changed: asyncio.Event, again: asyncio.Event) -> None:
    """Until a change, a moment if the reader wants another look, or the slow look."""
    patience_s = AGAIN_AFTER_S if again.is_set() else LOOK_EVERY_S
    waits = [asyncio.create_task(changed.wait())]
    if not again.is_set():
        waits.append(asyncio.create_task(again.wait()))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=patience_s)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _watch(folder: Path, changed: asyncio.Event) -> None:
    while True:
        try:
            inode = _inode(folder)
            async for _ in awatch(folder, debounce=DEBOUNCE_MS, step=STEP_MS, recursive=True, rust_timeout=2000):
                changed.set()
                if _inode(folder) != inode:
                    break  # another folder took its name: the watch is on the one that went
        except (OSError, RuntimeError) as error:
            logger.warning("%s cannot be watched: %s; looking every %.0f s", folder, error, LOOK_EVERY_S)
        changed.set()
        await asyncio.sleep(RETRY_S)


def _inode(folder: Path) -> int:
    return folder.stat().st_ino
