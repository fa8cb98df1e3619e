"""What the routes call."""

from __future__ import annotations

from dataclasses import dataclass

from segue.memory.messages import VoiceName
from segue.wire import PointerRequest, PointerResult
from segue_sidecar.commands import Commands
from segue_sidecar.contact import Contact
from segue_sidecar.evidence import Evidence
from segue_sidecar.feed import StateFeed
from segue_sidecar.fences import Command
from segue_sidecar.metrics import Metrics
from segue_sidecar.probing import Probing


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts of the sidecar that the control API shows."""

    pod_uid: str
    commands: Commands
    probing: Probing
    feed: StateFeed
    evidence: Evidence
    contact: Contact
    metrics: Metrics

    def flip(self, name: VoiceName, request: PointerRequest, command: Command, *, received_ns: int) -> PointerResult:
        """`Commands.set_pointer`, counted. Raises as it does."""
        result = self.commands.set_pointer(name, request, command, received_ns=received_ns)
        if result.stored_monotonic_ns is not None:
            self.metrics.stores.inc()
            self.metrics.store_seconds.observe((result.stored_monotonic_ns - received_ns) / 1e9)
        return result

    def refused(self, reason: str) -> None:
        """A command was refused."""
        self.metrics.refusals.labels(reason).inc()
