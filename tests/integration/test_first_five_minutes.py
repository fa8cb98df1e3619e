"""The README's first five minutes, typed as they stand there.

The commands are read out of the README, so that it cannot promise what does not work. Only the long `segue demo` has a
test of its own (`make demo` in CI runs it in full).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

REPOSITORY = Path(__file__).resolve().parents[2]
MIB = 1 << 20
INSTALL_LIMIT_BYTES = 150 * MIB
SAY_LIMIT_S = 3.0

pytestmark = [pytest.mark.process, pytest.mark.timeout(420)]


def readme_commands() -> list[str]:
    """The lines behind `$` in the section "The first five minutes", in order."""
    text = (REPOSITORY / "README.md").read_text()
    section = text.split("## The first five minutes", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\$ (.+)$", section, flags=re.MULTILINE)


def installed_bytes(site_packages: Path) -> int:
    """Bytes of everything that was installed, less what a fresh environment holds (pip and setuptools)."""
    own = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence")
    files = (file for file in site_packages.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files if not file.relative_to(site_packages).parts[0].startswith(own))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A clean copy of the checkout and an environment with nothing but what `pip install .` brought."""
    root = tmp_path_factory.mktemp("newcomer")
    checkout = root / "segue"
    ignored = shutil.ignore_patterns(".git", "build", "dist", ".*_cache", "__pycache__", ".hypothesis")
    shutil.copytree(REPOSITORY, checkout, ignore=ignored)
    subprocess.run([sys.executable, "-m", "venv", root / "venv"], check=True, timeout=120)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("SEGUE_", "PYTHON", "VIRTUAL_ENV"))},
        "PATH": f"{root / 'venv' / 'bin'}:{os.environ['PATH']}",
        "XDG_STATE_HOME": str(root / "state"),
    }
    subprocess.run(["pip", "install", "-q", "."], cwd=checkout, env=environment, check=True, timeout=300)
    yield checkout, environment
    shutil.rmtree(root, ignore_errors=True)


def test_the_section_shows_the_commands_that_are_tested_here() -> None:
    commands = readme_commands()
    assert commands[0] == "pip install ."
    assert commands[1].startswith("segue say")
    assert any(command.startswith("segue demo") for command in commands)
    assert any(command.startswith("segue up") for command in commands)
    assert any(command.startswith("curl") for command in commands)


def test_the_plain_install_is_small_and_holds_no_torch(fresh: tuple[Path, dict[str, str]]) -> None:
    site_packages = next((fresh[0].parent / "venv" / "lib").glob("python3.*")) / "site-packages"
    assert not (site_packages / "torch").exists()
    size_bytes = installed_bytes(site_packages)
    assert size_bytes < INSTALL_LIMIT_BYTES, f"{size_bytes / MIB:.0f} MiB"


def test_say_speaks_without_a_server_in_under_three_seconds(fresh: tuple[Path, dict[str, str]]) -> None:
    checkout, environment = fresh
    command = next(line for line in readme_commands() if line.startswith("segue say"))
    subprocess.run(command, shell=True, cwd=checkout, env=environment, check=True, timeout=60)
    started = time.monotonic()
    subprocess.run(command, shell=True, cwd=checkout, env=environment, check=True, timeout=60)
    assert time.monotonic() - started < SAY_LIMIT_S
    audio, rate = soundfile.read(checkout / "hello.wav")
    assert 0.3 < len(audio) / rate < 3
    assert abs(audio).max() > 0.05


def the_console_is_in_the_package(printed: str) -> None:
    """The page and what it names, from what `pip install .` brought."""
    address = re.search(r"console: +(http://\S+)", printed)
    assert address is not None, printed
    for name in ("", "console.js", "console.css", "strings.zh.json", "icon.svg"):
        with urllib.request.urlopen(address[1] + name, timeout=10) as response:
            assert response.status == 200
            assert response.read()


def test_up_prints_an_address_and_a_curl_line_that_works(fresh: tuple[Path, dict[str, str]]) -> None:
    checkout, environment = fresh
    command = next(line for line in readme_commands() if line.startswith("segue up"))
    with subprocess.Popen(
        command.split(), cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as up:
        assert up.stdout is not None
        printed: list[str] = []
        try:
            for line in up.stdout:
                printed.append(line)
                if "curl" in line:
                    break
            curl = "".join(printed)["".join(printed).index("curl") :].strip()
            assert "http://127.0.0.1:" in curl, printed
            done = subprocess.run(curl, shell=True, cwd=checkout, env=environment, check=True, timeout=60)
            assert done.returncode == 0
            the_console_is_in_the_package("".join(printed))
        finally:
            up.send_signal(signal.SIGINT)
            rest = up.stdout.read()
        assert up.wait(timeout=40) == 0, "".join(printed) + rest
    output = re.search(r"-o (\S+)", curl)
    assert output is not None
    audio, rate = soundfile.read(checkout / output[1])
    assert len(audio) / rate > 0.3
    assert abs(audio).max() > 0.05
