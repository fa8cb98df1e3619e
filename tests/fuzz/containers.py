"""Looks for weight files that break a reader: `python -m tests.fuzz.containers --seconds 600`.

With atheris (Linux on x86-64) the search is guided by which lines of the readers an input reaches; elsewhere hypothesis
draws inputs until time is up. An input that breaks a rule is kept in `build/fuzz`; `--replay FILE` checks it again.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Final

FINDINGS: Final = Path("build/fuzz")
HANG_S: Final = 60
TRACED_EACH: Final = 16
LARGEST_INPUT_BYTES: Final = 4096
RSS_LIMIT_MB: Final = 2048
INSTRUMENTED: Final = ("segue.containers", "segue_engines.gpt_sovits.formats")


def main() -> int:
    """Run the search in a child process, which a broken rule ends, and say what came of it."""
    options = _options()
    if options.replay is not None:
        return _replay(options.replay)
    if options.child is not None:
        return _search(options.child, seconds=options.seconds)
    FINDINGS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="segue-fuzz-") as folder:
        command = [sys.executable, "-m", "tests.fuzz.containers", "--seconds", str(options.seconds), "--child", folder]
        begun = time.monotonic()
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
        took_s = time.monotonic() - begun
    count = re.search(r"number_of_executed_units: *(\d+)", done.stderr)
    if done.returncode or count is None:
        print(done.stderr[-6000:], file=sys.stderr)
        print(f"a rule was broken after {took_s:.0f} s; the input is in {FINDINGS}", file=sys.stderr)
        return 1
    print(f"{count[1]} inputs in {took_s:.0f} s: no crash, no hang, no memory over the bound, nothing run")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.containers", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--replay", type=Path, metavar="FILE", help="an input that was found before")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _search(folder: Path, *, seconds: int) -> int:
    if find_spec("atheris") is None:
        return _draw(folder, seconds=seconds)
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED), enable_loader_override=False):
        from tests.fuzz.inputs import Files
        from tests.fuzz.rules import check, limit_memory

    files = Files(folder)
    corpus = _corpus(folder / "corpus", files.ways)
    arguments = [
        "containers",
        str(corpus),
        f"-max_total_time={seconds}",
        f"-max_len={LARGEST_INPUT_BYTES}",
        f"-timeout={HANG_S}",
        f"-rss_limit_mb={RSS_LIMIT_MB}",
        f"-artifact_prefix={FINDINGS.absolute()}/",
        "-print_final_stats=1",
    ]

    def look(data: bytes) -> None:
        check(files.of(data), measured=zlib.crc32(data) % TRACED_EACH == 0)

    atheris.Setup(arguments, look)
    limit_memory()
    atheris.Fuzz()
    return 0


def _corpus(folder: Path, ways: int) -> Path:
    """Inputs to begin with: right files, each gadget, and a few edits."""
    from tests.unit.containers.test_torch_file import GADGETS

    folder.mkdir()
    begun = [bytes([way, marker]) for way in range(ways) for marker in (0, 2, 7)]
    begun += [
        bytes([way, 0, place, 1, 0, 0, 4]) + b"\xff\0\xff\0" for way in range(ways) for place in range(0, 256, 16)
    ]
    begun += [b"\1\0" + body[: LARGEST_INPUT_BYTES - 2] for body in GADGETS.values()]
    for number, data in enumerate(begun):
        (folder / f"seed{number}").write_bytes(data)
    return folder


def _draw(folder: Path, *, seconds: int) -> int:
    """The search without atheris."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
    from tests.fuzz.inputs import Files
    from tests.fuzz.rules import check

    files, until, count = Files(folder), time.monotonic() + seconds, 0

    @settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(min_size=2, max_size=LARGEST_INPUT_BYTES))
    def look(data: bytes) -> None:
        nonlocal count
        count += 1
        try:
            check(files.of(data))
        except Exception:
            (FINDINGS / "found").write_bytes(data)
            raise

    while time.monotonic() < until:
        look()
    print(f"number_of_executed_units: {count}", file=sys.stderr)
    return 0


def _replay(file: Path) -> int:
    from tests.fuzz.inputs import Files
    from tests.fuzz.rules import check

    with tempfile.TemporaryDirectory(prefix="segue-fuzz-") as folder:
        print("accepted" if check(Files(Path(folder)).of(file.read_bytes())) else "refused")
    return 0


if __name__ == "__main__":
    sys.exit(main())
