"""Answers that were given before, within a bound of bytes.

Separate from flights, which share an answer while it is being made. Only complete, error-free results of listeners'
requests get in; what is kept are the encoded bytes, because a hit should cost nothing but sending them.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass

ENTRY_OVERHEAD_BYTES = 1024
"""What an entry costs beside its audio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSpeech:
    """A whole response.

    Attributes
    ----------
    chunks
        Encoded, as they were sent.
    revision
        Who speaks.
    phones, tokens
        For the usage figures.
    """

    chunks: tuple[bytes, ...]
    revision: str
    phones: int
    tokens: int

    @property
    def size_bytes(self) -> int:
        """What it counts against the bound."""
        return sum(map(len, self.chunks)) + ENTRY_OVERHEAD_BYTES


class ResultCache:
    """Least recently used goes first. Belongs to the loop."""

    def __init__(self, max_bytes: int) -> None:
        """0 keeps nothing. No entry may take more than an eighth."""
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, CachedSpeech] = OrderedDict()
        self._by_revision: defaultdict[str, set[bytes]] = defaultdict(set)
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def largest_bytes(self) -> int:
        """No larger result is kept."""
        return self._max_bytes // 8

    def get(self, key: bytes) -> CachedSpeech | None:
        """The result of `key`, now the most recently used."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, speech: CachedSpeech) -> None:
        """Keep a result, if it is not too large; the least recently used make room."""
        if speech.size_bytes > self.largest_bytes:
            return
        self._drop(key)
        self._entries[key] = speech
        self._by_revision[speech.revision].add(key)
        self.size_bytes += speech.size_bytes
        while self.size_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def purge(self, revision: str) -> int:
        """Drop everything that this revision said; returns how many."""
        keys = list(self._by_revision.get(revision, ()))
        for key in keys:
            self._drop(key)
        return len(keys)

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self.size_bytes -= entry.size_bytes
        keys = self._by_revision[entry.revision]
        keys.discard(key)
        if not keys:
            del self._by_revision[entry.revision]
