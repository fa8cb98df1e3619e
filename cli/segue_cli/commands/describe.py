"""`segue describe VOICE`: what it is, what it does, why it waits, and on which figures."""

from __future__ import annotations

from collections.abc import Iterator

from segue_cli.commands.get import Output, OutputOption, resource_name
from segue_cli.console import print_json, print_yaml, say_line
from segue_cli.finding import VoiceArgument
from segue_cli.model_lines import models_line
from segue_cli.place import Document, Place
from segue_cli.revisions import ago, clock, figure, short


def describe(
    place: Place,
    voice: VoiceArgument,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show everything about a voice: spec, status, history, probe figures, why it is waiting, events."""
    found = place.voice(place.key_of(voice))
    match output:
        case Output.JSON:
            print_json(found)
        case Output.YAML:
            print_yaml(found)
        case Output.NAME:
            say_line(resource_name(found["metadata"]["name"]))
        case Output.TABLE | Output.WIDE:
            for line in describe_lines(found):
                say_line(line)


def describe_lines(voice: Document) -> Iterator[str]:
    """The whole description."""
    yield from _head(voice)
    yield from _spec(voice["spec"], voice.get("computedDigests", []))
    if voice["pods"]:
        yield from _pods(voice["pods"])
        yield from _probes(voice["pods"], voice.get("reports", {}))
    else:
        yield from _counts(voice["status"])
        yield from _verifications(voice["status"])
    yield from _history(voice["status"])
    yield from _conditions(voice["status"])
    yield from _events(voice["events"], voice.get("notes", []))


def _head(voice: Document) -> Iterator[str]:
    status, metadata = voice["status"], voice["metadata"]
    yield f"Voice:     {voice['key']}  (uid {metadata['uid']}, generation {metadata['generation']})"
    yield f"Context:   {voice['context']}" if "context" in voice else f"File:      {voice['file']}"
    if voice.get("unseen"):
        yield f"Operator:  {voice['unseen']}"
    for problem in voice["problems"]:
        yield f"Problem:   {problem['text']}"
        yield "           what runs stays as it was until this is put right"
    since = f", since {ago(status['phaseStartedAt'])}" if status.get("phaseStartedAt") else ""
    yield f"Phase:     {status['phase']}{since}"
    yield f"Active:    {short(status.get('activeRevision'))}    stable: {short(status.get('stableRevision'))}"
    if status.get("rollout"):
        yield f"Target:    {short(status.get('targetRevision'))}  (attempt {status['attempt']}, {_step(status)})"
    if status.get("reason") or status.get("message"):
        yield f"Why:       {status.get('reason') or '-'}: {status.get('message') or '-'}"
    if status.get("deadline"):
        yield f"Deadline:  {clock(status['deadline'])} unless there is progress"
    yield from _asked(metadata.get("annotations") or {}, status.get("handledTokens") or {})
    last = status.get("lastRollback")
    if last:
        reverted = " (the spec was written back)" if last.get("reverted") else ""
        what = f"{short(last['fromRevision'])}: {last['reason']}: {last.get('message', '')}{reverted}"
        yield f"Rollback:  {ago(last['at'])}: {what}"


def _asked(annotations: Document, handled: Document) -> Iterator[str]:
    """What a person asked for that nobody has acted on."""
    for wish in ("promote", "rollback", "retry"):
        token = annotations.get(f"segue.dev/{wish}")
        if token and token != handled.get(wish):
            yield f"Asked:     {wish} ({token}), not acted on yet"


def _step(status: Document) -> str:
    rollout = status["rollout"]
    parts = [f"started {ago(rollout['startedAt'])}"]
    if status["phase"] == "Canary":
        parts.append(f"canary step {rollout['step'] + 1}")
    if rollout.get("toppingUp"):
        parts.append("topped up with verification sentences")
    return ", ".join(parts)


def _spec(spec: Document, computed: list[str]) -> Iterator[str]:
    yield "Spec:"
    tier = (spec.get("residency") or {}).get("tier", "hot")
    yield f"  engine {spec['engine']}, fleet {spec['fleet']}, tier {tier}, options {spec.get('options') or 'none'}"
    files = {f"weights.{name}": source for name, source in spec["weights"].items()}
    if spec.get("reference"):
        files["reference"] = spec["reference"]
    for name, source in files.items():
        note = " (computed)" if name in computed else ""
        yield f"  {name}: {source['uri']}  sha256 {short(source.get('sha256'))}{note}"
    rollout, watch = spec["rollout"], spec["watch"]
    canary = rollout["canary"]
    yield (
        f"  canary {canary['mode']} {', '.join(canary['steps'])}, {canary['successes']} successes, "
        f"approval {rollout['approval']}{', paused' if rollout['paused'] else ''}; "
        f"watch {watch['duration']}, back over {watch['maxErrorRate']:.2%} for {watch['sustainedFor']}"
    )


def _pods(pods: list[Document]) -> Iterator[str]:
    yield "Pods:"
    for pod in pods:
        if not pod["inReach"]:
            yield f"  {pod['name']}: out of reach (it goes on serving by itself)"
            continue
        serving = sum(worker["phase"] == "serving" for worker in pod.get("workers", []))
        yield f"  {pod['name']}: in reach, {serving} workers serving"
        if pod.get("models"):
            yield f"    {models_line(pod['models'])}"
        state = pod.get("state")
        if state:
            yield from _on_pod(state, pod.get("lastHour", {}))


def _counts(status: Document) -> Iterator[str]:
    """What the status says of the pods: their own words are out of reach."""
    pods = status["pods"]
    counts = ", ".join(f"{pods.get(name, 0)} {name}" for name in ("ready", "updated", "loaded", "verified", "failed"))
    when = f" (counted {ago(pods['at'])})" if pods.get("at") else ""
    yield f"Pods:      {pods.get('total', 0)}: {counts}{when}"


def _verifications(status: Document) -> Iterator[str]:
    for each in status.get("verifications", []):
        similarity, ratio = each.get("similarity"), each.get("passRatio")
        figures = [f"similarity {similarity:.4g}"] if similarity is not None else []
        figures += [f"{ratio:.1%} of the cases passed"] if ratio is not None else []
        figures += [each["drift"]] if each.get("drift") else []
        where = " on ".join(filter(None, (each.get("engineBuild"), each.get("deviceClass"))))
        what = f"{', '.join(figures) or 'passed'}{f' ({where})' if where else ''}"
        yield f"Verified:  {short(each['revision'])} {ago(each['at'])}: {what}"


def _on_pod(state: Document, last_hour: Document) -> Iterator[str]:
    pointer = state["pointer"]
    line = f"    active {short(pointer['active'])}"
    if pointer["candidate"]:
        line += f", candidate {short(pointer['candidate'])} with {pointer['weight'] / 100:g} % ({pointer['mode']})"
    if state.get("watch"):
        line += f", under watch (back to {short(state['watch']['previous'])})"
    yield line
    for name, revision in state["revisions"].items():
        progress = revision["progress"]["fraction"]
        percent = f" {progress:.0%}" if 0 < progress < 1 else ""
        why = f": {revision['message'] or revision['reason']}" if revision["message"] or revision["reason"] else ""
        size = sum(part["sizeBytes"] for part in revision["parts"] if not part.get("shared"))
        memory = f", {size / 1e6:.1f} MB" if size else ""
        yield f"    {short(name)} {revision['phase']}{percent}{memory}{why}"
    for name, totals in last_hour.items():
        errors = sum(totals["errors"].values())
        kinds = ", ".join(f"{kind} {count}" for kind, count in totals["errors"].items())
        shielded = f", {totals['shielded']} shielded" if totals["shielded"] else ""
        bad = f"{errors} bad ({kinds})" if kinds else "0 bad"
        yield f"    {short(name)} last hour: {totals['successes']} good, {bad}{shielded}"
    if state.get("selfReverted"):
        yield f"    went back by itself: {state['selfReverted']['message']}"


def _probes(pods: list[Document], kept: dict[str, Document]) -> Iterator[str]:
    """What the pods show, then what is remembered of revisions that are on no pod any more."""
    shown = set()
    for pod in pods:
        for name, revision in pod.get("state", {}).get("revisions", {}).items():
            report = revision.get("report")
            if report:
                shown.add(name)
                yield f"Probe of {short(name)} on {pod['name']} ({report['kind']}): {report['phase']}{_done(report)}"
                yield from _gates(report)
    for name, report in kept.items():
        if name not in shown:
            yield f"Probe of {short(name)}, on no pod any more ({report['kind']}): {report['phase']}"
            yield from _gates(report)


def _done(report: Document) -> str:
    if report["phase"] == "Running" and report["total"]:
        return f", {report['done']} of {report['total']}"
    return ""


def _gates(report: Document) -> Iterator[str]:
    marks = {True: "pass", False: "FAIL", None: "----"}
    for gate in report["gates"]:
        message = f"  {gate['message']}" if gate["message"] else ""
        yield f"  {marks[gate['passed']]}  {gate['name']:<15} {figure(gate)}{message}"
    for gate in report["continuity"]:
        mark = "HOLD" if gate["passed"] is False else marks[gate["passed"]]
        yield f"  {mark}  {gate['name']:<15} {figure(gate)}  against {short(report['baseline'])}"
    for reason in report["reasons"]:
        yield f"  because: {reason}"


def _history(status: Document) -> Iterator[str]:
    yield "History:"
    for entry in status["history"]:
        yield f"  {short(entry['revision'])}  confirmed {ago(entry['since'])}  {_files(entry)}"
    for entry in status["failedRevisions"]:
        yield f"  {short(entry['revision'])}  failed {ago(entry['at'])}: {entry['reason']}: {entry.get('message', '')}"
    if not status["history"] and not status["failedRevisions"]:
        yield "  nothing was confirmed yet"


def _files(entry: Document) -> str:
    return ", ".join(f"{name} {source['uri'].rpartition('/')[2]}" for name, source in entry["weights"].items())


def _conditions(status: Document) -> Iterator[str]:
    yield "Conditions:"
    for condition in status["conditions"]:
        message = f": {condition['message']}" if condition.get("message") else ""
        since = ago(condition["lastTransitionTime"])
        yield f"  {condition['type']:<12} {condition['status']:<8} {since:<9} {condition['reason']}{message}"


def _events(events: list[Document], notes: list[str]) -> Iterator[str]:
    yield "Events:"
    for note in notes:
        yield f"  {note}"
    for event in events:
        mark = "!" if event["kind"] == "Warning" else " "
        yield f"  {clock(event['at'])} {mark} {event['reason']}: {event['message']}"
    if not events and not notes:
        yield "  none"
