"""The operator: who leads, what voices are at, and how it gets on with the API server.

Not called `operator.py`, which is a module of the standard library.
"""

from __future__ import annotations

from tools.dashboards import parts
from tools.dashboards.parts import Page, Query, Row, choice, figure, layers, lines, worse_above
from tools.dashboards.promql import NOW, or_zero, rate, series, share, total

HERE = 'namespace=~"$operator_namespace"'
CALLS = "segue_operator_api_requests_total"
FAILED, NO_SUCCESS, DROPPED = 'code=~"0|429|5.."', 'code!~"2.."', 'outcome="dropped"'

OPERATOR_NAMESPACE = choice(
    "operator_namespace",
    label="Namespace",
    query="label_values(segue_operator_leading, namespace)",
    description="Where the operator is; the voices that it looks after may be in others.",
)


def control() -> Page:
    """The page."""
    return Page(
        name="operator",
        title="Operator",
        description="Who leads, what voices are at, and how the operator gets on with the API server. While it is "
        "away everything goes on being served; nothing new is let out.",
        variables=[OPERATOR_NAMESPACE],
        rows=[_now(), _voices(), _api()],
    )


def _now() -> Row:
    return Row(
        "Now",
        [
            figure(
                title="Leaders",
                description="Replicas that lead. Normal: 1, or 0 for seconds when a leader has gone. For longer: "
                "look at the Lease and at the operators' logs.",
                expr=total("segue_operator_leading", HERE),
                unit=parts.COUNT,
                limits=parts.Limits(parts.RED, ((1, parts.GREEN), (2, parts.RED))),
            ),
            figure(
                title="Replicas",
                description="Operators that Prometheus scrapes. With one alone, an update is a pause.",
                expr=f"count({series('segue_operator_leading', HERE)})",
                unit=parts.COUNT,
                limits=parts.SOME_ARE_NEEDED,
            ),
            figure(
                title="Voices that cannot be used",
                description="VoiceModels that cannot be read or may not be served. Their Events say why.",
                expr=f"max({series('segue_operator_unusable_voices', HERE)})",
                unit=parts.COUNT,
                limits=parts.NONE_IS_GOOD,
            ),
            figure(
                title="Pods of fleets",
                description="Pods that the operator counts to some fleet. Fewer than Prometheus scrapes: a label or "
                "the operator's configuration is wrong, and such pods get no commands.",
                expr=f"max({series('segue_operator_pods', HERE)})",
                unit=parts.COUNT,
                limits=parts.SOME_ARE_NEEDED,
            ),
            figure(
                title="Pods out of reach",
                description="Pods that do not answer the leader. They serve, and get no new version.",
                expr=f"max({series('segue_operator_pods_unreachable', HERE)})",
                unit=parts.COUNT,
                limits=parts.NONE_IS_GOOD,
            ),
            figure(
                title="Certificate ends in",
                description="Of the operator that has the least time left.",
                expr=f"min({series('segue_operator_certificate_expiry_timestamp_seconds', HERE)}) - time()",
                unit=parts.SECONDS,
                limits=parts.Limits(parts.RED, ((7 * 86_400, parts.YELLOW), (14 * 86_400, parts.GREEN))),
            ),
            figure(
                title="Failed API calls",
                description="Share of calls that were not answered (0), put off (429) or failed (5xx). Normal: 0. "
                "The operator tries again; while it fails, nothing is let out.",
                expr=or_zero(share(rate(CALLS, HERE, FAILED, over=NOW), rate(CALLS, HERE, over=NOW))),
                unit=parts.SHARE,
                limits=worse_above(0.01, 0.1),
            ),
            figure(
                title="Events dropped",
                description="In an hour: what could not be told to people as an Event. It stands in the operator's "
                "log.",
                expr=or_zero(f"sum(increase({series('segue_operator_events_total', HERE, DROPPED)}[1h]))"),
                unit=parts.COUNT,
                limits=worse_above(1, 100),
            ),
        ],
    )


def _voices() -> Row:
    return Row(
        "Voices",
        [
            layers(
                title="Voices by phase",
                description="Normal: Idle. Watching lasts as long as the voices' watch says. A phase that lasts for "
                "hours: `kubectl segue describe` says what such a voice waits for. Unknown: its status is not "
                "written yet.",
                queries=[Query(f"max by (phase) ({series('segue_operator_voices', HERE)})", "{{phase}}")],
                unit=parts.COUNT,
            ),
            lines(
                title="Taken back, by reason",
                description="In fifteen minutes. VerificationFailed: refused before anybody heard it. AlertFiring, "
                "ErrorRateExceeded: listeners did, and it went back by itself.",
                queries=[
                    Query(
                        f"sum by (reason) (increase({series('segue_operator_rollback_reasons_total', HERE)}[15m])) > 0",
                        "{{reason}}",
                    )
                ],
                unit=parts.COUNT,
            ),
            lines(
                title="Switches",
                description="Rollouts that flipped every pod, in fifteen minutes.",
                queries=[Query(f"sum(increase({series('segue_operator_switches_total', HERE)}[15m]))")],
                unit=parts.COUNT,
            ),
            lines(
                title="In one phase for",
                description="The ten voices that have been in a phase of their rollout for longest. Verifying may wait "
                "for an approval or a window, Canary for requests.",
                queries=[
                    Query(
                        "topk(10, time() - max by (voice, phase) "
                        f"({series('segue_operator_rollout_since_timestamp_seconds', HERE)}))",
                        "{{voice}} {{phase}}",
                    )
                ],
                unit=parts.SECONDS,
            ),
            lines(
                title="Who leads",
                description="1 for the pod that leads. A change is a new term: sidecars refuse the old one's "
                "commands. Many changes: the API server is slow, or the operator has too little CPU.",
                queries=[Query(f"max by (pod) ({series('segue_operator_leading', HERE)})", "{{pod}}")],
                unit=parts.COUNT,
            ),
            lines(
                title="Voices that cannot be used",
                description="As each replica counts them; they agree but for seconds.",
                queries=[Query(f"max by (pod) ({series('segue_operator_unusable_voices', HERE)})", "{{pod}}")],
                unit=parts.COUNT,
            ),
            lines(
                title="Calls of the alert webhook",
                description="By the answer's status. 200: taken. 401: a wrong token. 503: sent to a replica that "
                "does not lead; Alertmanager tries again. 400: not Alertmanager.",
                queries=[Query(rate("segue_operator_alert_calls_total", HERE, by="status"), "{{status}}")],
                unit=parts.REQUESTS,
            ),
        ],
    )


def _api() -> Row:
    restarts = series("segue_operator_watch_restarts_total", HERE)
    return Row(
        "API server",
        [
            layers(
                title="Calls by verb",
                description="Watches are not in it. It follows the number of voices and of rollouts; a step up "
                "without either is worth a look.",
                queries=[Query(rate(CALLS, HERE, by="verb"), "{{verb}}")],
                unit=parts.REQUESTS,
            ),
            lines(
                title="Calls that failed",
                description="By verb and code; 0: no answer. 403: rights are missing. 409 is normal now and then: "
                "somebody else wrote first, and the operator looks again. 404: gone meanwhile.",
                queries=[Query(f"{rate(CALLS, HERE, NO_SUCCESS, by='verb, code')} > 0", "{{verb}} {{code}}")],
                unit=parts.REQUESTS,
            ),
            lines(
                title="Watches begun again",
                description="In fifteen minutes. A few are normal: API servers end watches. Many at once: the API "
                "server restarts or is overloaded; the operator lists everything after each.",
                queries=[Query(f"sum by (watch) (increase({restarts}[15m]))", "{{watch}}")],
                unit=parts.COUNT,
            ),
            lines(
                title="Events",
                description="Written and dropped. A storm of them: many voices go through a rollout, or one goes "
                "round in circles.",
                queries=[Query(rate("segue_operator_events_total", HERE, by="outcome"), "{{outcome}}")],
                unit=parts.PER_SECOND,
            ),
        ],
    )
