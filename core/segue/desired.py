"""What every pod of a fleet should speak when there is nobody to command it: the desired set.

The operator writes one entry per voice, its stable revision, into ConfigMaps that the pods mount; a sidecar that starts
while the operator is away finds there what to load. Separate from `segue.wire` because nobody sends it: it lies on a
volume, a minute or more behind, and may have been written by a newer or an older operator. So unknown fields are
ignored, as on the wire, and an entry counts only as far as its fence reaches.

A ConfigMap holds at most 1 MiB and an entry is about 0.7 kB, so the voices of a fleet are spread over `SHARDS` of them
by a hash that never changes. All are optional: a shard without voices need not exist.
"""

from __future__ import annotations

import hashlib

from pydantic import Field, ValidationError

from segue.errors import SegueError
from segue.wire import FENCE_PATTERN, Fence, Revision, RevisionRequest, WireModel

SHARDS = 32
"""How many ConfigMaps a fleet has. Never another number: a voice would be in two of them."""

MAX_KEY_LENGTH = 253
"""Of a key in a ConfigMap's data."""

LABEL_FLEET = "segue.dev/desired-of"
"""Label of the ConfigMaps: the fleet whose desired set this is a part of."""


class InvalidEntry(SegueError):
    """A document that is no entry of a desired set; the message names the field."""


class DesiredEntry(WireModel):
    """One voice: the revision that is known to be good, and all that a pod needs to have it.

    Attributes
    ----------
    fence
        `TERM.SEQUENCE` under which the entry was written. A pod that obeyed a later command about the voice knows
        better than the entry.
    request
        As in `PUT …/revisions/{revision}`.
    watch
        Always absent: what is in the desired set was watched and confirmed.
    """

    voice: str = Field(pattern=r"^[a-z0-9][-a-z0-9]{0,62}/[a-z0-9][-a-z0-9.]{0,252}$", description="namespace/name")
    uid: str = Field(min_length=1, max_length=253, description="Of the VoiceModel.")
    fence: str = Field(pattern=FENCE_PATTERN)
    revision: Revision
    request: RevisionRequest
    watch: None = None

    @property
    def order(self) -> Fence:
        """The fence, to be compared."""
        return Fence.parse(self.fence)

    def to_json(self) -> str:
        """What stands in the ConfigMap: one line, without what is absent, the same text each time."""
        return self.model_dump_json(by_alias=True, exclude_none=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> DesiredEntry:
        """Read what stands in a ConfigMap.

        Raises
        ------
        InvalidEntry
            No JSON, or a field that does not hold.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            mistakes = (
                f"{'.'.join(str(part) for part in each['loc']) or 'document'}: {each['msg']}"
                for each in error.errors(include_url=False, include_input=False)
            )
            raise InvalidEntry("; ".join(mistakes)) from error


def shard_of(voice: str) -> int:
    """Which shard holds a voice (`namespace/name`): 0 to `SHARDS` - 1, the same for ever."""
    return int.from_bytes(hashlib.sha256(voice.encode()).digest()[:4], "big") % SHARDS


def config_map_name(fleet: str, shard: int) -> str:
    """Name of one shard's ConfigMap in the fleet's namespace."""
    return f"segue-desired-{fleet}-{shard}"


def data_key(voice: str) -> str:
    """The key of a voice (`namespace/name`) in its ConfigMap, and the name of its file in a mount.

    `namespace.name`, since a namespace holds no dot; a voice whose name is too long for a key goes by its digest.
    """
    namespace, _, name = voice.partition("/")
    key = f"{namespace}.{name}"
    return key if len(key) <= MAX_KEY_LENGTH else f"{namespace}.sha256-{hashlib.sha256(voice.encode()).hexdigest()}"
