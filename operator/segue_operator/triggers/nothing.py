"""An operator to which neither Alertmanager nor Prometheus speaks: rollouts are judged by the pods' own figures."""

from __future__ import annotations

from segue.model import VoiceModel
from segue.rollout import Alert, QueryResult, Verdict

NOT_CONFIGURED = "no Prometheus is configured; set prometheus.url in the operator's configuration"


class NoTriggers:
    """See `ports.Triggers`."""

    def alerts(self, voice: VoiceModel) -> tuple[Alert, ...]:
        """None ever fires."""
        return ()

    def queries(self, voice: VoiceModel) -> tuple[QueryResult, ...]:
        """None can be answered."""
        return tuple(
            QueryResult(name=query.name, verdict=Verdict.INCONCLUSIVE, message=NOT_CONFIGURED)
            for query in voice.spec.watch.queries
        )
