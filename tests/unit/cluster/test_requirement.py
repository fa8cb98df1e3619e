"""A machine without a control plane or without helm skips, unless it was told that it must not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDER = "tests/integration/kubernetes"
TESTS = {
    "etcd": f"{FOLDER}/test_crd.py::test_the_crd_is_established_and_structural",
    "helm": f"{FOLDER}/chart/test_rendering.py::test_lint_has_nothing_to_say[default]",
}


@pytest.mark.parametrize("program", list(TESTS))
@pytest.mark.parametrize(
    ("required", "code", "outcome"), [("aac", 0, "1 skipped"), ("aac,cluster", 1, "1 error")], ids=["free", "required"]
)
def test_without_programs(tmp_path: Path, program: str, required: str, code: int, outcome: str) -> None:
    environment = {
        "PATH": str(tmp_path),
        "HOME": str(tmp_path),
        "SEGUE_CACHE": str(tmp_path),
        "SEGUE_REQUIRE": required,
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    pytest_arguments = ["-q", "-p", "no:cacheprovider", TESTS[program]]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *pytest_arguments],
        cwd=ROOT,
        env=environment | {"LANG": os.environ.get("LANG", "C.UTF-8")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert outcome in done.stdout
    assert f"no {program}: not in $KUBEBUILDER_ASSETS, PATH" in done.stdout
