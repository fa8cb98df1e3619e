"""Following the desired set: the pod brings up by itself what it should speak.

Level-triggered: each second every entry that is not at rest is held against the books again, and one step is taken
(`rule`), through the same commands that the operator uses. So a step that was cut short by a restart is simply taken
again, and whatever an operator commands meanwhile wins by its fence.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from segue.desired import DesiredEntry
from segue.errors import CommandRefused, NotReady, SegueError
from segue.memory.messages import VoiceName
from segue.wire import DesiredProblem, DesiredState, PointerRequest, RevisionPhase, Tier
from segue_sidecar.books import Books
from segue_sidecar.commands import Commands
from segue_sidecar.config import Config
from segue_sidecar.desired.reading import Shelf, Signature, read_shelf, signature_of
from segue_sidecar.desired.rule import Reach, Step, next_step, speaks
from segue_sidecar.entries import RevisionEntry, VoiceEntry
from segue_sidecar.fences import Command
from segue_sidecar.residency import Residency
from segue_sidecar.workers import Roster

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
SHOWN = 50
_STEPS_A_ROUND = 32
"""Commands that one round carries out: three hundred voices at once must not hold up a flip."""
_LONGEST_PAUSE = 60
"""In first pauses."""
_TRIES_TO_WAIT_FOR = 3


@dataclass(slots=True)
class Wish:
    """An entry, and how far it got.

    Attributes
    ----------
    since_s
        When the mount began to say this (monotonic).
    failures, again_s
        How often it failed in a row, and not before when it is tried again (monotonic).
    failed_ns
        Which failure of its revision was counted last.
    """

    entry: DesiredEntry
    since_s: float
    failures: int = 0
    again_s: float = 0.0
    failed_ns: int = 0

    @property
    def voice(self) -> VoiceName:
        """Whom it is about."""
        namespace, _, name = self.entry.voice.partition("/")
        return VoiceName(namespace, name)

    def put_off(self, first_pause_s: float) -> float:
        """It failed once more: the pause until the next attempt."""
        pause_s = first_pause_s * min(1 << min(self.failures, 16), _LONGEST_PAUSE)
        self.failures += 1
        self.again_s = time.monotonic() + pause_s
        return pause_s


class Following:
    """All entries. Without a directory it has none, and shows nothing."""

    def __init__(
        self,
        *,
        config: Config,
        books: Books,
        commands: Commands,
        residency: Residency,
        roster: Roster,
        silent_s: Callable[[], float],
    ) -> None:
        self._directory: Path | None = config.desired_directory
        self._alone_s = config.desired_alone_s
        self._settle_s = config.desired_settle_s
        self._retry_s = config.desired_retry_s
        self._books = books
        self._commands = commands
        self._residency = residency
        self._roster = roster
        self._silent_s = silent_s
        self._signature: Signature | None = None
        self._wishes: dict[str, Wish] = {}
        self._first: set[str] | None = None
        self._problems: dict[str, DesiredProblem] = {}
        self._unsettled: set[str] = set()
        self._seen_version = -1

    # --- from outside -----------------------------------------------------------------------------------------------

    async def run(self, settled: asyncio.Event) -> None:
        """Follow until cancelled; `settled` is set once memory may be allocated."""
        if self._directory is None:
            return
        while True:
            try:
                await self._look(self._directory)
                if settled.is_set():
                    self._round()
            except Exception:  # a round's outermost point: one that fails must not end the others
                logger.exception("following the desired set failed; it is tried again in %g s", LOOK_EVERY_S)
            await _either(settled, LOOK_EVERY_S)

    def ready(self, entry: RevisionEntry) -> None:
        """A revision became Ready: point at it at once, if that is what an entry waits for."""
        wish = self._wishes.get(str(entry.voice))
        if wish is not None and wish.entry.revision == entry.revision:
            self._try(wish)

    def holding_up(self) -> list[str]:
        """Voices that the set named when the pod started, and that it does not speak yet: it is not ready.

        Later ones take nobody out of service; nor do those that cannot be had, once another voice speaks.
        """
        if self._directory is None:
            return []
        if self._first is None:
            return ["the desired set to be read"]
        self._first = {name for name in self._first if self._is_missing(name)}
        return sorted(name for name in self._first if self._is_waited_for(name))

    def state(self) -> DesiredState | None:
        """What the pod makes of the set."""
        if self._directory is None or self._first is None:
            return None
        missing = sorted(name for name in self._wishes if self._is_missing(name))
        problems = [self._problems[source] for source in sorted(self._problems)]
        return DesiredState(entries=len(self._wishes), missing=tuple(missing[:SHOWN]), problems=tuple(problems[:SHOWN]))

    # --- looking ----------------------------------------------------------------------------------------------------

    async def _look(self, directory: Path) -> None:
        signature = await asyncio.to_thread(signature_of, directory)
        if signature != self._signature:
            self._take(await asyncio.to_thread(read_shelf, directory), now_s=time.monotonic())
            self._signature = signature

    def _take(self, shelf: Shelf, *, now_s: float) -> None:
        """From now on this is what the mount says; entries that stayed keep what is known of them."""
        before = self._wishes
        self._wishes = {
            name: before[name] if name in before and before[name].entry == entry else Wish(entry, now_s)
            for name, entry in shelf.entries.items()
        }
        for name in before.keys() - self._wishes.keys():
            self._want(name, None)
        stayed = {name for name, wish in self._wishes.items() if before.get(name) is wish}
        stayed |= {problem.source for problem in shelf.problems if self._problems.get(problem.source) == problem}
        self._problems = {source: known for source, known in self._problems.items() if source in stayed}
        for problem in shelf.problems:
            self._complain(problem)
        if self._first is None:
            self._first = set(self._wishes)
        self._unsettled = set(self._wishes)
        self._books.touch()

    # --- stepping ---------------------------------------------------------------------------------------------------

    def _round(self) -> None:
        """One step of every entry that may have one to take."""
        if self._books.version != self._seen_version:
            self._unsettled = set(self._wishes)
        taken = 0
        for name in sorted(self._unsettled & self._wishes.keys()):
            taken += self._try(self._wishes[name])
            if taken >= _STEPS_A_ROUND:
                return
        self._seen_version = self._books.version

    def _try(self, wish: Wish) -> bool:
        """Take a step, if there is one; whether there was. An entry that cannot be followed says so."""
        if time.monotonic() < wish.again_s:
            return False
        try:
            return self._step(wish)
        except NotReady as error:
            self._complain(DesiredProblem(source=wish.entry.voice, reason="NotReady", message=str(error)))
        except CommandRefused as error:
            self._put_off(wish, type(error).__name__, str(error))
        except SegueError as error:
            logger.error("the desired set's entry for %s cannot be followed now: %s", wish.entry.voice, error)
        return True

    def _step(self, wish: Wish) -> bool:
        entry, voice = wish.entry, self._books.voices.get(wish.entry.voice)
        step = next_step(entry, voice, released=self._books.released.get(entry.voice), reach=self._reach(wish))
        match step:
            case Step.REST:
                self._rest(entry.voice)
            case Step.WAIT:
                return False
            case Step.AGREE:
                self._commands.obey(wish.voice, self._command(entry, voice))
            case Step.LOAD:
                self._load(wish, voice)
            case Step.POINT:
                self._point(wish, voice)
            case _:
                assert_never(step)
        return step is not Step.REST

    def _reach(self, wish: Wish) -> Reach:
        return Reach(
            alone=self._silent_s() >= self._alone_s,
            settled=time.monotonic() - wish.since_s >= self._settle_s,
        )

    def _rest(self, name: str) -> None:
        self._unsettled.discard(name)
        self._want(name, None)
        if self._problems.pop(name, None) is not None:
            self._books.touch()

    def _load(self, wish: Wish, voice: VoiceEntry | None) -> None:
        entry = wish.entry
        known = voice.revisions.get(entry.revision) if voice is not None else None
        if known is not None and known.phase is RevisionPhase.FAILED and known.request == entry.request:
            self._load_again(wish, known)
            return
        request = entry.request.model_copy(update={"resident": entry.request.tier is Tier.HOT or speaks(voice)})
        self._commands.ensure_revision(wish.voice, entry.revision, request, self._command(entry, voice))
        self._want(entry.voice, entry.revision)

    def _load_again(self, wish: Wish, known: RevisionEntry) -> None:
        """Nobody else will ask for it again; a source may have been away for a moment."""
        if wish.failed_ns != known.since_ns:
            wish.failed_ns = known.since_ns
            self._put_off(wish, "LoadFailed", f"revision {known.revision[:10]}: {known.reason}: {known.message}")
            return
        self._residency.try_again(known)

    def _point(self, wish: Wish, voice: VoiceEntry | None) -> None:
        entry = wish.entry
        command = self._command(entry, voice)
        voice = self._commands.obey(wish.voice, command)
        request = PointerRequest(active=entry.revision, consistency=voice.consistency, withdrawn=voice.withdrawn)
        self._commands.set_pointer(wish.voice, request, command, received_ns=time.monotonic_ns())
        wish.failures = 0
        self._rest(entry.voice)
        message = f"revision {entry.revision[:10]} speaks: the desired set says so (fence {entry.fence})"
        self._books.event("DesiredFollowed", message, voice=wish.voice)

    def _command(self, entry: DesiredEntry, voice: VoiceEntry | None) -> Command:
        """Under the higher of both fences."""
        return Command(max(entry.order, voice.fence) if voice is not None else entry.order, entry.uid)

    def _want(self, name: str, revision: str | None) -> None:
        """Workers that join wait for what is about to be pointed at."""
        voice = self._books.voices.get(name)
        if voice is not None:
            voice.wanted = revision

    # --- what goes wrong --------------------------------------------------------------------------------------------

    def _put_off(self, wish: Wish, reason: str, message: str) -> None:
        pause_s = wish.put_off(self._retry_s)
        self._complain(DesiredProblem(source=wish.entry.voice, reason=reason, message=message), voice=wish.voice)
        logger.warning("the desired set's entry for %s is tried again in %g s", wish.entry.voice, pause_s)

    def _complain(self, problem: DesiredProblem, *, voice: VoiceName | None = None) -> None:
        """An event and a line in the state, once per problem."""
        if self._problems.get(problem.source) == problem:
            return
        self._problems[problem.source] = problem
        self._books.event(f"Desired{problem.reason}", f"{problem.source}: {problem.message}", voice=voice, warning=True)

    # --- readiness --------------------------------------------------------------------------------------------------

    def _is_missing(self, name: str) -> bool:
        """Whether an entry that counts names it, and it does not speak."""
        wish, voice = self._wishes.get(name), self._books.voices.get(name)
        if wish is None or (voice is not None and voice.said.active is not None):
            return False
        ever = Reach(alone=True, settled=True)
        return next_step(wish.entry, voice, released=self._books.released.get(name), reach=ever) is not Step.REST

    def _is_waited_for(self, name: str) -> bool:
        """Not where nothing is left to do here: without workers nobody speaks, and brought up is enough."""
        wish, voice = self._wishes[name], self._books.voices.get(name)
        if wish.entry.request.tier is not Tier.HOT:
            return False
        known = voice.revisions.get(wish.entry.revision) if voice is not None else None
        if known is not None and known.phase is RevisionPhase.OFFERING and not self._roster.connected():
            return False
        others_speak = any(one.said.active for one in self._books.voices.values())
        cannot_be_had = wish.failures >= _TRIES_TO_WAIT_FOR or (known is not None and known.reason == "PoolFull")
        return not (cannot_be_had and others_speak) and not self._is_refused(name)

    def _is_refused(self, name: str) -> bool:
        """Whether this pod can never have it: another engine, a source that its fleet does not allow."""
        problem = self._problems.get(name)
        return problem is not None and problem.reason == "InvalidCommand"


async def _either(event: asyncio.Event, wait_s: float) -> None:
    """Sleep, but not past the first moment at which there is something to do."""
    if event.is_set():
        await asyncio.sleep(wait_s)
        return
    try:
        async with asyncio.timeout(wait_s):
            await event.wait()
    except TimeoutError:
        pass
