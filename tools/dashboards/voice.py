"""One voice or a few: how each revision of it does, with a mark wherever another revision is heard.

Sidecars tell since when they speak which revision; that is the mark of a switch. A canary switches nothing, so the
other marks are derived from who was heard: first samples by revision, in which copies for a version under test do not
count, while `segue_requests_total` has them. Those are there for voices that somebody speaks with, and as late as it
takes until requests are seen.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import AnnotationQuery
from tools.dashboards import parts
from tools.dashboards.parts import (
    Page,
    Query,
    Row,
    choice,
    figure,
    layers,
    lines,
    marker,
    marker_at,
    ranking,
    some_of,
    worse_above,
)
from tools.dashboards.promql import (
    FAILED,
    LIVE,
    NOW,
    failed_share,
    how_many,
    mean,
    or_zero,
    quantile,
    rate,
    series,
    share,
    total,
)

CHOSEN = 'voice=~"$voice"'
OF_NAMESPACE = 'voice=~"$voice_namespace/.*"'
BY = "voice, revision"
EACH = "{{voice}} {{revision}}"
HEARD = "segue_first_audio_seconds_count"
SPEAKS = "segue_sidecar_speaks_since_timestamp_seconds"
LOOK_BACK = "2m"
"""Window of the marks: four scrapes. Grafana asks no more than 11,000 points, so beyond two weeks marks are missed."""

AS_BEFORE = 5
"""A revision is marked as not heard any more when at least so many answers of it were to be expected. At 5 it happens
by chance in one of 150 cases (e^-5), however small its share was."""

VOICE_NAMESPACE = choice(
    "voice_namespace",
    label="Namespace",
    query="label_values(segue_requests_total, voice)",
    description="Of the VoiceModel; a fleet may serve voices of other namespaces than its own.",
).regex("/^([^/]+)\\/.+$/")

VOICE = some_of(
    "voice",
    label="Voice",
    query=f"label_values(segue_requests_total{{{OF_NAMESPACE}}}, voice)",
    description="One or more.",
)


def voice() -> Page:
    """The page."""
    return Page(
        name="voice",
        title="Voice",
        description="How each revision of a voice does. Revisions are named by their first ten digits, as in "
        "`kubectl segue get`. Marks on all panels: the first pod switches to a revision; a revision is heard for the "
        "first time in an hour, takes over, is not heard any more. The latter three follow from who was heard: without "
        "listeners there are none.",
        variables=[VOICE_NAMESPACE, VOICE],
        rows=[_now(), _heard(), _failures(), _speed(), _model(), _ranking()],
        markers=markers(),
    )


def markers() -> list[AnnotationQuery]:
    """Where another revision is heard."""
    return [
        marker_at(name="Switched", expr=switched(), text="{{voice}}: {{revision}} speaks", colour="green"),
        marker(name="Heard first", expr=heard_first(), text="{{voice}}: {{revision}} is heard", colour="blue"),
        marker(name="Takes over", expr=takes_over(), text="{{voice}}: mostly {{revision}} from here", colour="purple"),
        marker(name="Heard no more", expr=heard_no_more(), text="{{voice}}: {{revision}} is gone", colour="orange"),
    ]


def switched() -> str:
    """When the first pod began to speak with a revision, in milliseconds."""
    return f"1000 * min by ({BY}) ({series(SPEAKS, CHOSEN)} > 0)"


def heard_first() -> str:
    """A revision that nobody heard in the hour before, of a voice that was heard then."""
    new = f"{_answers(BY)} > 0 unless {_answers(BY, over='1h', ago=LOOK_BACK)} > 0"
    return f"{new} and on (voice) {_answers('voice', over='1h', ago=LOOK_BACK)} > 0"


def takes_over() -> str:
    """The revision that most listeners hear, where it was another one two minutes ago; a way back is one as well."""
    now, before = (f"topk by (voice) (1, {answers} > 0)" for answers in (_answers(BY), _answers(BY, ago=LOOK_BACK)))
    return f"{now} unless {before} and on (voice) {_answers('voice', ago=LOOK_BACK)} > 0"


def heard_no_more() -> str:
    """A revision without answers, where its share of before makes some of those of now."""
    before = f"{_answers(BY, ago=LOOK_BACK)} / on (voice) group_left {_answers('voice', ago=LOOK_BACK)}"
    expected = f"{before} * on (voice) group_left {_answers('voice')}"
    return f"{expected} > {AS_BEFORE} unless {_answers(BY)} > 0"


def _answers(by: str, *, over: str = LOOK_BACK, ago: str = "") -> str:
    """How many were begun."""
    offset = f" offset {ago}" if ago else ""
    return f"sum by ({by}) (increase({series(HEARD, CHOSEN, LIVE)}[{over}]{offset}))"


def _now() -> Row:
    return Row(
        "Now",
        [
            figure(
                title="Requests",
                description="A second, of the chosen voices, copies for a version under test included.",
                expr=rate("segue_requests_total", CHOSEN, LIVE, over=NOW),
                unit=parts.REQUESTS,
                limits=parts.NEUTRAL,
            ),
            figure(
                title="Failed",
                description="Share of requests that failed, shielded ones included. Normal: 0. If it began at a "
                "mark, it is the version: `kubectl segue rollback`.",
                expr=or_zero(failed_share(CHOSEN, over=NOW)),
                unit=parts.SHARE,
                limits=worse_above(0.001, 0.01),
            ),
            figure(
                title="Shielded",
                description="Failures a second that the known-good revision answered for. Normal: 0. Above: a bad "
                "version is being caught, and nobody hears it.",
                expr=or_zero(rate("segue_shielded_total", CHOSEN, LIVE, over=NOW)),
                unit=parts.REQUESTS,
                limits=worse_above(0.001, 1),
            ),
            figure(
                title="First audio, p99",
                description="How long the slowest hundredth of listeners waits for the first samples.",
                expr=quantile(0.99, "segue_first_audio_seconds", CHOSEN, LIVE, over=NOW),
                unit=parts.SECONDS,
                limits=worse_above(1, 2.5),
            ),
            figure(
                title="Revisions heard",
                description="Of all chosen voices together. Normal: one a voice; two while a version is let out step "
                "by step. More: pods disagree, or a rollout has just gone over.",
                expr=f"count({rate(HEARD, CHOSEN, LIVE, by=BY, over=NOW)} > 0) or vector(0)",
                unit=parts.COUNT,
                limits=parts.NEUTRAL,
            ),
            figure(
                title="From the cache",
                description="Answers that were made before, of all answers. High for prompts that repeat, 0 for free "
                "text. It falls to 0 at a switch: another revision has other answers.",
                expr=or_zero(_cached(by="", over=NOW)),
                unit=parts.SHARE,
                limits=parts.NEUTRAL,
            ),
            figure(
                title="Since the last switch",
                description="How long the chosen voices have been spoken with what they are spoken with, the latest "
                "of them.",
                expr=f"time() - max({series('segue_operator_last_switch_timestamp_seconds', CHOSEN)})",
                unit=parts.SECONDS,
                limits=parts.NEUTRAL,
            ),
            figure(
                title="Taken back",
                description="Versions of the chosen voices that were taken back in a day, refused ones included.",
                expr=f"sum(increase({series('segue_operator_rollbacks_total', CHOSEN)}[1d]))",
                unit=parts.COUNT,
                limits=worse_above(1, 5),
            ),
            figure(
                title="Pods disagree",
                description="Chosen voices that pods speak with different revisions. Normal: none, but for the "
                "moment of a switch.",
                expr=how_many(f"count by (voice) (count by ({BY}) ({series(SPEAKS, CHOSEN)})) > 1"),
                unit=parts.COUNT,
                limits=parts.NONE_IS_GOOD,
            ),
        ],
    )


def _heard() -> Row:
    return Row(
        "Who is heard",
        [
            layers(
                title="Listeners by revision",
                description="Answers that were begun, a second; copies for a version under test are not in it. A "
                "rollout is a second colour that grows; a rollback is one that ends.",
                queries=[Query(rate(HEARD, CHOSEN, LIVE, by=BY), EACH)],
                unit=parts.REQUESTS,
            ),
            lines(
                title="Copies for a version under test",
                description="Requests that the new revision speaks as well and nobody hears. None outside of a "
                "rollout with mirroring.",
                queries=[
                    Query(
                        f"{rate('segue_mirrors_total', CHOSEN, LIVE, by=f'{BY}, outcome')} > 0",
                        f"{EACH} {{{{outcome}}}}",
                    )
                ],
                unit=parts.REQUESTS,
            ),
            layers(
                title="Speech made",
                description="Seconds of audio in each second, by revision.",
                queries=[Query(rate("segue_audio_seconds_total", CHOSEN, LIVE, by=BY), EACH)],
                unit=parts.COUNT,
            ),
            lines(
                title="From the cache",
                description="Share of answers that were made before.",
                queries=[Query(_cached(by=BY), EACH)],
                unit=parts.SHARE,
            ),
            lines(
                title="Listeners who came from another voice, and who left for one",
                description="A second, of those known by a session or `user`; what one worker saw both of. Many who "
                "leave a new revision do not like it.",
                queries=[
                    Query(rate("segue_listeners_joined_total", CHOSEN, LIVE, by=BY), f"{EACH} came"),
                    Query(rate("segue_listeners_left_total", CHOSEN, LIVE, by=BY), f"{EACH} left"),
                ],
                unit=parts.PER_SECOND,
                width=24,
            ),
        ],
    )


def _failures() -> Row:
    return Row(
        "Failures",
        [
            lines(
                title="Failed requests by revision",
                description="Share of each revision's requests. A new one above the old one is what canary and watch "
                "look for: they take it back by themselves. An old one that rises: not the version.",
                queries=[Query(failed_share(CHOSEN, by=BY), EACH)],
                unit=parts.SHARE,
                limits=worse_above(0.001, 0.01),
            ),
            layers(
                title="Failures by kind",
                description="exception, timeout: the engine. empty, silent, nonfinite, capped: what it made is no "
                "speech. died: lost with a worker.",
                queries=[
                    Query(
                        f"{rate('segue_requests_total', CHOSEN, LIVE, FAILED, by=f'{BY}, outcome')} > 0",
                        f"{EACH} {{{{outcome}}}}",
                    )
                ],
                unit=parts.REQUESTS,
            ),
            lines(
                title="Shielded",
                description="Failures of a revision that the known-good one answered for, a second.",
                queries=[Query(rate("segue_shielded_total", CHOSEN, LIVE, by=BY), EACH)],
                unit=parts.REQUESTS,
            ),
            lines(
                title="In the engine",
                description="Rows that engines have at the moment. It comes back to 0 with the traffic. One that "
                "stays: a row hangs, and its revision cannot be let go.",
                queries=[Query(total("segue_in_flight", CHOSEN, LIVE, by=BY), EACH)],
                unit=parts.COUNT,
            ),
        ],
    )


def _speed() -> Row:
    def by_revision(title: str, name: str, of_all: float, description: str) -> parts.Panel:
        queries = [Query(quantile(of_all, name, CHOSEN, LIVE, by=BY), EACH)]
        return lines(title=title, description=description, queries=queries, unit=parts.SECONDS, width=8)

    first, whole = "segue_first_audio_seconds", "segue_latency_seconds"
    return Row(
        "Speed",
        [
            by_revision(
                "First audio, p50",
                first,
                0.5,
                "Two revisions of one voice should be alike; else the new one is slower.",
            ),
            by_revision(
                "First audio, p99", first, 0.99, "A peak of seconds at a mark would be a switch that listeners notice."
            ),
            lines(
                title="First audio, mean",
                description="Exact, where quantiles lie somewhere between the bounds of a bucket.",
                queries=[Query(mean(first, CHOSEN, LIVE, by=BY), EACH)],
                unit=parts.SECONDS,
                width=8,
            ),
            by_revision("Whole answer, p50", whole, 0.5, "It grows with the text: compare revisions, not hours."),
            by_revision("Whole answer, p99", whole, 0.99, "60 s is the last bound of the histogram."),
            lines(
                title="Whole answer, mean",
                description="Exact, where quantiles lie somewhere between the bounds of a bucket.",
                queries=[Query(mean(whole, CHOSEN, LIVE, by=BY), EACH)],
                unit=parts.SECONDS,
                width=8,
            ),
            lines(
                title="Real-time factor",
                description="Seconds that engines compute for a second of audio. Below 1: faster than it is heard. A "
                "new revision above the old one needs more pods.",
                queries=[
                    Query(
                        share(
                            rate("segue_revision_busy_seconds_total", CHOSEN, LIVE, by=BY),
                            rate("segue_audio_seconds_total", CHOSEN, LIVE, by=BY),
                        ),
                        EACH,
                    )
                ],
                unit=parts.COUNT,
                limits=worse_above(0.7, 1),
                width=24,
            ),
        ],
    )


def _model() -> Row:
    def least(name: str) -> Query:
        return Query(f"min by ({BY}) ({series(name, CHOSEN)})", EACH)

    def off(name: str, what: str) -> Query:
        return Query(f"max by ({BY}) (abs({series(name, CHOSEN)}))", f"{EACH} {what}")

    return Row(
        "Model: what probes measured, and how it holds",
        [
            lines(
                title="Similarity to the speaker",
                description="Cosine to the reference, as the last full probe of each revision found it. Below "
                "`minSimilarity` it would have been refused. Only of revisions that pods have.",
                queries=[least("segue_sidecar_probe_similarity")],
                unit=parts.COUNT,
                width=8,
            ),
            lines(
                title="Misread phones",
                description="Of all sentences of the probe, by phone. Not measured for languages that the recogniser "
                "does not know.",
                queries=[Query(f"max by ({BY}) ({series('segue_sidecar_probe_text_error_ratio', CHOSEN)})", EACH)],
                unit=parts.SHARE,
                width=8,
            ),
            lines(
                title="Naturalness",
                description="What a scorer said of the probe; nothing where none is set.",
                queries=[least("segue_sidecar_probe_naturalness")],
                unit=parts.COUNT,
                width=8,
            ),
            lines(
                title="Off the revision before",
                description="How far a revision was from the one before it, when it was probed: loudness in LU, pitch "
                "in semitones, pace as a share. A first revision has none.",
                queries=[
                    off("segue_sidecar_probe_loudness_drift_lu", "loudness"),
                    off("segue_sidecar_probe_pitch_drift_semitones", "pitch"),
                    off("segue_sidecar_probe_pace_drift_ratio", "pace"),
                ],
                unit=parts.COUNT,
            ),
            lines(
                title="Successes in a row",
                description="Since the latest error, on the pod that has fewest; copies included. It falls to 0 with "
                "each failure and when a sidecar begins.",
                queries=[least("segue_sidecar_consecutive_successes")],
                unit=parts.COUNT,
            ),
        ],
    )


def _ranking() -> Row:
    def first(name: str) -> Query:
        asked = f"sum by (voice) (increase({series(name, OF_NAMESPACE, LIVE)}[$__range]))"
        return Query(f"topk(20, {asked})", "{{voice}}")

    return Row(
        "Ranking, over the whole time range",
        [
            ranking(
                title="Most asked for",
                description="Answers that listeners began to hear, of all voices of the namespace.",
                query=first(HEARD),
                unit=parts.COUNT,
            ),
            ranking(
                title="Most spoken",
                description="Seconds of audio made, of all voices of the namespace; answers from the cache are not "
                "in it.",
                query=first("segue_audio_seconds_total"),
                unit=parts.SECONDS,
            ),
        ],
    )


def _cached(*, by: str, over: str = "$__rate_interval") -> str:
    hits = rate("segue_cache_hits_total", CHOSEN, LIVE, by=by, over=over)
    return share(hits, f"({hits} + {rate(HEARD, CHOSEN, LIVE, by=by, over=over)})")
