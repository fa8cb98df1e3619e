"""The rollout engine, pure: what is seen goes in, the one thing to do next comes out.

Start at `engine.py`; `snapshot.py` and `action.py` are its two ends, and each phase has a file of its own.
"""

from segue.rollout.action import (
    Action,
    Command,
    ConfirmWatch,
    DropRevision,
    EnsureRevision,
    Event,
    RevertSpec,
    RunProbe,
    SetPointer,
)
from segue.rollout.engine import next_action
from segue.rollout.needs import Needs, needs, speaks
from segue.rollout.observe import PodFacts, Sighting, sort_pods, view_pod
from segue.rollout.ownership import spec_owner
from segue.rollout.requests import pointer_request, probe_request, revision_request
from segue.rollout.snapshot import Alert, PodView, QueryResult, Slots, Snapshot, Verdict

__all__ = [
    "Action",
    "Alert",
    "Command",
    "ConfirmWatch",
    "DropRevision",
    "EnsureRevision",
    "Event",
    "Needs",
    "PodFacts",
    "PodView",
    "QueryResult",
    "RevertSpec",
    "RunProbe",
    "SetPointer",
    "Sighting",
    "Slots",
    "Snapshot",
    "Verdict",
    "needs",
    "next_action",
    "pointer_request",
    "probe_request",
    "revision_request",
    "sort_pods",
    "speaks",
    "spec_owner",
    "view_pod",
]
