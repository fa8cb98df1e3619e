"""What a worker makes of a voice's word for one request: which revision speaks.

Separate from the server and pure, because the choice must come out the same in every worker of every pod: it is what
keeps a listener from hearing versions alternate. Made once per HTTP request, before the text is split into sentences
and before the result cache is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from segue.errors import MemoryError_
from segue.memory.messages import Consistency, RevisionRef, VoiceName
from segue.memory.page import MAX_WEIGHT, NO_HANDLE, Mode, Word

HEARTBEAT_LIMIT_S = 60.0
"""A page that nobody beat for longer than this belongs to a dead sidecar: an experiment does not run unattended."""


class Role(Enum):
    """Why this revision was chosen."""

    ACTIVE = "active"
    CANDIDATE = "candidate"
    PINNED = "pinned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Who speaks.

    Attributes
    ----------
    speaker
        The revision that answers; pin it before the loop is left.
    role
        Why it was chosen.
    mirror
        The revision that gets a copy whose answer is thrown away, or None.
    word
        The word that this was read from; goes into the stats page.
    stale
        The page named a handle that this worker does not know, and the last word that it could resolve was used:
        count it; more than 5 s of this and the worker is not ready.
    """

    speaker: RevisionRef
    role: Role
    mirror: RevisionRef | None
    word: Word
    stale: bool


@dataclass(frozen=True, slots=True)
class Cold:
    """No revision of the voice is resident: say `Want` and wait."""


@dataclass(frozen=True, slots=True)
class Unresolvable:
    """The page names a handle that this worker does not know, and it never knew any: 503, not ready."""

    handle: int


def choose(
    word: Word,
    *,
    voice: VoiceName,
    table: Mapping[int, RevisionRef],
    key: bytes,
    heartbeat_age_s: float,
    last_resolvable: Word | None = None,
) -> Choice | Cold | Unresolvable:
    """Decide who speaks. No effects; the caller pins the speaker in the same synchronous block.

    Parameters
    ----------
    word
        The voice's word, loaded once.
    voice
        Whom the request asks for.
    table
        Handle to revision, for every revision that this worker can speak with now.
    key
        From `listener_key`.
    heartbeat_age_s
        `PageReader.heartbeat_age_s()`; over 60 s the candidate gets nothing.
    last_resolvable
        The voice's latest word whose active handle this worker could resolve.

    Raises
    ------
    MemoryError_
        The word names a revision of another voice. Nothing can be served from such a page.
    """
    if word.active == NO_HANDLE:
        return Cold()
    stale = word.active not in table
    if stale:
        if last_resolvable is None or last_resolvable.active not in table:
            return Unresolvable(word.active)
        word = last_resolvable
    active = _owned(table[word.active], voice=voice)
    candidate = table.get(word.candidate)
    if candidate is None or not _drawn(word, candidate=candidate, key=key, heartbeat_age_s=heartbeat_age_s):
        return Choice(speaker=active, role=Role.ACTIVE, mirror=None, word=word, stale=stale)
    _owned(candidate, voice=voice)
    if word.mode is Mode.MIRROR:
        return Choice(speaker=active, role=Role.ACTIVE, mirror=candidate, word=word, stale=stale)
    return Choice(speaker=candidate, role=Role.CANDIDATE, mirror=None, word=word, stale=stale)


def pinned(revision: str, *, voice: VoiceName, word: Word, table: Mapping[int, RevisionRef]) -> Choice | None:
    """`Segue-Pin`: one resident revision of the voice, by its full digest or a prefix of ten digits and more.

    Returns None where no resident revision fits, or more than one does.
    """
    if len(revision) < 10:
        return None
    found = [ref for ref in table.values() if ref.voice == voice and ref.revision.startswith(revision)]
    if len(found) != 1:
        return None
    return Choice(speaker=found[0], role=Role.PINNED, mirror=None, word=word, stale=False)


def chooses_candidate(*, candidate: str, key: bytes, weight: int) -> bool:
    """Whether `key` belongs to the share of the listeners that hear the candidate.

    Raising the weight only adds listeners; another candidate draws another share.

    Parameters
    ----------
    candidate
        The candidate's revision digest, lower-case hex.
    weight
        Basis points, 0 to 10,000.
    """
    drawn = hashlib.blake2b(bytes.fromhex(candidate) + key, digest_size=8).digest()
    return int.from_bytes(drawn, "big") % MAX_WEIGHT < weight


def listener_key(
    *,
    request_id: str,
    consistency: Consistency = Consistency.SESSION,
    session: str | None = None,
    user: str | None = None,
    api_key: str | None = None,
    client: str | None = None,
) -> bytes:
    """What a listener is known by: `Segue-Session`, else OpenAI's `user`, else API key and client address.

    Parameters
    ----------
    request_id
        The last resort, and the key of every request where `consistency` is per utterance.
    session, user
        Header and body field, as sent; empty is the same as absent.
    api_key, client
        Name of the API key and address of the client; only the two together tell listeners apart.
    """
    if consistency is Consistency.UTTERANCE:
        return f"request\0{request_id}".encode()
    if session:
        return f"session\0{session}".encode()
    if user:
        return f"user\0{user}".encode()
    if client:
        return f"client\0{api_key or ''}\0{client}".encode()
    return f"request\0{request_id}".encode()


def _drawn(word: Word, *, candidate: RevisionRef, key: bytes, heartbeat_age_s: float) -> bool:
    if heartbeat_age_s > HEARTBEAT_LIMIT_S:
        return False
    return chooses_candidate(candidate=candidate.revision, key=key, weight=word.weight)


def _owned(ref: RevisionRef, *, voice: VoiceName) -> RevisionRef:
    if ref.voice != voice:
        raise MemoryError_(f"{voice} was asked for, but its word names handle {ref.handle} of {ref.voice}: not served")
    return ref
