"""`make observability`: do alerts, dashboards and the way back work with a real Prometheus and Alertmanager?

The chart's rules, with windows divided by twelve (`shortened`) and nothing else changed, watch a `segue up` that a few
listeners talk to. A good version is let out, a worker dies, and then a version that fails on questions: the shipped
alert fires, Alertmanager calls the operator, the version goes back. Then everything that dashboards and rules ask is
asked about this run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from tests.support.chart.helm import CHART, Helm
from tests.support.cluster import obtain
from tests.support.cluster.binaries import HELM, NoBinary
from tests.support.observability.asked import Question, questions
from tests.support.observability.listeners import Audience
from tests.support.observability.monitors import Prometheus, monitoring, version_of
from tests.support.observability.shortened import BY, SCRAPE_S, shortened_rule
from tests.support.observability.stage import KEY, OTHER, STAR, Stage
from tests.support.running import eventually

REASONS = Path(__file__).with_name("reasons.yaml")
ALERT = "SegueVoiceFails"
FIRES_WITHIN_S = 90.0
CALM_S = 10.0
VALUES = {
    "__rate_interval": "2m",
    "__range": "30m",
    "namespace": "segue-system",
    "operator_namespace": "segue-system",
    "fleet": "default",
    "pod": ".*",
    "voice_namespace": "default",
    "voice": KEY,
}


@dataclass(frozen=True, slots=True)
class Run:
    """What was seen."""

    began_s: float
    let_out_s: float
    back_s: float
    ended_s: float
    answers: Mapping[str, int]
    rolled_back: int
    events: int
    reason: str
    unhealthy: list[str]


def main() -> int:
    """0 where everything is as it should be; the report says what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.observability", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/observability"), help="folder of report.json")
    out = parser.parse_args().out
    try:
        with tempfile.TemporaryDirectory(prefix="segue-observability-") as folder:
            report = observe(Path(folder))
    except NoBinary as error:
        print(f"observability: {error}", file=sys.stderr)
        return 1
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _print(report)
    return 0 if report["passed"] else 1


def observe(folder: Path) -> dict[str, Any]:
    """Play it, ask everything; the report."""
    began = time.monotonic()
    groups = shipped_groups(folder)
    stage = Stage(folder)
    try:
        _say("segue up, and both voices promoted")
        stage.start()
        with monitoring(
            folder, targets=stage.targets(), groups=groups, hook=stage.hook, token=stage.token
        ) as prometheus:
            run = play(stage, prometheus)
            asked = questions(groups, VALUES)
            found = ask_all(prometheus, asked, run)
    finally:
        stage.stop()
    return _report(run, asked, found, took_s=time.monotonic() - began)


def shipped_groups(folder: Path) -> list[dict[str, Any]]:
    """The rules as helm renders them, with shortened windows."""
    values = folder / "values.yaml"
    values.write_text("monitoring: {rules: {enabled: true, takeBack: {enabled: true}}}\n", encoding="utf-8")
    (found,) = Helm(obtain(HELM), folder).render(values).of("PrometheusRule")
    return [
        {"name": group["name"], "rules": [shortened_rule(rule) for rule in group["rules"]]}
        for group in found["spec"]["groups"]
    ]


def play(stage: Stage, prometheus: Prometheus) -> Run:
    """The story, with listeners all along."""
    began_s = time.time()
    with Audience(str(stage.up["server"]), (STAR, OTHER)) as audience:
        time.sleep(CALM_S)  # figures of a calm time
        _say("a worker dies")
        stage.lose_a_worker()
        _say("a good version")
        stage.good_version()
        _say("a version that fails on questions")
        let_out_s = stage.bad_version()
        eventually(lambda: prometheus.now(_firing()), within_s=FIRES_WITHIN_S, what=f"{ALERT} fires")
        _say(f"{ALERT} fires {time.time() - let_out_s:.0f} s later")
        back_s = stage.wait_for_the_way_back(within_s=30)
        _say(f"taken back after {back_s - let_out_s:.0f} s: {stage.status()['lastRollback']['message']}")
        eventually(lambda: not prometheus.now(_firing()), within_s=60, what=f"{ALERT} is over")
        time.sleep(CALM_S)  # a second rollback would come now
    counted = prometheus.now('segue_operator_rollback_reasons_total{reason="AlertFiring"}')
    return Run(
        began_s=began_s,
        let_out_s=let_out_s,
        back_s=back_s,
        ended_s=time.time(),
        answers=dict(audience.answers),
        rolled_back=int(float(counted[0]["value"][1])) if counted else 0,
        events=stage.events("RollingBack"),
        reason=str(stage.status()["lastRollback"]["reason"]),
        unhealthy=prometheus.unhealthy_rules(),
    )


def ask_all(prometheus: Prometheus, asked: Sequence[Question], run: Run) -> dict[str, int]:
    """How many series each question had an answer of, at any time of the run."""
    return {each.where: len(prometheus.over(each.expr, start_s=run.began_s, end_s=run.ended_s)) for each in asked}


def _firing() -> str:
    return f'ALERTS{{alertname="{ALERT}",alertstate="firing"}}'


def _report(run: Run, asked: Sequence[Question], found: Mapping[str, int], *, took_s: float) -> dict[str, Any]:
    reasons: dict[str, str] = YAML(typ="safe").load(REASONS.read_text(encoding="utf-8"))
    may_be_empty = {each.where for each in asked if not each.must_answer}
    empty = [where for where, series in found.items() if series == 0 and where not in may_be_empty]
    unexplained = [where for where in empty if where not in reasons]
    stale = [where for where in reasons if where not in empty]
    back_by_alert = int(run.rolled_back == run.events == 1 and run.reason == "AlertFiring")
    return {
        "passed": not (unexplained or stale or run.unhealthy) and back_by_alert == 1 and set(run.answers) <= {"200"},
        "rolled_back_by_alert": run.rolled_back,
        "rollbacks": run.events,
        "reason": run.reason,
        "seconds_until_taken_back": round(run.back_s - run.let_out_s, 1),
        "expressions": len(found),
        "empty_expressions": len(unexplained),
        "unexplained": unexplained,
        "empty_for_a_reason": {where: reasons[where] for where in empty if where in reasons},
        "stale_reasons": stale,
        "unhealthy_rules": run.unhealthy,
        "answers": run.answers,
        "windows_divided_by": BY,
        "scrape_interval_s": SCRAPE_S,
        "took_s": round(took_s, 1),
        "prometheus": version_of("prometheus"),
        "alertmanager": version_of("prometheus-alertmanager"),
        "chart": str(CHART.name),
        "series": dict(found),
    }


def _print(report: Mapping[str, Any]) -> None:
    for name in ("rolled_back_by_alert", "expressions", "empty_expressions", "answers", "took_s"):
        print(f"{name}: {report[name]}")
    for name in ("unexplained", "stale_reasons", "unhealthy_rules"):
        for each in report[name]:
            print(f"{name}: {each}")
    print("passed" if report["passed"] else "FAILED")


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
