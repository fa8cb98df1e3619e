"""YAML files: every mistake names file, line and field; every edit leaves comments and neighbours alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue.errors import EditConflict, InvalidVoiceModel
from segue.model import REMOVE, edit_yaml, file_digest, load_documents, read_documents, read_folder

GOOD = """\
# Voices of the house
apiVersion: segue.dev/v1alpha1
kind: VoiceModel
metadata:
  name: narrator   # reads the news
spec:
  engine: demo
  weights:
    acoustic:
      uri: "v1.npz"   # fine-tuned in May
      # measured twice
      sha256: "0000000000000000000000000000000000000000000000000000000000000000"
  rollout:
    preloadWaves:
      - 1
      - 100%
"""
OTHER = GOOD.replace("narrator", "other")


def write(folder: Path, text: str, name: str = "voices.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def mistakes(path: Path) -> list[tuple[int | None, str | None]]:
    return [(each.line, each.field) for each in read_documents(path).mistakes]


def test_all_documents_of_a_file_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, f"{GOOD}---\n{OTHER}---\n# nothing\n")
    assert [voice.metadata.name for voice in load_documents(path)] == ["narrator", "other"]


def test_a_mistake_names_file_line_and_field(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("- 100%", "- 200%"))
    with pytest.raises(InvalidVoiceModel) as caught:
        load_documents(path)
    assert str(caught.value).startswith(f"{path}:16: spec.rollout.preloadWaves[1]: ")


def test_lines_are_those_of_the_file_also_in_later_documents(tmp_path: Path) -> None:
    path = write(tmp_path, f"{GOOD}---\n{OTHER.replace('engine: demo', 'engine: dmo')}")
    assert mistakes(path) == [(24, "spec.engine")]


def test_a_missing_field_is_reported_at_its_parent(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("  engine: demo\n", ""))
    assert mistakes(path) == [(6, "spec.engine")]


def test_a_bad_document_does_not_hide_its_neighbours(tmp_path: Path) -> None:
    path = write(tmp_path, f"{GOOD.replace('engine', 'enigne')}---\n{OTHER}")
    found = read_documents(path)
    assert [located.voice.key for located in found.voices] == ["default/other"]
    assert {each.field for each in found.mistakes} == {"spec.engine", "spec.enigne"}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (GOOD.replace("  engine", "\tengine"), 7, "tab"),
        (GOOD.replace("  weights:", "  weights: {"), 10, "expected"),
        (GOOD + "  rollout: {}\n", 17, "duplicate key"),
        (GOOD.replace("name: narrator", "? [a]\n  : x"), 1, "keys are text"),
        ("- a\n- b\n", 1, "no VoiceModel but list"),
        (GOOD.replace("kind: VoiceModel\n", ""), 1, "kind: is required"),
        (GOOD.replace("v1alpha1", "v9"), 2, "segue.dev/v1alpha1"),
        (GOOD.replace('uri: "v1.npz"', "uri: 7"), 10, "in quotes"),
    ],
)
def test_what_is_no_voice_is_explained(tmp_path: Path, text: str, line: int, words: str) -> None:
    first = read_documents(write(tmp_path, text)).mistakes[0]
    assert words in str(first)
    assert first.line == line


def test_other_kinds_are_skipped_with_a_note(tmp_path: Path) -> None:
    found = read_documents(write(tmp_path, f"{GOOD}---\napiVersion: v1\nkind: Secret\n"))
    assert found.mistakes == ()
    assert "kind Secret is skipped" in found.notes[0]


def test_a_name_twice_names_both_places(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a.yaml")
    write(tmp_path, GOOD, "b.yaml")
    found = read_folder(tmp_path)
    assert len(found.voices) == 1
    assert f"{tmp_path / 'a.yaml'}:5" in str(found.mistakes[0])
    assert str(found.mistakes[0]).startswith(f"{tmp_path / 'b.yaml'}:5")


def test_bytes_that_are_no_text_are_a_mistake_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in str(read_documents(path).mistakes[0])


def test_an_edit_changes_only_what_it_says(tmp_path: Path) -> None:
    path = write(tmp_path, f"{GOOD}---\n{OTHER}")
    weights = {"acoustic": {"uri": "v2.npz", "sha256": "1" * 64}}
    edit_yaml(path, "default/narrator", {"spec.weights": weights})
    expected = GOOD.replace("v1.npz", "v2.npz").replace("0" * 64, "1" * 64)
    assert path.read_text() == f"{expected}---\n{OTHER}"


def test_an_edit_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    before = path.stat().st_ino
    edit_yaml(path, "default/narrator", {"spec.engine": "demo"})
    assert path.stat().st_ino == before


def test_fields_can_be_added_and_removed(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    annotation = ("metadata", "annotations", "segue.dev/retry")
    edit_yaml(path, "default/narrator", {annotation: "1", "spec.rollout": REMOVE, "spec.options.speed": 1.5})
    voice = load_documents(path)[0]
    assert voice.metadata.annotations == {"segue.dev/retry": "1"}
    assert voice.spec.options == {"speed": 1.5}
    assert "preloadWaves" not in path.read_text()
    assert "# fine-tuned in May" in path.read_text()


def test_an_edit_that_a_person_saved_meanwhile_wins(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    read = file_digest(path)
    path.write_text(GOOD + "# mine\n")
    with pytest.raises(EditConflict, match="changed since it was read"):
        edit_yaml(path, "default/narrator", {"spec.engine": "gpt-sovits"}, expected_digest=read)
    assert path.read_text() == GOOD + "# mine\n"


def test_a_voice_that_is_gone_is_a_conflict(tmp_path: Path) -> None:
    with pytest.raises(EditConflict, match="holds no VoiceModel default/ghost"):
        edit_yaml(write(tmp_path, GOOD), "default/ghost", {"spec.engine": "demo"})


def test_mode_links_and_line_ends_are_kept(tmp_path: Path) -> None:
    target = tmp_path / "real.yaml"
    target.write_bytes(GOOD.replace("\n", "\r\n").encode())
    target.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(target)
    edit_yaml(link, "default/narrator", {"spec.fleet": "gold"})
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert b"fleet: gold\r\n" in target.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.yaml", "real.yaml"]


def test_an_edit_returns_the_digest_of_what_it_wrote(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert edit_yaml(path, "default/narrator", {"spec.fleet": "gold"}) == file_digest(path)
