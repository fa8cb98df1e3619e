"""What new pods should speak while nobody commands them: the entry that a voice's status amounts to.

Separate from where it is kept (`kubernetes/desired.py`): on one machine nobody keeps it, because the sidecar's journal
outlives the operator.
"""

from __future__ import annotations

from segue.desired import DesiredEntry
from segue.model import Status, VoiceModel
from segue.model.status import HistoryEntry
from segue.rollout import revision_request
from segue.wire import Fence

UNSENT = Fence(0, 0)
"""Of an entry that was not written yet."""


class NoDesiredSet:
    """Keeps nothing; see `ports.DesiredSet`."""

    def keep(self, voice: VoiceModel) -> None:
        """See `ports.DesiredSet`."""

    def withdraw(self, voice: VoiceModel) -> None:
        """See `ports.DesiredSet`."""


def entry_of(voice: VoiceModel) -> DesiredEntry | None:
    """The entry of a voice, not fenced yet; None while no revision of it is confirmed.

    Raises
    ------
    InvalidVoiceModel
        A file has no digest.
    """
    stable = stable_source(voice.status)
    if stable is None:
        return None
    return DesiredEntry(
        voice=voice.key,
        uid=voice.metadata.uid,
        fence=str(UNSENT),
        revision=stable.revision,
        request=revision_request(stable, voice.spec),
    )


def stable_source(status: Status) -> HistoryEntry | None:
    """The last confirmed revision that is not being withdrawn at the moment."""
    withdrawn = status.rollback.from_revision if status.rollback is not None else None
    return next((each for each in status.history if each.revision != withdrawn), None)


def is_way_back(status: Status) -> bool:
    """Whether the stable revision is what it is because a later one was withdrawn: new pods must not wait to know."""
    if status.rollback is not None:
        return True
    stable, last = stable_source(status), status.last_rollback
    return stable is not None and last is not None and last.to_revision == stable.revision and last.at >= stable.since


def same_but_for_fence(one: DesiredEntry, other: DesiredEntry) -> bool:
    """Whether there is nothing to write."""
    return one.model_copy(update={"fence": other.fence}) == other
