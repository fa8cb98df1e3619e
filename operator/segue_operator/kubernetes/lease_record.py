"""What a Lease says, and how it is written.

Separate from the election because reading is where people's edits come in: every field may be missing or wrong, and
none of that may stop the operator. Objects are plain dicts: what others wrote into the metadata stays.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

TERM_ANNOTATION = "segue.dev/term"
RELEASED_ANNOTATION = "segue.dev/released"
"""The term that its holder gave back. A holder that was merely edited away may still lead, and is waited for."""

_KEPT_METADATA = ("name", "namespace", "uid", "resourceVersion", "labels", "annotations", "ownerReferences")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseName:
    """Which Lease."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A Lease as it was read. Two are equal when nobody acquired, renewed or released it in between.

    Attributes
    ----------
    released
        Whether its holder gave it back.
    acquired_at, renewed_at
        As text: they say that something changed, never how late it is; that is told by our own clock.
    body
        The object; other changes of it make no other record.
    """

    uid: str
    holder: str
    term: int
    released: bool
    duration_s: float
    acquired_at: str
    renewed_at: str
    transitions: int
    body: dict[str, Any] = field(compare=False)

    @property
    def vacant(self) -> bool:
        """Without a holder, and without a word of who had it: made anew, or edited. A leader may still rely on it."""
        return not self.holder and not self.released


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenure:
    """What a holder writes: who, since when, under which term.

    Attributes
    ----------
    acquired_at
        With the holder it identifies one tenure, in whatever way a person edits the rest.
    """

    holder: str
    acquired_at: str
    term: int

    def is_in(self, record: Record) -> bool:
        """Whether the Lease is held by this very tenure."""
        return not record.released and (record.holder, record.acquired_at) == (self.holder, self.acquired_at)


def parse(body: dict[str, Any]) -> Record:
    """Read a Lease; what makes no sense counts as missing."""
    spec, annotations = _mapping(body.get("spec")), _mapping(_mapping(body.get("metadata")).get("annotations"))
    holder, term = _text(spec.get("holderIdentity")), _text(annotations.get(TERM_ANNOTATION))
    return Record(
        uid=_text(_mapping(body.get("metadata")).get("uid")),
        holder=holder,
        term=_whole(term),
        released=not holder and bool(term) and annotations.get(RELEASED_ANNOTATION) == term,
        duration_s=float(_whole(spec.get("leaseDurationSeconds"))),
        acquired_at=_text(spec.get("acquireTime")),
        renewed_at=_text(spec.get("renewTime")),
        transitions=_whole(spec.get("leaseTransitions")),
        body=body,
    )


def unheld(
    at: LeaseName, *, duration_s: float, now: datetime, owners: Sequence[Mapping[str, str]] = ()
) -> dict[str, Any]:
    """A new Lease that nobody holds, with its owners."""
    body = _based_on(None, at, owners=owners)
    body["spec"] |= {"leaseDurationSeconds": math.ceil(duration_s), "renewTime": micro_time(now)}
    return body


def held(
    tenure: Tenure,
    *,
    at: LeaseName,
    over: Record | None,
    duration_s: float,
    now: datetime,
    owners: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """The Lease held by this tenure, in the place of what was read; None: in the place of nothing, with its owners."""
    body = _based_on(over, at, owners=owners)
    taken_over = over is not None and not tenure.is_in(over)
    body["metadata"].setdefault("annotations", {})[TERM_ANNOTATION] = str(tenure.term)
    body["metadata"]["annotations"].pop(RELEASED_ANNOTATION, None)
    body["spec"] |= {
        "holderIdentity": tenure.holder,
        "leaseDurationSeconds": math.ceil(duration_s),
        "acquireTime": tenure.acquired_at,
        "renewTime": micro_time(now),
        "leaseTransitions": (over.transitions if over is not None else 0) + taken_over,
    }
    return body


def given_back(record: Record, tenure: Tenure, *, at: LeaseName, now: datetime) -> dict[str, Any]:
    """The Lease without a holder, so that another takes it at once."""
    body = _based_on(record, at)
    term = str(max(record.term, tenure.term))
    body["metadata"].setdefault("annotations", {}).update({TERM_ANNOTATION: term, RELEASED_ANNOTATION: term})
    body["spec"] |= {"holderIdentity": "", "renewTime": micro_time(now)}
    return body


def micro_time(moment: datetime) -> str:
    """Kubernetes' MicroTime, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _based_on(record: Record | None, at: LeaseName, *, owners: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """Owners are said at creation only: to add one later takes the right to delete, where the cluster is strict."""
    fresh = {"metadata": {"ownerReferences": [dict(each) for each in owners]}} if owners else {}
    old: dict[str, Any] = copy.deepcopy(record.body) if record is not None else fresh
    metadata = {name: value for name, value in _mapping(old.get("metadata")).items() if name in _KEPT_METADATA}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {**metadata, "name": at.name, "namespace": at.namespace},
        "spec": _mapping(old.get("spec")),
    }


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: Any) -> int:
    """A number that is not negative, 0 where it is none. Bounded: a fence has at most 18 digits."""
    try:
        return min(max(0, int(value)), 10**15)
    except (TypeError, ValueError):
        return 0
