"""`segue import` from a folder as GPT-SoVITS leaves it to files that `segue up` reads."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import soundfile
from tests.support.gpt_sovits.files import small_sovits_file, small_t2s_file
from typer.testing import CliRunner

from segue.errors import SegueError
from segue.model.documents import load_documents, read_folder
from segue_cli.importing.document import CannotImport
from segue_cli.main import app


class Folder:
    """A folder of GPT-SoVITS, made of a few real files that are linked under many names."""

    def __init__(self, root: Path, parts: Path) -> None:
        self.root, self.parts = root, parts
        self.lines: list[str] = []

    def put(self, part: str, place: str) -> Path:
        """Link one of the parts to a place."""
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(self.parts / part)
        return path

    def voice(self, name: str, part: str = "v2Pro.pth", *, folder: str = "_v2Pro", recorded: bool = True) -> None:
        """Add both files of a voice, and a line about its recording."""
        self.put("gpt.ckpt", f"GPT_weights{folder}/{name}-e15.ckpt")
        self.put(part, f"SoVITS_weights{folder}/{name}_e8_s200.pth")
        if recorded:
            audio = self.put("5s.wav", f"output/slicer_opt/{name}.wav")
            self.lines.append(f"{audio}|{name}|ZH|{name}，你好。")
            (self.root / "output" / "all.list").write_text("\n".join(self.lines), encoding="utf-8")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    small_t2s_file().write(folder / "gpt.ckpt")
    for version in ("v2", "v2Pro", "v2ProPlus"):
        small_sovits_file(version).write(folder / f"{version}.pth")
    lora = small_sovits_file()
    lora.marker = b"03"
    lora.write(folder / "lora.pth")
    (folder / "cut.pth").write_bytes((folder / "v2.pth").read_bytes()[:5000])
    soundfile.write(folder / "5s.wav", np.zeros(16_000 * 5, np.float32), 16_000)
    return folder


@pytest.fixture
def folder(tmp_path: Path, parts: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "GPT-SoVITS"
    root.mkdir()
    return Folder(root, parts)


def run(*arguments: str | Path, code: int = 0) -> str:
    """Run the command; stdout and stderr together, with runs of blanks as one."""
    result = CliRunner().invoke(app, ["import", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_a_voice_is_written_with_files_digests_and_recording(folder: Folder) -> None:
    folder.voice("派蒙")
    run(folder.root, "--out", "voices")
    (voice,) = load_documents(Path("voices/paimeng.yaml"))
    assert voice.metadata.name == "paimeng"
    assert voice.metadata.annotations == {"segue.dev/imported-name": "派蒙", "segue.dev/imported-version": "v2Pro"}
    assert voice.spec.engine == "gpt-sovits"
    assert list(voice.spec.weights) == ["gpt", "sovits"]
    reference = voice.spec.reference
    assert reference is not None
    assert (reference.text, reference.language) == ("派蒙，你好。", "zh")
    for source in (*voice.spec.weights.values(), reference):
        path = Path(unquote(urlsplit(source.uri).path))
        assert path.is_relative_to(folder.root)
        assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_written_is_valid_and_its_files_are_there(folder: Folder) -> None:
    for name, part in (("ann", "v2.pth"), ("bob", "v2Pro.pth"), ("cid", "v2ProPlus.pth")):
        folder.voice(name, part)
    output = run(folder.root, "-o", "voices")
    for cells in ("ann ann v2 e15 e8 s200 ann.wav (5.0 s, zh) written", "cid cid v2ProPlus e15"):
        assert cells in output
    assert f"3 voices; serve them with: segue up voices --allow {folder.root}" in output
    result = CliRunner().invoke(app, ["validate", "voices"])
    assert "3 voices, no mistakes" in result.output


def test_what_makes_no_voice_is_listed_with_the_reason_and_stops_nothing(folder: Folder) -> None:
    folder.voice("ann")
    folder.voice("lora", "lora.pth", folder="_v3")
    folder.voice("cut", "cut.pth")
    folder.voice("mute", recorded=False)
    folder.put("v2.pth", "SoVITS_weights_v2/half_e1_s1.pth")
    (folder.root / "GPT_weights_v2Pro" / "cut-e15.ckpt").unlink()
    (folder.root / "GPT_weights_v2Pro" / "cut-e15.ckpt").write_bytes(b"")
    output = run(folder.root)
    assert [path.name for path in Path("voices").iterdir()] == ["ann.yaml"]
    for reason in (
        "a LoRA of GPT-SoVITS v3, which holds only differences to a base model",
        "its zip directory cannot be read",
        "no *.list names a recording of 'mute'",
        "no GPT_weights*/half-eN.ckpt beside it",
    ):
        assert reason in output


def test_nothing_is_overwritten_unless_asked(folder: Folder) -> None:
    folder.voice("ann")
    Path("voices").mkdir()
    file = Path("voices/ann.yaml")
    file.write_text("# mine\n", encoding="utf-8")
    assert "kept: a file of that name says something else; --force replaces it" in run(folder.root, code=1)
    assert file.read_text(encoding="utf-8") == "# mine\n"
    assert "replaced" in run(folder.root, "--force")
    assert len(load_documents(file)) == 1
    assert [path.name for path in Path("voices").iterdir()] == ["ann.yaml"]


def test_done_again_it_changes_nothing(folder: Folder) -> None:
    folder.voice("ann")
    run(folder.root)
    before = Path("voices/ann.yaml").stat()
    assert "unchanged" in run(folder.root)
    assert "unchanged" in run(folder.root, "--force")
    assert Path("voices/ann.yaml").stat().st_mtime_ns == before.st_mtime_ns


def test_a_dry_run_looks_and_writes_nothing(folder: Folder) -> None:
    folder.voice("ann")
    output = run(folder.root, "--dry-run")
    assert "ann ann v2Pro e15 e8 s200 ann.wav (5.0 s, zh) not written" in output
    assert not Path("voices").exists()


def test_only_some_are_imported_by_name_or_label(folder: Folder) -> None:
    for name in ("ann", "派蒙", "cid"):
        folder.voice(name)
    run(folder.root, "--only", "派蒙", "--only", "ann")
    assert sorted(path.name for path in Path("voices").iterdir()) == ["ann.yaml", "paimeng.yaml"]
    run(folder.root, "--only", "paimeng", "-o", "other")
    assert [path.name for path in Path("other").iterdir()] == ["paimeng.yaml"]


def test_a_name_that_was_asked_for_and_is_not_there_fails(folder: Folder) -> None:
    folder.voice("ann")
    assert "bob was not imported" in run(folder.root, "--only", "bob", "--only", "ann", code=1)
    assert Path("voices/ann.yaml").exists()


def test_names_that_come_out_the_same_are_told_apart(folder: Folder) -> None:
    folder.voice("Ann", folder="_v2Pro")
    folder.voice("ann", folder="_v2Pro")
    folder.voice("two", "v2.pth", folder="_v2")
    folder.put("v2Pro.pth", "SoVITS_weights_v2Pro/two_e8_s200.pth")
    run(folder.root)
    voices = {each.voice.metadata.name: each.voice for each in read_folder("voices").voices}
    assert {"ann", "two-v2", "two-v2pro"} < voices.keys()
    assert len(voices) == 4
    assert voices["ann"].metadata.annotations["segue.dev/imported-name"] == "ann"


def test_an_epoch_can_be_asked_for(folder: Folder) -> None:
    folder.voice("ann")
    folder.put("v2Pro.pth", "SoVITS_weights_v2Pro/ann_e4_s100.pth")
    assert "e15 e4 s100" in run(folder.root, "--epoch", "sovits=4")
    assert "no gpt file of epoch 4; there are 15" in run(folder.root, "--epoch", "4", code=1)


def test_a_list_can_be_given(folder: Folder, tmp_path: Path) -> None:
    folder.voice("ann", recorded=False)
    audio = folder.put("5s.wav", "x/a.wav")
    given = tmp_path / "mine.list"
    given.write_text(f"{audio}|ann|en|Hello.\n", encoding="utf-8")
    assert "a.wav (5.0 s, en)" in run(folder.root, "--list", given)


def test_absent_models_are_named_with_what_they_disable(folder: Folder) -> None:
    folder.voice("ann")
    output = run(folder.root)
    for name in ("chinese-hubert-base", "chinese-roberta-wwm-ext-large", "pretrained_eres2net", "G2PWModel"):
        assert name in output
    assert "v2Pro and v2ProPlus voices cannot be prepared" in output


def test_programs_get_json(folder: Folder) -> None:
    folder.voice("ann")
    folder.voice("lora", "lora.pth", folder="_v3")
    result = CliRunner().invoke(app, ["import", str(folder.root), "--json"])
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["voices"][0] | {"file": None} == {
        "voice": "ann",
        "name": "ann",
        "version": "v2Pro",
        "gpt": str(folder.root / "GPT_weights_v2Pro" / "ann-e15.ckpt"),
        "sovits": str(folder.root / "SoVITS_weights_v2Pro" / "ann_e8_s200.pth"),
        "reference": str(folder.root / "output" / "slicer_opt" / "ann.wav"),
        "file": None,
        "outcome": "written",
    }
    assert [problem["name"] for problem in found["problems"]] == ["lora"]
    assert len(found["models"]) == 4


def test_files_outside_the_folder_are_allowed_for_too(folder: Folder, tmp_path: Path) -> None:
    folder.voice("ann")
    elsewhere = tmp_path / "big disk"
    shutil.move(folder.root / "GPT_weights_v2Pro", elsewhere)
    (folder.root / "GPT_weights_v2Pro").symlink_to(elsewhere)
    assert f"--allow '{elsewhere}'" in run(folder.root)
    (voice,) = load_documents(Path("voices/ann.yaml"))
    assert voice.spec.weights["gpt"].uri == (elsewhere / "ann-e15.ckpt").as_uri()


def test_markup_in_a_name_is_shown_as_it_is(folder: Folder) -> None:
    folder.voice("[red]x")
    assert "red-x [red]x v2Pro" in run(folder.root)


@pytest.mark.parametrize(
    ("place", "message"),
    [("missing", "is not a folder"), ("empty", "holds neither GPT_weights"), ("file", "is not a folder")],
)
def test_a_folder_that_is_none_of_gpt_sovits_is_refused(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(CannotImport, match=message):
        run(tmp_path / place)


def test_a_place_that_cannot_be_written_is_named(folder: Folder, tmp_path: Path) -> None:
    folder.voice("ann")
    (tmp_path / "voices").touch()
    with pytest.raises(SegueError, match="voices cannot be made: File exists"):
        run(folder.root)


def test_no_voice_at_all_fails(folder: Folder) -> None:
    folder.voice("lora", "lora.pth", folder="_v3")
    assert "could be imported (1 pair looked at)" in run(folder.root, code=1)
    assert not Path("voices").exists()


def test_a_hundred_voices(folder: Folder) -> None:
    for number in range(100):
        folder.voice(f"voice {number}")
    result = CliRunner().invoke(app, ["import", str(folder.root), "--dry-run", "--json"])
    found = json.loads(result.stdout)
    assert found["problems"] == []
    assert {voice["voice"] for voice in found["voices"]} == {f"voice-{number}" for number in range(100)}
