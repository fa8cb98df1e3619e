"""Which mirrors a base by debootstrap comes from, and what is said where it cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.images.debian import ARCHIVE, PACKAGES, SECURITY, Mirrors, make_root, read_mirrors
from tools.images.errors import NoBase

ONE_LINE = """\
# deb http://commented.example.com/debian bookworm main
deb-src http://sources.example.com/debian bookworm main
deb [arch=amd64 signed-by=/etc/key.gpg] http://other.example.com/debian bullseye main
deb [arch=amd64] http://mirror.example.com/debian/ bookworm main contrib
deb http://mirror.example.com/debian bookworm-updates main
deb http://mirror.example.com/security bookworm-security main
"""
STANZAS = """\
Types: deb-src
URIs: http://sources.example.com/debian
Suites: bookworm

Types: deb
Enabled: no
URIs: http://disabled.example.com/debian
Suites: bookworm

Types: deb deb-src
# a comment
URIs: http://mirror.example.com/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: http://mirror.example.com/security/
Suites: bookworm-security
"""
OURS = Mirrors(archive="http://mirror.example.com/debian", security="http://mirror.example.com/security")


@pytest.mark.parametrize(("name", "text"), [("debian.list", ONE_LINE), ("debian.sources", STANZAS)])
def test_mirrors_are_those_of_apt_in_either_of_its_formats(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_mirrors([tmp_path / "no-such-file", tmp_path]) == OURS


def test_a_file_that_apt_would_not_read_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "debian.list.bak").write_text(ONE_LINE)
    assert read_mirrors([tmp_path]) == Mirrors(archive=ARCHIVE, security=SECURITY)


def test_a_machine_of_another_release_uses_debians_own(tmp_path: Path) -> None:
    file = tmp_path / "sources.list"
    file.write_text("deb http://archive.example.com/ubuntu noble main\n")
    assert read_mirrors([file]) == Mirrors(archive=ARCHIVE, security=SECURITY)


def test_without_debootstrap_it_says_which_package_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoBase, match="apt-get install debootstrap, or name another with --base"):
        make_root(tmp_path / "root.tar", mirrors=OURS, log=tmp_path / "log", say=print)


def test_a_failed_debootstrap_leaves_no_tar_and_shows_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path, 'echo "E: $@"; exit 3')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    expected = rf"debootstrap ended with 3.*include={','.join(PACKAGES)} bookworm .*http://mirror.example.com/debian"
    with pytest.raises(Exception, match=f"(?s){expected}"):
        make_root(tmp_path / "root.tar", mirrors=OURS, log=tmp_path / "log", say=lambda line: None)
    assert not (tmp_path / "root.tar").exists()


def _program(folder: Path, body: str) -> None:
    file = folder / "debootstrap"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
