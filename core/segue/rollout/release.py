"""A voice that was deleted: pods let go of it.

Separate because there is no spec and no status to write any more; what is left is only what the pods hold.
"""

from __future__ import annotations

from segue.rollout.action import Action, Command, ConfirmWatch, DropRevision, SetPointer
from segue.rollout.snapshot import PodView, Snapshot
from segue.rollout.step import SOON
from segue.wire import RevisionPhase


def release(snapshot: Snapshot) -> Action | None:
    """Empty the words, then drop the revisions; None when every pod in reach has let go."""
    pods = [pod for pod in snapshot.pods if pod.in_reach]
    commands = _empty_words(pods) or _drop_all(pods)
    return Action(commands=commands, requeue_after=SOON) if commands else None


def _empty_words(pods: list[PodView]) -> tuple[Command, ...]:
    named = [pod for pod in pods if pod.pointer.active or pod.pointer.candidate or pod.armed]
    emptied = {pod.uid for pod in named}
    watched = [pod for pod in pods if pod.watching is not None and pod.uid not in emptied]
    commands: list[Command] = []
    if named:
        commands.append(SetPointer(pods=tuple(pod.uid for pod in named), active=None))
    if watched:
        commands.append(ConfirmWatch(pods=tuple(pod.uid for pod in watched)))
    return tuple(commands)


def _drop_all(pods: list[PodView]) -> tuple[Command, ...]:
    held = sorted({name for pod in pods for name, view in pod.revisions.items() if _is_held(view.phase)})
    return tuple(
        DropRevision(
            pods=tuple(pod.uid for pod in pods if name in pod.revisions and _is_held(pod.revisions[name].phase)),
            revision=name,
        )
        for name in held
    )


def _is_held(phase: RevisionPhase) -> bool:
    return phase is not RevisionPhase.RETIRING
