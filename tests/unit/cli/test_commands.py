"""The command line, command by command, without anything running."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segue_cli import main as entry
from segue_cli.main import COMMANDS, app
from segue_cli.up.memory import InvalidAmount, parse_bytes

VOICE = """\
# The voice of the house.
apiVersion: segue.dev/v1alpha1
kind: VoiceModel
metadata:
  name: narrator
spec:
  engine: demo
  weights:
    prosody: {uri: v1/prosody.pth}  # the melody
    timbre: {uri: v1/timbre.pth}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one voice, in which the command line stands; no state of the real user is seen."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    voices = tmp_path / "voices"
    for version in ("v1", "v2"):
        (voices / version).mkdir(parents=True)
        for half in ("prosody", "timbre"):
            (voices / version / f"{half}.pth").write_text(f"{version} {half}", encoding="utf-8")
    (voices / "narrator.yaml").write_text(VOICE, encoding="utf-8")
    monkeypatch.chdir(voices)
    return voices


def run(*arguments: str, code: int = 0) -> str:
    """Run a command; stdout and stderr together, the exit code checked."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def complain(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Run through `main`, as the shell does; stderr of a run that fails with exit code 1."""
    monkeypatch.setattr("sys.argv", ["segue", *arguments])
    with pytest.raises(SystemExit) as leaving:
        entry.main()
    assert leaving.value.code == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_explains_itself(command: str) -> None:
    assert "Usage:" in run(command, "--help")


def test_the_list_of_commands_is_complete() -> None:
    listed = run("--help")
    assert all(command in listed for command in COMMANDS)


def test_validate_is_content_with_a_good_file(folder: Path) -> None:
    assert "1 voice, no mistakes" in run("validate", "narrator.yaml")


def test_validate_names_file_line_and_field(folder: Path) -> None:
    (folder / "narrator.yaml").write_text(VOICE.replace("engine: demo", "engin: demo"), encoding="utf-8")
    lines = run("validate", ".", code=1).splitlines()
    assert any(line.startswith("narrator.yaml:7: spec.engin: ") for line in lines), lines


def test_validate_finds_weights_that_are_missing(folder: Path) -> None:
    shutil.rmtree(folder / "v1")
    assert "spec.weights.prosody.uri" in run("validate", "narrator.yaml", code=1)


def test_pin_writes_digests_and_keeps_comments(folder: Path) -> None:
    run("pin", "narrator.yaml")
    text = (folder / "narrator.yaml").read_text(encoding="utf-8")
    assert text.count("sha256: ") == 2
    assert "# the melody" in text
    assert "# The voice of the house." in text
    assert "0 digests" in run("pin", "narrator.yaml")


def test_pin_refresh_replaces_what_is_outdated(folder: Path) -> None:
    run("pin", "narrator.yaml")
    before = (folder / "narrator.yaml").read_text(encoding="utf-8")
    (folder / "v1" / "timbre.pth").write_text("other", encoding="utf-8")
    run("pin", "--refresh", "narrator.yaml")
    assert (folder / "narrator.yaml").read_text(encoding="utf-8") != before


def test_roll_names_the_new_files_beside_the_yaml(folder: Path) -> None:
    run("roll", "narrator", "--prosody", "v2/prosody.pth", "-w", "timbre=v2/timbre.pth")
    text = (folder / "narrator.yaml").read_text(encoding="utf-8")
    assert "uri: v2/prosody.pth" in text
    assert "uri: v2/timbre.pth" in text
    assert "# the melody" in text


def test_roll_forgets_digests_of_the_old_files(folder: Path) -> None:
    run("pin", "narrator.yaml")
    run("roll", "narrator", "--timbre", "v2/timbre.pth")
    assert (folder / "narrator.yaml").read_text(encoding="utf-8").count("sha256: ") == 1


def test_roll_refuses_a_file_that_is_not_there(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = complain(capsys, monkeypatch, "roll", "narrator", "--timbre", "v3/timbre.pth")
    assert error == "error: v3/timbre.pth is not a file; name the new weights\n"
    assert (folder / "narrator.yaml").read_text(encoding="utf-8") == VOICE


def test_roll_refuses_weights_that_the_voice_does_not_have(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = complain(capsys, monkeypatch, "roll", "narrator", "-w", "gpt=v2/timbre.pth")
    assert "has no weights named gpt; it has: prosody, timbre" in error


def test_pause_and_resume_are_in_the_file(folder: Path) -> None:
    run("pause", "narrator")
    assert "paused: true" in (folder / "narrator.yaml").read_text(encoding="utf-8")
    run("resume", "narrator")
    assert "paused: true" not in (folder / "narrator.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("intent", ["promote", "rollback", "retry"])
def test_an_intent_is_a_new_token_each_time(folder: Path, intent: str) -> None:
    run(intent, "narrator")
    first = (folder / "narrator.yaml").read_text(encoding="utf-8")
    run(intent, "narrator")
    assert f"segue.dev/{intent}: " in first
    assert (folder / "narrator.yaml").read_text(encoding="utf-8") != first


def test_an_unknown_voice_is_answered_with_those_there_are(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there are: default/narrator" in complain(capsys, monkeypatch, "promote", "nobody")


@pytest.mark.parametrize("command", ["get", "describe narrator", "watch narrator", "wait narrator"])
def test_what_needs_a_running_segue_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    assert "no segue up runs" in complain(capsys, monkeypatch, *command.split())


def test_wait_refuses_a_condition_that_does_not_exist(folder: Path) -> None:
    assert "condition=TYPE" in run("wait", "narrator", "--for", "condition=Happy", code=2)


def test_a_bundle_is_packed_signed_and_verified(folder: Path) -> None:
    run("keygen", "-o", "fleet.key")
    assert (folder / "fleet.key").stat().st_mode & 0o777 == 0o600
    run("pack", "v1")
    run("sign", "v1", "--key", "fleet.key")
    assert "2 files hold" in run("verify", "v1", "--key", "fleet.key.pub")


def test_a_file_that_was_changed_after_signing_is_found(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("keygen", "-o", "fleet.key")
    run("pack", "v1")
    run("sign", "v1", "--key", "fleet.key")
    (folder / "v1" / "timbre.pth").write_text("v1 TIMBRE", encoding="utf-8")
    assert "is not what was signed" in complain(capsys, monkeypatch, "verify", "v1", "--key", "fleet.key.pub")


def test_a_key_that_was_not_trusted_does_not_count(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("keygen", "-o", "fleet.key")
    run("keygen", "-o", "other.key")
    run("pack", "v1")
    run("sign", "v1", "--key", "other.key")
    assert "no valid signature" in complain(capsys, monkeypatch, "verify", "v1", "--key", "fleet.key.pub")


def test_a_key_is_never_overwritten(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("keygen", "-o", "fleet.key")
    assert "exists" in complain(capsys, monkeypatch, "keygen", "-o", "fleet.key")


def test_the_crd_is_written_and_checked(folder: Path) -> None:
    run("crd", "-o", "crds")
    run("crd", "--check", "-o", "crds")
    (next((folder / "crds").iterdir())).write_text("old", encoding="utf-8")
    result = CliRunner().invoke(app, ["crd", "--check", "-o", "crds"])
    assert "is not up to date" in str(result.exception)


def test_say_refuses_an_unknown_format(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no audio format ends in .doc" in complain(capsys, monkeypatch, "say", "Hello.", "-o", "hello.doc")


def test_say_refuses_an_empty_text(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "the text is empty" in complain(capsys, monkeypatch, "say", " ")


def test_say_to_a_server_that_is_not_there(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = complain(capsys, monkeypatch, "say", "Hi.", "--server", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 does not answer" in error


def test_up_refuses_what_is_no_folder(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "does not exist" in complain(capsys, monkeypatch, "up", "nowhere")
    assert "is not a folder" in complain(capsys, monkeypatch, "up", "narrator.yaml")


def test_a_traceback_is_shown_only_when_it_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["segue", "--debug", "up", "nowhere"])
    with pytest.raises(Exception, match="does not exist"):
        entry.main()


@pytest.mark.parametrize(
    ("text", "size"), [("512Mi", 512 << 20), ("2Gi", 2 << 30), ("2G", 2 << 30), ("1024", 1024), ("1.5g", 3 << 29)]
)
def test_amounts_of_memory_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_bytes(text) == size


def test_an_amount_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidAmount, match="512Mi"):
        parse_bytes("much")
