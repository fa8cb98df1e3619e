"""`kubectl segue`, command by command, against an API server over HTTP."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.fakes.api_server import Body, FakeApiServer, Seen
from tests.support.stored_voices import plain, rolled_back, rolling, serving, stored
from tests.support.voices import digest, revision
from typer.testing import CliRunner

from segue.model.status import Phase
from segue_cli import main as entry
from segue_cli.main import COMMANDS, app, plugin


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApiServer]:
    """An API server with one voice, and an environment that knows it as the context `test` and nothing else."""
    for name in ("SEGUE_CONTEXT", "KUBERNETES_SERVICE_HOST", "SEGUE_STATE", "SEGUE_VOICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with FakeApiServer().running() as running:
        running.put(stored("v2", status=serving("v2", "v1")))
        monkeypatch.setenv("KUBECONFIG", str(running.kubeconfig(tmp_path / "kubeconfig")))
        yield running


def run(*arguments: str, code: int = 0, command_line: Any = plugin) -> str:
    """Run a command; stdout and stderr together, the exit code checked."""
    result = CliRunner().invoke(command_line, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def complain(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """stderr of a run of `kubectl segue` that fails with exit code 1."""
    monkeypatch.setattr("sys.argv", ["kubectl-segue", *arguments])
    with pytest.raises(SystemExit) as leaving:
        entry.kubectl_main()
    assert leaving.value.code == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"up", "demo", "say", "calibrate", "import"}))
def test_every_command_explains_itself(command: str) -> None:
    assert "Usage: kubectl segue" in run(command, "--help").replace("kubectl-segue", "kubectl segue")


def test_a_cluster_has_no_folder_options() -> None:
    assert "--state" not in run("get", "--help")
    assert "--state" in run("get", "--help", command_line=app)


# --- reading ----------------------------------------------------------------------------------------------------------


def test_get_lists_the_voices_of_the_namespace(fake: FakeApiServer) -> None:
    fake.put(stored(name="other", namespace="team"))
    listed = run("get")
    assert "narrator" in listed
    assert "other" not in listed
    assert "other" in run("get", "-n", "team")
    everywhere = run("get", "-A")
    assert "NAMESPACE" in everywhere
    assert "team" in everywhere


def test_get_writes_what_programs_read(fake: FakeApiServer) -> None:
    listed = json.loads(run("get", "-o", "json"))
    assert listed["kind"] == "List"
    assert [each["metadata"]["name"] for each in listed["items"]] == ["narrator"]
    one = YAML(typ="safe").load(run("get", "narrator", "-o", "yaml"))
    assert one["status"]["phase"] == "Idle"
    assert "managedFields" not in one["metadata"]
    assert run("get", "-o", "name") == "voicemodel.segue.dev/narrator\n"


@pytest.mark.parametrize("name", ["narrator", "default/narrator", "voicemodel.segue.dev/narrator", "vmodel/narrator"])
def test_a_voice_is_named_as_kubectl_names_it(fake: FakeApiServer, name: str) -> None:
    assert run("get", name, "-o", "name") == "voicemodel.segue.dev/narrator\n"


def test_get_says_that_no_operator_has_looked(fake: FakeApiServer) -> None:
    fake.put(stored("v1", name="fresh"))
    wide = run("get", "fresh", "-o", "wide")
    assert "NotSeen" in wide
    assert "is it running?" in " ".join(wide.split())


def test_describe_shows_what_the_cluster_knows(fake: FakeApiServer) -> None:
    status = rolled_back("v3", "v2", "v1")
    fake.put(stored("v2", generation=3, status=status))
    fake.voices["default", "narrator"]["metadata"]["annotations"]["segue.dev/retry"] = "again"
    fake.tell("narrator", "RolledBack", "6 of 80 failed", kind="Warning")
    shown = run("describe", "narrator")
    for part in (
        "Context:   test",
        "Operator:  the operator has not looked at generation 3",
        "Asked:     retry (again), not acted on yet",
        "Pods:      3: 3 ready, 3 updated",
        "similarity 0.951, 100.0% of the cases passed (demo-1 on cpu)",
        "failed ",
        "ErrorRate: 6 of 80 failed",
        "Promoted     False",
        "! RolledBack: 6 of 80 failed",
    ):
        assert part in shown, shown


def test_describe_goes_on_without_events(fake: FakeApiServer) -> None:
    fake.forbidden.add("list events")
    assert 'Events are not shown: events is forbidden: User "jane"' in run("describe", "narrator")


def test_the_cluster_is_reached_from_segue_too(fake: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "narrator" in run("get", "--context", "test", command_line=app)
    assert "narrator" in run("--context", "test", "get", command_line=app)
    monkeypatch.setenv("SEGUE_CONTEXT", "test")
    assert "narrator" in run("get", command_line=app)


def test_segue_without_a_context_stays_with_the_folder(fake: FakeApiServer) -> None:
    with pytest.raises(Exception, match="no segue up runs"):
        run("get", "-n", "default", command_line=app)
    assert not fake.seen


def test_a_folder_that_is_named_goes_before_the_environment(
    fake: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGUE_CONTEXT", "test")
    with pytest.raises(Exception, match="no segue up runs"):
        run("get", "--voices", str(tmp_path), command_line=app)
    assert not fake.seen


# --- asking -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("intent", ["promote", "retry", "rollback"])
def test_an_intent_is_a_new_token_and_the_context_is_shown(fake: FakeApiServer, intent: str) -> None:
    said = run(intent, "narrator")
    run(intent, "narrator")
    assert "default/narrator in context test" in said
    assert "follow it with: kubectl segue watch narrator" in said
    tokens = [patch["metadata"]["annotations"][f"segue.dev/{intent}"] for patch in fake.patches()]
    assert len(set(tokens)) == 2
    assert all(patch.keys() == {"metadata"} for patch in fake.patches())


def test_hints_lead_to_the_same_voice_in_the_same_context(fake: FakeApiServer) -> None:
    fake.put(stored("v2", namespace="team", status=serving("v2", "v1")))
    said = run("promote", "narrator", "-n", "team", "--context", "test")
    assert "kubectl segue watch narrator -n team --context test" in said


def test_pause_and_resume_change_one_field(fake: FakeApiServer) -> None:
    run("pause", "narrator")
    assert fake.patches()[-1]["spec"] == {"rollout": {"paused": True}}
    run("resume", "narrator")
    assert fake.voices["default", "narrator"]["spec"]["rollout"]["paused"] is False
    assert "as it was" in run("resume", "narrator")
    assert len(fake.patches()) == 2


def test_rollback_says_what_it_goes_back_to(fake: FakeApiServer) -> None:
    said = run("rollback", "narrator")
    assert f"{revision('v2')[:10]} goes back to {revision('v1')[:10]} (acoustic v1.npz; confirmed" in said


def test_rollback_with_nowhere_to_go_writes_nothing(
    fake: FakeApiServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.put(stored("v1", status=serving("v1")))
    assert "no earlier version" in complain(capsys, monkeypatch, "rollback", "narrator")
    assert not fake.patches()


def went_back(voice: Body, fake: FakeApiServer) -> None:
    """What an operator does with a rollback token."""
    token = voice["metadata"]["annotations"]["segue.dev/rollback"]
    status = plain(rolled_back("v2", "v1", generation=voice["metadata"]["generation"]))
    fake.change("narrator", **(status | {"handledTokens": {"rollback": token}}))


def test_rollback_waits_until_it_is_back(fake: FakeApiServer) -> None:
    fake.react = lambda voice: went_back(voice, fake)
    assert f"default/narrator is back on {revision('v1')[:10]}" in run("rollback", "narrator", "--wait")


def test_rollback_that_nobody_acts_on_runs_out_of_time(fake: FakeApiServer) -> None:
    assert "not back on" in run("rollback", "narrator", "--wait", "--timeout", "1s", code=4)


def test_rollback_to_a_version_of_the_history_names_its_files_again(fake: FakeApiServer) -> None:
    said = run("rollback", "narrator", "--to", revision("v1")[:8])
    assert "default/narrator names it again (context test)" in said
    (patch,) = fake.patches()
    assert patch["spec"]["weights"]["acoustic"] == {"uri": "file:///voices/v1.npz", "sha256": digest("v1")}
    assert patch["metadata"]["resourceVersion"] == "101"


def test_roll_takes_a_uri_with_its_digest(fake: FakeApiServer) -> None:
    run("roll", "narrator", "-w", f"acoustic=s3://voices/v3.npz@{digest('v3')}")
    (patch,) = fake.patches()
    assert patch["spec"] == {"weights": {"acoustic": {"uri": "s3://voices/v3.npz", "sha256": digest("v3")}}}


def test_roll_computes_the_digest_of_what_it_can_read(fake: FakeApiServer, tmp_path: Path) -> None:
    (tmp_path / "v3.npz").write_bytes(b"v3")
    said = run("roll", "narrator", "-w", "acoustic=v3.npz")
    assert f"file://{tmp_path}/v3.npz is what the pods are told" in said
    (patch,) = fake.patches()
    assert patch["spec"]["weights"]["acoustic"]["sha256"] == digest("v3")


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        ("acoustic=s3://voices/v3.npz", "write its digest behind it"),
        ("acoustic=missing.npz", "cannot be read: No such file"),
        ("gpt=s3://voices/v3.npz@" + digest("v3"), "has no weights named gpt; it has: acoustic"),
    ],
)
def test_roll_refuses_what_it_cannot_pin(
    fake: FakeApiServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, weights: str, why: str
) -> None:
    assert why in complain(capsys, monkeypatch, "roll", "narrator", "-w", weights)
    assert not fake.patches()


def rolls_out(voice: Body, fake: FakeApiServer, *, well: bool) -> None:
    """What an operator does with a new spec."""
    generation = voice["metadata"]["generation"]
    if well:
        fake.change("narrator", **plain(serving("v3", "v2", generation=generation)))
        return
    fake.change("narrator", **plain(rolling("v3", "v2", phase=Phase.CANARY, generation=generation)))
    reverted = stored("v2", generation=generation + 1, status=rolled_back("v3", "v2", generation=generation + 1))
    fake.put(reverted)


@pytest.mark.parametrize(("well", "code", "words"), [(True, 0, "is Promoted=True"), (False, 3, "6 of 80 failed")])
def test_roll_waits_for_the_outcome(fake: FakeApiServer, *, well: bool, code: int, words: str) -> None:
    fake.react = lambda voice: rolls_out(voice, fake, well=well)
    new = f"acoustic=s3://voices/v3.npz@{digest('v3')}"
    assert words in run("roll", "narrator", "-w", new, "--wait", code=code)


def test_who_else_owns_the_spec_is_said(fake: FakeApiServer) -> None:
    voice = stored("v2", status=serving("v2", "v1"))
    voice["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] = "x"
    fake.put(voice)
    assert "Argo CD owns this spec" in run("pause", "narrator")
    assert "Argo CD" not in run("promote", "narrator")


def conflict_once(fake: FakeApiServer, spoil: Any) -> None:
    """The first patch finds the voice changed."""

    def fault(request: Seen) -> None:
        if request.method == "PATCH":
            fake.faults.clear()
            spoil()

    fake.faults.append(fault)


def test_a_status_write_in_between_is_no_conflict(fake: FakeApiServer) -> None:
    conflict_once(fake, lambda: fake.change("narrator", message="counted again"))
    run("pause", "narrator")
    assert len(fake.patches()) == 2
    assert fake.voices["default", "narrator"]["spec"]["rollout"]["paused"] is True


def test_an_edit_in_between_is_not_overwritten(
    fake: FakeApiServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    conflict_once(fake, lambda: fake.put(stored("v9", generation=2, status=serving("v2", "v1"))))
    error = complain(capsys, monkeypatch, "rollback", "narrator", "--to", revision("v1"))
    assert "default/narrator in context test was changed by somebody else meanwhile" in error
    assert fake.voices["default", "narrator"]["spec"] == stored("v9")["spec"]


# --- waiting and watching ---------------------------------------------------------------------------------------------


def test_wait_ends_when_it_came(fake: FakeApiServer) -> None:
    assert "default/narrator is Promoted=True" in run("wait", "narrator", "--for", "Promoted")


def test_wait_ends_when_it_cannot_come(fake: FakeApiServer) -> None:
    fake.put(stored("v1", generation=2, status=rolled_back("v2", "v1")))
    for goal in ("condition=Promoted", "condition=Ready"):
        assert "6 of 80 failed" in run("wait", "narrator", "--for", goal, code=3)


def test_wait_says_that_the_operator_is_silent(fake: FakeApiServer) -> None:
    fake.put(stored("v3", generation=5, status=serving("v2", generation=4)))
    said = run("wait", "narrator", "--for", "Promoted", "--timeout", "0s", code=4)
    assert "the operator has not looked at generation 5" in said
    assert "(it has seen 4); is it running?" in said


def test_wait_sees_a_change_that_comes_later_through_an_outage_and_an_expired_watch(fake: FakeApiServer) -> None:
    fake.put(stored("v3", generation=2, status=rolling("v3", "v2", phase=Phase.CANARY)))
    watches = 0

    def fault(request: Seen) -> int | None:
        nonlocal watches
        watches += request.query.get("watch") == "true"
        if watches == 2 and request.query.get("watch"):
            fake.compact()
        if watches == 3:
            watches += 1
            fake.change("narrator", **plain(serving("v3", "v2", generation=2)))
            return 500
        return None

    fake.faults.append(fault)
    assert "is Promoted=True" in run("wait", "narrator", "--for", "Promoted", "--timeout", "20s")


def test_wait_ends_with_the_voice(
    fake: FakeApiServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.put(stored("v3", generation=2, status=rolling("v3", "v2", phase=Phase.CANARY)))

    def fault(request: Seen) -> None:
        if request.query.get("watch") and ("default", "narrator") in fake.voices:
            fake.delete("narrator")

    fake.faults.append(fault)
    assert "was deleted from context test" in complain(capsys, monkeypatch, "wait", "narrator", "--for", "Promoted")


def test_watch_says_a_line_for_each_change_until_the_voice_is_gone(
    fake: FakeApiServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: Iterator[Callable[[], object]] = iter(
        [
            lambda: fake.put(stored("v3", generation=2, status=rolling("v3", "v2", phase=Phase.PRELOADING))),
            lambda: fake.tell("narrator", "Preloading", "v3 is to replace v2"),
            lambda: fake.delete("narrator"),
        ]
    )

    def fault(request: Seen) -> None:
        if request.query.get("watch"):
            for step in itertools.islice(steps, 1):
                step()

    fake.faults.append(fault)
    monkeypatch.setattr("sys.argv", ["kubectl-segue", "watch", "narrator"])
    with pytest.raises(SystemExit):
        entry.kubectl_main()
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"narrator: Idle  {revision('v2')[:10]}")
    assert "narrator: Preloading" in said[1]
    assert "loaded 3/4" in said[1]
    assert said[2] == "  Preloading: v3 is to replace v2"


def test_watch_of_all_says_when_one_is_gone(fake: FakeApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.put(stored(name="other", namespace="team"))
    done = threading.Event()

    def fault(request: Seen) -> int | None:
        if request.query.get("watch") and not done.is_set():
            done.set()
            fake.delete("other", namespace="team")
            return None
        return 403 if done.is_set() and request.query.get("watch") else None  # ends what has no end

    fake.faults.append(fault)
    with pytest.raises(Exception, match="not allowed"):
        run("watch", "-A")
    assert done.is_set()


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_context_that_does_not_exist(
    fake: FakeApiServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there is no context prod" in complain(capsys, monkeypatch, "--context", "prod", "pause", "narrator")
    assert not fake.seen


def test_a_missing_permission_to_patch(
    fake: FakeApiServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.forbidden.add("patch")
    error = complain(capsys, monkeypatch, "promote", "narrator")
    assert "needed: patch on voicemodels.segue.dev in namespace default" in error
    assert "--clusterrole=segue-user" in error


def test_a_voice_that_is_not_there(
    fake: FakeApiServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ("get", "describe", "watch", "wait", "promote", "rollback"):
        assert "in default there are: narrator" in complain(capsys, monkeypatch, command, "nobody")
