"""What somebody looks at first when called at night: is everybody heard, is it quick, is something under way?"""

from __future__ import annotations

from tools.dashboards import parts
from tools.dashboards.parts import Page, Query, Row, choice, figure, layers, lines, worse_above
from tools.dashboards.promql import (
    DRAWN,
    LIVE,
    NOW,
    failed_share,
    how_many,
    or_zero,
    quantile,
    rate,
    series,
    share,
    total,
)

HERE = 'namespace=~"$namespace"'
USED, BUDGET = "segue_sidecar_pool_used_bytes", "segue_sidecar_pool_budget_bytes"
SILENT = "segue_sidecar_leader_silent_seconds"
FAILS_ABOVE = 0.01
SILENT_AFTER_S = 150
"""Twice the longest pause of an operator that is well: it reads quiet pods every 45 to 75 s (`idlePollS`)."""

NAMESPACE = choice(
    "namespace",
    label="Namespace",
    query="label_values(segue_workers, namespace)",
    description="Where the pods of the fleets are.",
)


def overview() -> Page:
    """The page."""
    return Page(
        name="overview",
        title="Overview",
        description="Is everybody heard, is it quick, is something under way? Numbers above are of the last five "
        "minutes, whatever the time range. A number that is red has a panel below it that says where.",
        variables=[NAMESPACE],
        rows=[_heard(), _quick(), _traffic(), _speed(), _pods(), _rollouts()],
    )


def _heard() -> Row:
    failing = f"{failed_share(HERE, by='voice', over=NOW)} > {FAILS_ABOVE:g}"
    pools = f"{series(USED, HERE)} / {series(BUDGET, HERE)}"
    return Row(
        "Is everybody heard?",
        [
            figure(
                title="Pods that serve",
                description="Server pods with a worker that takes requests. 0: nobody is heard, or Prometheus "
                "scrapes no server. Fewer than there should be: `/readyz` of a pod's status port says what it waits "
                "for.",
                expr=how_many(f"{series('segue_workers_ready', HERE)} > 0"),
                unit=parts.COUNT,
                limits=parts.SOME_ARE_NEEDED,
            ),
            figure(
                title="Pods without a worker",
                description="Pods that Prometheus scrapes but that take no request. Normal for minutes after their "
                "start: a fresh pod loads what the fleet speaks first. Longer: look at `/readyz` and the server's "
                "log.",
                expr=how_many(f"{series('segue_workers_ready', HERE)} == 0"),
                unit=parts.COUNT,
                limits=parts.NONE_IS_GOOD,
            ),
            figure(
                title="Voices that fail",
                description=f"Voices of which more than {FAILS_ABOVE:.0%} of the requests fail. Normal: none. Open "
                "the page of the voice: if it began at a switch, `kubectl segue rollback`; if all voices fail, it is "
                "not the weights.",
                expr=how_many(failing),
                unit=parts.COUNT,
                limits=parts.NONE_IS_GOOD,
            ),
            figure(
                title="Failed requests",
                description="Share of all requests that failed in an engine or with a worker; shielded ones, which "
                "nobody heard, are in it. Normal: 0. A canary that is being refused shows here for a while.",
                expr=or_zero(failed_share(HERE, over=NOW)),
                unit=parts.SHARE,
                limits=worse_above(0.001, FAILS_ABOVE),
            ),
            figure(
                title="Voices that cannot be used",
                description="VoiceModels that the operator cannot read or may not serve. Normal: none. Their Events "
                "say why (`kubectl segue get -A`); what they spoke before goes on.",
                expr="max(segue_operator_unusable_voices)",
                unit=parts.COUNT,
                limits=parts.NONE_IS_GOOD,
            ),
            figure(
                title="Leader",
                description="Operators that lead, of each installation; the least of them. Normal: 1. With 0 all "
                "pods go on serving, but nothing new is let out and sidecars judge open watches alone. Independent "
                "of the namespace above.",
                expr="min(sum by (namespace, job) (segue_operator_leading))",
                unit=parts.COUNT,
                limits=parts.SOME_ARE_NEEDED,
            ),
            figure(
                title="5xx answers",
                description="Share of HTTP answers that are 5xx: what clients see, after everything that was tried "
                "again. Normal: 0.",
                expr=or_zero(_http_share("5xx", over=NOW)),
                unit=parts.SHARE,
                limits=worse_above(0.001, FAILS_ABOVE),
            ),
            figure(
                title="Refused",
                description="Requests a second that were answered 429, because the queue was full. Normal: 0. More "
                "workers or pods are needed, or one client sends too much.",
                expr=or_zero(rate("segue_refused_full_total", HERE, over=NOW)),
                unit=parts.REQUESTS,
                limits=worse_above(0.01, 1),
            ),
            figure(
                title="Unfinished answers",
                description="Of all pods together. Normal: about as many as listeners at a time. If it grows without "
                "end, more is asked than can be spoken; at the server's `queueLimit` the rest is refused.",
                expr=total("segue_queue_depth", HERE),
                unit=parts.COUNT,
                limits=worse_above(100, 800),
            ),
            figure(
                title="Fullest pool",
                description="Memory for weights of the fullest pod, of its budget. Normal: under 90 %. Full: new "
                "versions wait (PoolFull) and what is spoken goes on; raise `sidecar.budget` of the fleet.",
                expr=f"max({pools})",
                unit=parts.SHARE,
                limits=worse_above(0.9, 0.97),
            ),
            figure(
                title="Silent sidecars",
                description=f"Pods that have not heard of a leader for {SILENT_AFTER_S} s. Normal: none. All of them: "
                "no operator leads. Some: certificates or NetworkPolicies. They go on serving.",
                expr=how_many(f"{series(SILENT, HERE)} > {SILENT_AFTER_S}"),
                unit=parts.COUNT,
                limits=parts.NONE_IS_GOOD,
            ),
            figure(
                title="Open watches",
                description="Voices whose new version is being watched, on the pod that has most of them. Not a "
                "fault: it says that whatever goes wrong now may be a version's doing, and will be taken back by "
                "itself.",
                expr=f"max({series('segue_sidecar_watches_open', HERE)})",
                unit=parts.COUNT,
                limits=parts.NEUTRAL,
            ),
        ],
    )


def _quick() -> Row:
    def speed(title: str, name: str, of_all: float, limits: parts.Limits, description: str) -> parts.Panel:
        return figure(
            title=title,
            description=description,
            expr=quantile(of_all, name, HERE, LIVE, over=NOW),
            unit=parts.SECONDS,
            limits=limits,
            width=6,
        )

    first, whole = "segue_first_audio_seconds", "segue_latency_seconds"
    return Row(
        "Is it quick?",
        [
            speed(
                "First audio, p50", first, 0.5, worse_above(0.5, 1), "How long a listener waits for the first samples."
            ),
            speed(
                "First audio, p99",
                first,
                0.99,
                worse_above(1, 2.5),
                "The slowest hundredth. High with a long queue: too few pods. High without: look at the voice.",
            ),
            speed(
                "Whole answer, p50", whole, 0.5, worse_above(5, 20), "Up to the last sample; it grows with the text."
            ),
            speed(
                "Whole answer, p99",
                whole,
                0.99,
                worse_above(20, 60),
                "The slowest hundredth. 60 s is the last bound of the histogram: what is shown as 60 s may be longer.",
            ),
        ],
    )


def _traffic() -> Row:
    return Row(
        "Traffic",
        [
            layers(
                title="Requests by how they ended",
                description="What engines were asked for, copies for a version under test included. Normal: success, "
                "some cancelled (the listener left) and rejected (a text that the engine cannot read).",
                queries=[Query(rate("segue_requests_total", HERE, LIVE, by="outcome"), "{{outcome}}")],
                unit=parts.REQUESTS,
            ),
            lines(
                title="Failed requests by voice",
                description="The ten worst. One voice at a switch: its version. All voices of a moment: a pod or the "
                "machines.",
                queries=[Query(f"topk(10, {failed_share(HERE, by='voice')} > 0)", "{{voice}}")],
                unit=parts.SHARE,
                limits=worse_above(0.001, FAILS_ABOVE),
            ),
            layers(
                title="HTTP answers",
                description="By class. 4xx: clients' mistakes, keys, and 429. 5xx should not be there at all.",
                queries=[Query(rate("segue_http_responses_total", HERE, by="class"), "{{class}}")],
                unit=parts.REQUESTS,
            ),
            lines(
                title="Answered by another revision",
                description="Requests whose new version failed and that the known-good one answered, so that nobody "
                "noticed. Anything above 0: a bad version is being caught; `kubectl segue describe` shows whether it "
                "is taken back.",
                queries=[Query(f"{rate('segue_shielded_total', HERE, LIVE, by='voice')} > 0", "{{voice}}")],
                unit=parts.REQUESTS,
            ),
        ],
    )


def _speed() -> Row:
    return Row(
        "Speed",
        [
            lines(
                title="Time to first audio",
                description="From admission to the first samples. It should move with the queue and with nothing else.",
                queries=_quantiles("segue_first_audio_seconds"),
                unit=parts.SECONDS,
            ),
            lines(
                title="Time of a whole answer",
                description="From admission to the last sample; long texts take longer.",
                queries=_quantiles("segue_latency_seconds"),
                unit=parts.SECONDS,
            ),
            lines(
                title="Unfinished answers by pod",
                description="Normal: pods have about the same. One that has more than the others is slower than they "
                "are.",
                queries=[Query(total("segue_queue_depth", HERE, by="pod"), "{{pod}}")],
                unit=parts.COUNT,
            ),
            lines(
                title="Refused by pod",
                description="429 because the queue was full. One pod alone: clients do not spread over the Service.",
                queries=[Query(f"{rate('segue_refused_full_total', HERE, by='pod')} > 0", "{{pod}}")],
                unit=parts.REQUESTS,
            ),
        ],
    )


def _pods() -> Row:
    return Row(
        "Pods",
        [
            lines(
                title="Workers that take requests",
                description="By pod. A line that goes to 0 is a pod that nobody is sent to; a line that ends is one "
                "that is gone.",
                queries=[Query(total("segue_workers_ready", HERE, by="pod"), "{{pod}}")],
                unit=parts.COUNT,
            ),
            lines(
                title="Workers that were started again",
                description="In the last fifteen minutes. Normal: 0. What a dead worker had in flight is lost; the "
                "server's log says of what it died.",
                queries=[
                    Query(f"sum by (pod) (increase({series('segue_worker_restarts_total', HERE)}[15m])) > 0", "{{pod}}")
                ],
                unit=parts.COUNT,
            ),
            lines(
                title="Memory for weights",
                description="Used of the budget, by pod. It rises while a version is brought up and comes back when "
                "the one before is let go.",
                queries=[Query(share(total(USED, HERE, by="pod"), total(BUDGET, HERE, by="pod")), "{{pod}}")],
                unit=parts.SHARE,
                limits=worse_above(0.9, 0.97),
            ),
            lines(
                title="Silence of the leader",
                description="Since a sidecar last heard of it. Normal: a saw of up to 75 s on quiet pods, of seconds "
                "where something is under way. It rises on all pods together: no operator leads. On some: they "
                "cannot be reached.",
                queries=[Query(f"max by (pod) ({series(SILENT, HERE)})", "{{pod}}")],
                unit=parts.SECONDS,
                limits=worse_above(SILENT_AFTER_S, 300),
            ),
        ],
    )


def _rollouts() -> Row:
    return Row(
        "Rollouts",
        [
            layers(
                title="Voices by phase",
                description="Of the whole cluster, as the operators see it. Normal: Idle. A phase that lasts for "
                "hours: `kubectl segue describe` of such a voice says what it waits for.",
                queries=[Query("max by (phase) (segue_operator_voices)", "{{phase}}")],
                unit=parts.COUNT,
            ),
            lines(
                title="Versions that pods could not bring up",
                description="Revisions in phase Failed, by pod. Nobody hears them. The voice's status says why.",
                queries=[
                    Query(total("segue_sidecar_revisions", HERE, 'phase="Failed"', by="pod"), "{{pod}}"),
                ],
                unit=parts.COUNT,
                limits=parts.NONE_IS_GOOD,
            ),
        ],
    )


def _quantiles(name: str) -> list[Query]:
    return [Query(quantile(of_all, name, HERE, LIVE), f"p{of_all * 100:g}") for of_all in (0.5, 0.9, 0.99)]


def _http_share(kind: str, *, over: str = DRAWN) -> str:
    name = "segue_http_responses_total"
    return share(rate(name, HERE, f'class="{kind}"', over=over), rate(name, HERE, over=over))
