"""Voices, revisions and shared models as the journal keeps them: plain JSON, and back.

Separate because one of them, the voice, is written on the flip's path, and because a record of an older sidecar must
still be read by a newer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segue.memory.messages import PartRef, VoiceName
from segue.wire import (
    CanaryMode,
    Consistency,
    Fence,
    PointerRequest,
    ProbeReport,
    RevisionPhase,
    RevisionRequest,
    SelfReverted,
    WatchState,
)
from segue_sidecar.entries import Armed, ModelsEntry, RevisionEntry, Said, VoiceEntry


def voice_record(entry: VoiceEntry) -> dict[str, Any]:
    """A voice as the journal keeps it. Written on the flip's path: plain dicts, little of it."""
    said = entry.said
    record: dict[str, Any] = {
        "uid": entry.uid,
        "slot": entry.slot,
        "fence": str(entry.fence),
        "said": [said.active, said.candidate, said.mode.value, said.weight],
        "speaksSince": entry.speaks_since_ns,
        "consistency": entry.consistency.value,
        "pointed": entry.pointed,
        "withdrawn": entry.withdrawn,
        "released": entry.released,
    }
    if entry.watch:
        record["watch"] = entry.watch.model_dump(mode="json")
    if entry.armed:
        record["armed"] = [entry.armed.request.model_dump(mode="json"), str(entry.armed.fence)]
    if entry.self_reverted:
        record["selfReverted"] = entry.self_reverted.model_dump(mode="json")
    return record


def read_voice(name: str, record: Mapping[str, Any]) -> VoiceEntry:
    """The other way."""
    namespace, _, short = name.partition("/")
    active, candidate, mode, weight = record["said"]
    armed = record.get("armed")
    return VoiceEntry(
        name=VoiceName(namespace, short),
        uid=record["uid"],
        slot=record["slot"],
        fence=Fence.parse(record["fence"]),
        said=Said(active, candidate, CanaryMode(mode), weight),
        speaks_since_ns=record.get("speaksSince", 0),
        consistency=Consistency(record["consistency"]),
        pointed=record.get("pointed", active is not None),
        withdrawn=record["withdrawn"],
        released=record["released"],
        watch=WatchState.model_validate(record["watch"]) if "watch" in record else None,
        armed=Armed(PointerRequest.model_validate(armed[0]), Fence.parse(armed[1])) if armed else None,
        self_reverted=SelfReverted.model_validate(record["selfReverted"]) if "selfReverted" in record else None,
    )


def revision_record(entry: RevisionEntry) -> dict[str, Any]:
    """A revision as the journal keeps it: with its parts once they are proven, without its progress."""
    return {
        "request": entry.request.model_dump(mode="json", by_alias=True),
        "phase": entry.phase.value,
        "reason": entry.reason,
        "message": entry.message,
        "handle": entry.handle,
        "parts": _part_records(entry.parts),
        "build": entry.build,
        "sentence": entry.sentence.model_dump(mode="json", by_alias=True) if entry.sentence else None,
        "full": entry.full.model_dump(mode="json", by_alias=True) if entry.full else None,
        "since": entry.since_ns,
        "asked": entry.asked_ns,
        "prepared": _part_records(entry.prepared),
        "stored": entry.stored,
        "lastHandle": entry.last_handle,
    }


def models_record(entry: ModelsEntry) -> dict[str, Any]:
    """Shared models as the journal keeps them, once they are ready."""
    return {
        "parts": _part_records(entry.parts),
        "absent": dict(entry.absent),
        "fingerprint": entry.fingerprint,
    }


def read_models(engine: str, record: Mapping[str, Any]) -> ModelsEntry:
    """The other way: to be taken over from the revisions that hold them, if they still are what the files say."""
    return ModelsEntry(
        engine=engine,
        reason="Adopting",
        parts=_read_parts(record["parts"]),
        absent=record["absent"],
        fingerprint=record["fingerprint"],
    )


def _part_records(parts: Iterable[PartRef]) -> list[list[Any]]:
    return [[part.name, part.digest, part.size_bytes] for part in parts]


def _read_parts(records: Iterable[Sequence[Any]]) -> tuple[PartRef, ...]:
    return tuple(PartRef(name=name, digest=digest, size_bytes=size) for name, digest, size in records)


def read_revision(voice: VoiceName, revision: str, record: Mapping[str, Any]) -> RevisionEntry:
    """The other way. What was resident is to be looked at again before anybody may believe that it still is.

    What only the sidecar had in memory went with it.
    """
    phase = RevisionPhase(record["phase"])
    resident = phase in (RevisionPhase.READY, RevisionPhase.OFFERING)
    warm = phase is RevisionPhase.WARM
    return RevisionEntry(
        voice=voice,
        revision=revision,
        request=RevisionRequest.model_validate(record["request"]),
        phase=RevisionPhase.VERIFYING if resident else RevisionPhase.COLD if warm else phase,
        reason="Adopting" if resident else record["reason"],
        message=record["message"],
        handle=record["handle"],
        parts=() if warm else _read_parts(record["parts"]),
        build=record["build"],
        sentence=ProbeReport.model_validate(record["sentence"]) if record["sentence"] else None,
        full=ProbeReport.model_validate(record["full"]) if record["full"] else None,
        since_ns=record["since"],
        asked_ns=record.get("asked", record["since"]),
        prepared=_read_parts(record.get("prepared", record["parts"] if record["sentence"] else ())),
        stored=record.get("stored", False),
        last_handle=record.get("lastHandle"),
    )
