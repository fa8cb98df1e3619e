"""For each alert of the chart: series by which it fires, and such by which it almost does.

Separate from the tests because the two halves are read side by side: what fires differs from what does not in the one
thing that the alert is about. Values come every 30 s, in promtool's notation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

HERE = "segue-system"
POD = {"namespace": HERE, "pod": "segue-default-7c9f6d5b8-x2x9z"}
OTHER_POD = {"namespace": HERE, "pod": "segue-default-7c9f6d5b8-aaaaa"}
OPERATOR = {"namespace": HERE, "pod": "segue-operator-5d4c8f7b9-k8s2p"}
ELSEWHERE = {"namespace": "another", "pod": "segue-default-7c9f6d5b8-x2x9z"}
VOICE = "voices/narrator"
DAY_S = 86_400

Series = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """What is there for two hours, and when the alert has to fire by it, or must not.

    Attributes
    ----------
    at_m
        Minutes from the start at which the first ones fire and the second ones do not.
    """

    fires: Series
    quiet: tuple[Series, ...]
    at_m: int = 60


def figure(name: str, values: str, target: Mapping[str, str] = POD, **labels: str) -> dict[str, str]:
    """One series over time."""
    inside = ",".join(f'{label}="{value}"' for label, value in {**target, **labels}.items())
    return {f"{name}{{{inside}}}": values}


def steady(name: str, value: float, target: Mapping[str, str] = POD, **labels: str) -> dict[str, str]:
    """A gauge that stays."""
    return figure(name, f"{value:g}x240", target, **labels)


def rising(name: str, step: float, target: Mapping[str, str] = POD, **labels: str) -> dict[str, str]:
    """A counter that rises by this every 30 s."""
    return figure(name, f"0+{step:g}x240", target, **labels)


def histogram(name: str, below: Mapping[str, float], target: Mapping[str, str] = POD, **labels: str) -> dict[str, str]:
    """Of a histogram, how many a step are under each bound; cumulative, as Prometheus has them."""
    found: dict[str, str] = {}
    for bound, step in below.items():
        found |= rising(f"{name}_bucket", step, target, le=bound, **labels)
    return found


def requests(*, failed: float, of: float, revision: str = "aaaaaaaaaa") -> dict[str, str]:
    """Requests of a voice every 30 s."""
    ok = rising("segue_requests_total", of - failed, voice=VOICE, revision=revision, outcome="success")
    return ok | rising("segue_requests_total", failed, voice=VOICE, revision=revision, outcome="exception")


def speaks(revision: str, target: Mapping[str, str] = POD) -> dict[str, str]:
    """A pod that speaks the voice with a revision."""
    return steady("segue_sidecar_speaks_since_timestamp_seconds", 1, target, voice=VOICE, revision=revision)


def alike(similarity: float, revision: str) -> dict[str, str]:
    """What a probe measured."""
    return steady("segue_sidecar_probe_similarity", similarity, voice=VOICE, revision=revision)


SLOW = {"1.0": 90, "2.5": 95, "5.0": 100, "+Inf": 100}
QUICK = {"1.0": 99, "2.5": 100, "5.0": 100, "+Inf": 100}
_SINCE = "segue_operator_rollout_since_timestamp_seconds"
_OLDEST = "segue_sidecar_revision_oldest_seconds"
_ENDS = "certificate_expiry_timestamp_seconds"
_POOL = steady("segue_sidecar_pool_budget_bytes", 1000)

CASES: Mapping[str, Case] = {
    "SegueNobodyLeads": Case(
        steady("segue_operator_leading", 0, OPERATOR),
        (
            steady("segue_operator_leading", 1, OPERATOR),
            figure("segue_operator_leading", "1x100 0x8 1x100", OPERATOR),
        ),
    ),
    "SegueVoiceUnusable": Case(
        steady("segue_operator_unusable_voices", 2, OPERATOR), (steady("segue_operator_unusable_voices", 0, OPERATOR),)
    ),
    "SeguePreloadStuck": Case(
        steady(_SINCE, 0, OPERATOR, voice=VOICE, phase="Preloading"),
        (
            steady(_SINCE, 3000, OPERATOR, voice=VOICE, phase="Preloading"),
            steady(_SINCE, 0, OPERATOR, voice=VOICE, phase="Verifying"),  # it may wait for an approval for days
        ),
        at_m=70,
    ),
    "SeguePodsUnreachable": Case(
        steady("segue_operator_pods_unreachable", 1, OPERATOR),
        (
            steady("segue_operator_pods_unreachable", 0, OPERATOR),
            figure("segue_operator_pods_unreachable", "0x100 1x15 0x100", OPERATOR),
        ),
    ),
    "SegueEventsDropped": Case(
        rising("segue_operator_events_total", 1, OPERATOR, outcome="dropped"),
        (
            rising("segue_operator_events_total", 1, OPERATOR, outcome="written")
            | rising("segue_operator_events_total", 0, OPERATOR, outcome="dropped"),
        ),
    ),
    "SegueServerNotReady": Case(
        steady("segue_workers_ready", 0),
        (steady("segue_workers_ready", 1), figure("segue_workers_ready", "1x111 0x9 1x100")),
    ),
    "SegueWorkersRestart": Case(
        rising("segue_worker_restarts_total", 0.2),
        (figure("segue_worker_restarts_total", "0x60 1x180"), steady("segue_worker_restarts_total", 12)),
    ),
    "SegueQueueFull": Case(
        rising("segue_refused_full_total", 1),
        (steady("segue_refused_full_total", 9), figure("segue_refused_full_total", "0x110 20x130")),
    ),
    "SegueQueueWait": Case(
        histogram("segue_queue_wait_seconds", {"1.0": 50, "2.5": 70, "5.0": 100, "+Inf": 100}),
        (histogram("segue_queue_wait_seconds", QUICK),),
    ),
    "SegueFirstAudioSlow": Case(
        histogram("segue_first_audio_seconds", SLOW, voice=VOICE, revision="aaaaaaaaaa"),
        (
            histogram("segue_first_audio_seconds", QUICK, voice=VOICE, revision="aaaaaaaaaa"),
            histogram("segue_first_audio_seconds", SLOW, voice=VOICE, revision="past"),
        ),
    ),
    "SegueBadVersionCaught": Case(
        rising("segue_shielded_total", 1, voice=VOICE, revision="aaaaaaaaaa"),
        (
            steady("segue_shielded_total", 5, voice=VOICE, revision="aaaaaaaaaa"),
            figure("segue_shielded_total", "0x100 900x140", voice=VOICE, revision="past"),
        ),
    ),
    "SegueSimilarityDrift": Case(
        figure("segue_sidecar_probe_similarity", "0.98x60 _x180", voice=VOICE, revision="aaaaaaaaaa")
        | figure("segue_sidecar_speaks_since_timestamp_seconds", "1x60 _x180", voice=VOICE, revision="aaaaaaaaaa")
        | figure("segue_sidecar_probe_similarity", "_x60 0.91x180", voice=VOICE, revision="bbbbbbbbbb")
        | figure("segue_sidecar_speaks_since_timestamp_seconds", "_x60 1x180", voice=VOICE, revision="bbbbbbbbbb"),
        (
            alike(0.95, "aaaaaaaaaa") | speaks("aaaaaaaaaa"),
            # A shadow that nobody hears is no measure of what is heard.
            alike(0.91, "aaaaaaaaaa") | speaks("aaaaaaaaaa") | alike(0.98, "bbbbbbbbbb"),
        ),
    ),
    "SeguePodsDisagree": Case(
        speaks("aaaaaaaaaa") | speaks("bbbbbbbbbb", OTHER_POD),
        (
            speaks("aaaaaaaaaa") | speaks("aaaaaaaaaa", OTHER_POD),
            speaks("aaaaaaaaaa") | speaks("bbbbbbbbbb", ELSEWHERE),
        ),
    ),
    "SegueUnknownHandle": Case(rising("segue_unknown_handles_total", 1), (steady("segue_unknown_handles_total", 3),)),
    "SegueOperatorSilent": Case(
        steady("segue_sidecar_leader_silent_seconds", 400),
        (
            steady("segue_sidecar_leader_silent_seconds", 75),
            figure("segue_sidecar_leader_silent_seconds", "0x112 400x6 0x100"),
        ),
    ),
    "SeguePoolFull": Case(
        _POOL | steady("segue_sidecar_pool_used_bytes", 960),
        (
            _POOL | steady("segue_sidecar_pool_used_bytes", 940),
            _POOL | figure("segue_sidecar_pool_used_bytes", "500x80 990x50 500x100"),
        ),
    ),
    "SegueRevisionStuck": Case(
        steady(_OLDEST, 4000, phase="Fetching"),
        (steady(_OLDEST, 3000, phase="Fetching"), steady(_OLDEST, 90_000, phase="Queued")),
    ),
    "SegueCertificateExpires": Case(
        steady(f"segue_operator_{_ENDS}", 10 * DAY_S, OPERATOR) | steady(f"segue_sidecar_{_ENDS}", 80 * DAY_S),
        (steady(f"segue_operator_{_ENDS}", 20 * DAY_S, OPERATOR) | steady(f"segue_sidecar_{_ENDS}", 80 * DAY_S),),
        at_m=70,
    ),
    "SegueVoiceFails": Case(
        requests(failed=1, of=50),
        (
            requests(failed=0.2, of=50),
            figure("segue_requests_total", "0x112 200x128", voice=VOICE, revision="aaaaaaaaaa", outcome="exception")
            | rising("segue_requests_total", 50, voice=VOICE, revision="aaaaaaaaaa", outcome="success"),
            requests(failed=0, of=50)
            | figure("segue_requests_total", "0x110 9000x130", voice=VOICE, revision="past", outcome="exception"),
            requests(failed=0, of=50)
            | rising("segue_requests_total", 20, voice=VOICE, revision="aaaaaaaaaa", outcome="rejected"),
        ),
    ),
}
