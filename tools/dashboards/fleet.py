"""The pods of fleets: memory for weights, what is brought up in them, and how busy their engines are."""

from __future__ import annotations

from tools.dashboards import parts
from tools.dashboards.overview import NAMESPACE, SILENT_AFTER_S
from tools.dashboards.parts import Page, Query, Row, choice, figure, layers, lines, worse_above
from tools.dashboards.promql import LIVE, how_many, mean, or_zero, quantile, rate, series, share, total

PODS = 'namespace=~"$namespace",segue_dev_fleet=~"$fleet",pod=~"$pod"'
USED, BUDGET = "segue_sidecar_pool_used_bytes", "segue_sidecar_pool_budget_bytes"
STORED = "segue_sidecar_receive_to_store_seconds"
COLD = "segue_sidecar_cold_start_seconds"

FLEET = choice(
    "fleet",
    label="Fleet",
    query='label_values(segue_workers{namespace=~"$namespace"}, segue_dev_fleet)',
    description="The pods' label segue.dev/fleet.",
)
POD = choice(
    "pod",
    label="Pod",
    query='label_values(segue_workers{namespace=~"$namespace",segue_dev_fleet=~"$fleet"}, pod)',
    description="Some or all.",
)


def fleet() -> Page:
    """The page."""
    return Page(
        name="fleet",
        title="Fleet",
        description="Pods: workers, memory for weights, what sidecars bring up and store, how busy engines are. "
        "Memory is what Segue counts; what the kernel charges a container for is the kubelet's to tell.",
        variables=[NAMESPACE, FLEET, POD],
        rows=[_now(), _workers(), _memory(), _sidecars(), _tiers(), _commands(), _engines()],
    )


def _now() -> Row:
    return Row(
        "Now",
        [
            figure(
                title="Pods",
                description="Server pods that Prometheus scrapes.",
                expr=how_many(series("segue_workers", PODS)),
                unit=parts.COUNT,
                limits=parts.SOME_ARE_NEEDED,
            ),
            figure(
                title="Workers ready",
                description="Share of the living workers that take requests. Normal: 100 %; less for minutes after a "
                "start.",
                expr=share(total("segue_workers_ready", PODS), total("segue_workers", PODS)),
                unit=parts.SHARE,
                limits=parts.Limits(parts.RED, ((0.5, parts.YELLOW), (1, parts.GREEN))),
            ),
            figure(
                title="Fullest pool",
                description="Memory for weights of the fullest pod, of its budget. Full: new versions wait (PoolFull).",
                expr=f"max({series(USED, PODS)} / {series(BUDGET, PODS)})",
                unit=parts.SHARE,
                limits=worse_above(0.9, 0.97),
            ),
            figure(
                title="Silent sidecars",
                description=f"Pods that have not heard of a leader for {SILENT_AFTER_S} s. They go on serving.",
                expr=how_many(f"{series('segue_sidecar_leader_silent_seconds', PODS)} > {SILENT_AFTER_S}"),
                unit=parts.COUNT,
                limits=parts.NONE_IS_GOOD,
            ),
            figure(
                title="Stuck or lost workers",
                description="Workers that do not answer their sidecar, or that it has lost. Normal: none. The server "
                "replaces them; if the figure stays, look at its log.",
                expr=or_zero(total("segue_sidecar_workers", PODS, 'phase=~"stuck|lost"')),
                unit=parts.COUNT,
                limits=parts.NONE_IS_GOOD,
            ),
            figure(
                title="First certificate to end",
                description="Time until the first of the pods' certificates ends. Normal: weeks; it is renewed while "
                "the pod goes on.",
                expr=f"min({series('segue_sidecar_certificate_expiry_timestamp_seconds', PODS)}) - time()",
                unit=parts.SECONDS,
                limits=parts.Limits(parts.RED, ((7 * 86_400, parts.YELLOW), (14 * 86_400, parts.GREEN))),
            ),
            figure(
                title="Unknown handles",
                description="In an hour: requests under a word that named what the worker does not have. It spoke "
                "its last known version. Must be 0; anything else is a bug worth reporting.",
                expr=or_zero(f"sum(increase({series('segue_unknown_handles_total', PODS)}[1h]))"),
                unit=parts.COUNT,
                limits=parts.NONE_IS_GOOD,
            ),
        ],
    )


def _workers() -> Row:
    return Row(
        "Workers",
        [
            lines(
                title="Workers that take requests",
                description="By pod.",
                queries=[Query(total("segue_workers_ready", PODS, by="pod"), "{{pod}}")],
                unit=parts.COUNT,
                width=8,
            ),
            lines(
                title="Workers as sidecars see them",
                description="serving is normal, joining lasts seconds. stuck and lost want somebody to look.",
                queries=[Query(total("segue_sidecar_workers", PODS, by="phase"), "{{phase}}")],
                unit=parts.COUNT,
                width=8,
            ),
            lines(
                title="Started again, and joined again",
                description="In fifteen minutes, by pod: workers that died, and tries to join a sidecar. A sidecar "
                "that restarts makes every worker join once.",
                queries=[
                    Query(
                        f"sum by (pod) (increase({series('segue_worker_restarts_total', PODS)}[15m])) > 0",
                        "{{pod}} died",
                    ),
                    Query(
                        f"sum by (pod) (increase({series('segue_sidecar_connections_total', PODS)}[15m])) > 0",
                        "{{pod}} joined",
                    ),
                ],
                unit=parts.COUNT,
                width=8,
            ),
        ],
    )


def _memory() -> Row:
    return Row(
        "Memory for weights",
        [
            lines(
                title="Pool used, of its budget",
                description="By pod. A rollout lifts it by one version and lets it down again. It should be alike on "
                "pods that speak the same voices.",
                queries=[Query(share(total(USED, PODS, by="pod"), total(BUDGET, PODS, by="pod")), "{{pod}}")],
                unit=parts.SHARE,
                limits=worse_above(0.9, 0.97),
            ),
            layers(
                title="Pool of all chosen pods",
                description="lingering: let go, but still being spoken with; it goes within an answer's time. spare: "
                "pre-faulted and given up when room is needed. free: the rest of the budget.",
                queries=[
                    Query(f"{total(USED, PODS)} - {total('segue_sidecar_pool_lingering_bytes', PODS)}", "in use"),
                    Query(total("segue_sidecar_pool_lingering_bytes", PODS), "lingering"),
                    Query(total("segue_sidecar_pool_spare_bytes", PODS), "spare"),
                    Query(
                        f"clamp_min({total(BUDGET, PODS)} - {total(USED, PODS)} - "
                        f"{total('segue_sidecar_pool_spare_bytes', PODS)}, 0)",
                        "free",
                    ),
                ],
                unit=parts.BYTES,
            ),
            lines(
                title="Free",
                description="What an allocation could still get, by pod. The next version has to fit into it, beside "
                "the one that is spoken and the one before.",
                queries=[Query(f"{total(BUDGET, PODS, by='pod')} - {total(USED, PODS, by='pod')}", "{{pod}}")],
                unit=parts.BYTES,
                width=8,
            ),
            lines(
                title="Peak",
                description="The most that used and spare memory ever came to since the sidecar's start. Set the "
                "budget by it.",
                queries=[Query(f"max by (pod) ({series('segue_sidecar_pool_peak_bytes', PODS)})", "{{pod}}")],
                unit=parts.BYTES,
                width=8,
            ),
            lines(
                title="Result cache",
                description="Beside the pool, in the server. It is bounded by `resultCache`, and full is its normal "
                "state.",
                queries=[Query(total("segue_cache_bytes", PODS, by="pod"), "{{pod}}")],
                unit=parts.BYTES,
                width=8,
            ),
        ],
    )


def _sidecars() -> Row:
    return Row(
        "What sidecars bring up",
        [
            lines(
                title="Longest in one phase",
                description="How long the revision that has been in a phase for longest has been in it, over all pods. "
                "A line that only rises hangs.",
                queries=[
                    Query(f"max by (phase) ({series('segue_sidecar_revision_oldest_seconds', PODS)})", "{{phase}}")
                ],
                unit=parts.SECONDS,
                width=24,
            ),
            layers(
                title="Revisions by phase",
                description="Of all chosen pods. Normal: Ready. Queued for long: no room (see the pool) or its turn "
                "has not come. Failed: the voice's status says why, and nobody hears it.",
                queries=[Query(total("segue_sidecar_revisions", PODS, by="phase"), "{{phase}}")],
                unit=parts.COUNT,
                width=8,
            ),
            lines(
                title="Voices, and revisions that are ready",
                description="By pod. Fewer revisions than voices: some voice is not served there, or nobody has "
                "asked for a cold one yet; no metric says which. The same on all pods of a fleet is normal; pods "
                "that differ disagree.",
                queries=[
                    Query(total("segue_sidecar_voices", PODS, by="pod"), "{{pod}} voices"),
                    Query(total("segue_sidecar_revisions", PODS, 'phase="Ready"', by="pod"), "{{pod}} ready"),
                ],
                unit=parts.COUNT,
                width=8,
            ),
            lines(
                title="Open watches",
                description="Voices whose new version is being watched, by pod.",
                queries=[Query(total("segue_sidecar_watches_open", PODS, by="pod"), "{{pod}}")],
                unit=parts.COUNT,
                width=8,
            ),
            lines(
                title="Children",
                description="Processes that ended, by what they were for: fetch, prepare, prove, probe, rehash, store, "
                "load. Anything but ok is a version that was not brought up, or not stored; the outcome is the reason.",
                queries=[
                    Query(
                        f"{rate('segue_sidecar_children_total', PODS, by='kind, outcome')} > 0", "{{kind}} {{outcome}}"
                    )
                ],
                unit=parts.PER_SECOND,
            ),
            lines(
                title="Share of time that children may run",
                description="By pod. It goes down while listeners are served, so that they go first; bringing up a "
                "version then takes longer.",
                queries=[Query(f"min by (pod) ({series('segue_sidecar_child_duty', PODS)})", "{{pod}}")],
                unit=parts.SHARE,
            ),
        ],
    )


def _tiers() -> Row:
    return Row(
        "Voices that are not hot",
        [
            lines(
                title="Brought up for requests",
                description="By where their weights came from. A steady line: more voices are asked for than fit "
                "into the pool. source: their copies on disk are missing, look at the events.",
                queries=[Query(rate("segue_sidecar_cold_starts_total", PODS, by="source"), "{{source}}")],
                unit=parts.PER_SECOND,
                width=8,
            ),
            lines(
                title="What the first request waits",
                description="From the request to the voice's word, by where the weights came from, 99 of 100. After "
                "the server's `coldStartS` (5 s) the request is told to come again.",
                queries=[Query(quantile(0.99, COLD, PODS, by="source"), "{{source}}")],
                unit=parts.SECONDS,
                limits=worse_above(2, 5),
                width=8,
            ),
            lines(
                title="Left memory, and could not come back",
                description="Versions that left: for a request, for a rollout, or because nobody asked. Below them "
                "what was asked for and not brought up: PoolFull is a budget too small.",
                queries=[
                    Query(rate("segue_sidecar_evictions_total", PODS, by="reason"), "left: {{reason}}"),
                    Query(rate("segue_sidecar_cold_start_failures_total", PODS, by="reason"), "not up: {{reason}}"),
                ],
                unit=parts.PER_SECOND,
                width=8,
            ),
        ],
    )


def _commands() -> Row:
    return Row(
        "Commands",
        [
            lines(
                title="Stores",
                description="Words stored in pointer pages, a second, by pod: every switch, step of a canary and way "
                "back is one.",
                queries=[Query(rate("segue_sidecar_stores_total", PODS, by="pod"), "{{pod}}")],
                unit=parts.PER_SECOND,
                width=8,
            ),
            lines(
                title="From a command to its store",
                description="Of all chosen pods. Normal: under a millisecond. 50 ms is the last bound of the "
                "histogram. Slow: the pod's CPU is taken by others.",
                queries=[Query(quantile(of_all, STORED, PODS), f"p{of_all * 100:g}") for of_all in (0.5, 0.99)],
                unit=parts.SECONDS,
                limits=worse_above(0.005, 0.05),
                width=8,
            ),
            lines(
                title="Refused commands",
                description="By reason. Single ones are normal (a leader that was just deposed); a steady line is an "
                "operator that does not understand, look at its log.",
                queries=[Query(f"{rate('segue_sidecar_refusals_total', PODS, by='reason')} > 0", "{{reason}}")],
                unit=parts.PER_SECOND,
                width=8,
            ),
            lines(
                title="Silence of the leader",
                description="Since a sidecar last heard of it. Normal: a saw of up to 75 s on quiet pods, of seconds "
                "where something is under way. After 60 s a sidecar judges its open watches itself.",
                queries=[Query(f"max by (pod) ({series('segue_sidecar_leader_silent_seconds', PODS)})", "{{pod}}")],
                unit=parts.SECONDS,
                limits=worse_above(SILENT_AFTER_S, 300),
                width=24,
            ),
        ],
    )


def _engines() -> Row:
    busy = rate("segue_engine_busy_seconds_total", PODS, by="pod")
    spoken = rate("segue_audio_seconds_total", PODS, LIVE, by="pod")
    return Row(
        "Engines",
        [
            lines(
                title="Engine threads that compute",
                description="By pod. workers x threads is all that it can be; near that, requests wait for their turn.",
                queries=[Query(busy, "{{pod}}")],
                unit=parts.COUNT,
                width=8,
            ),
            lines(
                title="Rows stepped together",
                description="Mean of all steps, by pod. It grows with load; 1 under load: requests are of different "
                "revisions, or nobody batches.",
                queries=[Query(mean("segue_batch_rows", PODS, by="pod"), "{{pod}}")],
                unit=parts.COUNT,
                width=8,
            ),
            lines(
                title="Speech in a second of computing",
                description="Seconds of audio by each second that an engine thread computed, by pod. A pod far below "
                "the others has slower or crowded cores; all of them after a switch: a slower version.",
                queries=[Query(share(spoken, busy), "{{pod}}")],
                unit=parts.COUNT,
                width=8,
            ),
            lines(
                title="Unfinished answers",
                description="By pod.",
                queries=[Query(total("segue_queue_depth", PODS, by="pod"), "{{pod}}")],
                unit=parts.COUNT,
                width=8,
            ),
            lines(
                title="Wait for an engine, p90",
                description="From the admission of a listener's row until an engine takes it, by pod. It grows before "
                "anything is refused.",
                queries=[Query(quantile(0.9, "segue_queue_wait_seconds", PODS, by="pod"), "{{pod}}")],
                unit=parts.SECONDS,
                limits=worse_above(0.5, 2),
                width=8,
            ),
            lines(
                title="CPU of workers",
                description="Cores that each worker takes, encoding and HTTP included.",
                queries=[Query(rate("segue_worker_cpu_seconds_total", PODS, by="pod, worker"), "{{pod}} {{worker}}")],
                unit=parts.COUNT,
                width=8,
            ),
            lines(
                title="Memory of workers",
                description="private: heaps, of each worker its own; one that grows without end is a leak. shared: "
                "mostly the weights, which all workers of a pod have in common.",
                queries=[
                    Query(
                        total("segue_worker_memory_bytes", PODS, by="pod, worker, kind"), "{{pod}} {{worker}} {{kind}}"
                    )
                ],
                unit=parts.BYTES,
                width=8,
            ),
            lines(
                title="Sent",
                description="Bytes of bodies, by pod.",
                queries=[Query(rate("segue_sent_bytes_total", PODS, by="pod"), "{{pod}}")],
                unit=parts.BYTES_PER_SECOND,
                width=8,
            ),
            lines(
                title="Copies dropped",
                description="Copies for a version under test that were dropped because listeners go first, by pod. "
                "Many: a test by mirroring will take long.",
                queries=[Query(rate("segue_mirrors_dropped_total", PODS, by="pod"), "{{pod}}")],
                unit=parts.PER_SECOND,
                width=8,
            ),
        ],
    )
