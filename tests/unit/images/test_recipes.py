"""What an image depends on, and so when it is built anew."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tools.images.bases import Base
from tools.images.building import Torch, Wish
from tools.images.recipes import ENGINES, IMAGES, ROOT, Recipe, Revision

DOCKERFILE = """\
ARG BASE=python
FROM ${BASE} AS build
COPY requirements/server.txt /build/image.txt
COPY LICENSE NOTICE ./
COPY server/segue_server server/segue_server
FROM ${BASE}
COPY --from=build /opt/segue /opt/segue
"""
FILES = {
    "server/Dockerfile": DOCKERFILE,
    ".dockerignore": "*",
    "requirements/server.txt": "numpy==2",
    "LICENSE": "Apache",
    "NOTICE": "",
    "server/segue_server/__main__.py": "print()",
    "README.md": "not copied",
}


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Recipe(name="server", root=tmp_path)


def test_inputs_are_the_dockerfile_and_what_it_copies(recipe: Recipe) -> None:
    assert {str(path) for path in recipe.inputs} == {*FILES, "server/segue_server"} - {
        "README.md",
        "server/segue_server/__main__.py",
    }


@pytest.mark.parametrize("changed", sorted(FILES.keys() - {"README.md"}))
def test_a_change_of_any_input_is_another_image(recipe: Recipe, changed: str) -> None:
    before = recipe.digest()
    (recipe.root / changed).write_text(FILES[changed] + "\n# changed")
    assert recipe.digest() != before


def test_what_is_not_copied_does_not_count(recipe: Recipe) -> None:
    before = recipe.digest()
    (recipe.root / "README.md").write_text("rewritten")
    (recipe.root / "server/segue_server/__pycache__").mkdir()
    (recipe.root / "server/segue_server/__pycache__/x.pyc").write_bytes(b"1")
    os.utime(recipe.root / "LICENSE", (1, 1))
    assert recipe.digest() == before


def test_a_new_name_and_a_new_mode_count(recipe: Recipe) -> None:
    before = recipe.digest()
    file = recipe.root / "server/segue_server/__main__.py"
    file.chmod(0o755)
    executable = recipe.digest()
    file.rename(file.with_name("main.py"))
    assert len({before, executable, recipe.digest()}) == 3


def test_the_key_of_the_cache_follows_from_all_that_is_wished(recipe: Recipe) -> None:
    first = _wish(recipe)
    others = [
        _wish(recipe, base=Base(name="base", identity="sha256:newer")),
        _wish(recipe, base=Base(name="other", identity="sha256:base")),
        _wish(recipe, revision=Revision(name="def", time=1)),
        _wish(recipe, revision=Revision(name="abc", time=2)),
        _wish(recipe, tag="0.2.0"),
        _wish(recipe, source="https://example.com/segue"),
        _wish(recipe, engine="podman"),
    ]
    assert len({wish.key for wish in (first, *others)}) == 1 + len(others)
    assert _wish(recipe).key == first.key


def test_the_name_is_the_charts_in_full(recipe: Recipe) -> None:
    wish = _wish(recipe, tag="0.2.0")
    assert (wish.reference, wish.name) == ("segue/server:0.2.0", "docker.io/segue/server:0.2.0")


def test_an_image_with_an_engine_has_a_tag_of_its_own_and_says_so_to_the_build(recipe: Recipe) -> None:
    plain = _wish(recipe)
    engine = _wish(replace(recipe, engines="gpt-sovits"), tag="0.2.0")
    torch = Torch(line="torch==1+cpu --hash=sha256:0", index="https://example.com/cpu")
    other = _wish(replace(recipe, engines="gpt-sovits"), tag="0.2.0", torch=torch)
    assert (engine.reference, engine.recipe.label) == ("segue/server:0.2.0-gpt-sovits", "server-gpt-sovits")
    assert engine.arguments["ENGINES"] == "gpt-sovits"
    assert (other.arguments["TORCH"], other.arguments["TORCH_INDEX"]) == (torch.line, torch.index)
    assert len({plain.key, engine.key, other.key}) == 3
    assert not plain.arguments.keys() & {"ENGINES", "TORCH", "TORCH_INDEX"}


@pytest.mark.parametrize(("engine", "name"), [(engine, name) for engine, names in ENGINES.items() for name in names])
def test_the_dockerfile_takes_the_arguments_and_the_lock_file_of_each_engine(engine: str, name: str) -> None:
    text = Recipe(name=name).dockerfile.read_text()
    for argument in ("ENGINES", "TORCH", "TORCH_INDEX"):
        assert f'ARG {argument}=""' in text
    assert f"requirements/{name}-{engine}.txt" in {str(path) for path in Recipe(name=name).inputs}


def test_the_revision_is_the_last_commit_that_changed_an_input(recipe: Recipe) -> None:
    _git(recipe.root, "init", "-q")
    first = _commit(recipe.root, "first", at=1_000_000_000)
    (recipe.root / "README.md").write_text("rewritten")
    _commit(recipe.root, "second", at=1_000_000_060)
    assert Revision.of(recipe) == Revision(name=first, time=1_000_000_000)
    (recipe.root / "LICENSE").write_text("changed, not committed")
    assert Revision.of(recipe).name == f"{first}-dirty"


def test_outside_a_checkout_the_revision_is_unknown(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(recipe.root.parent))
    assert Revision.of(recipe) == Revision(name="unknown", time=0)


@pytest.mark.parametrize("name", IMAGES)
def test_every_input_of_the_real_recipes_is_there_and_reaches_the_build(name: str) -> None:
    """What the Dockerfile copies must be let through by .dockerignore, or docker does not find it."""
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for path in Recipe(name=name).inputs:
        assert (ROOT / path).exists()
        if path.name not in ("Dockerfile", ".dockerignore"):
            assert any(path.match(pattern) for pattern in let_in), path


def _wish(recipe: Recipe, **changed: object) -> Wish:
    given: dict[str, object] = {
        "recipe": recipe,
        "revision": Revision(name="abc", time=1),
        "base": Base(name="base", identity="sha256:base"),
        "tag": "0.1.0",
        "source": "",
        "engine": "buildah",
    }
    return Wish(**{**given, **changed})  # type: ignore[arg-type]  # by name


def _git(root: Path, *words: str, at: int = 0) -> str:
    who = {f"GIT_{role}_{field}": "t@example.com" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
    when = {f"GIT_{role}_DATE": f"@{at} +0000" for role in ("AUTHOR", "COMMITTER")}
    environment = {**os.environ, **who, **when, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    done = subprocess.run(["git", *words], cwd=root, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _commit(root: Path, message: str, *, at: int) -> str:
    _git(root, "add", "-A")
    _git(root, "commit", "-qm", message, at=at)
    return _git(root, "rev-parse", "HEAD")
