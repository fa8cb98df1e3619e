"""The control API against its own OpenAPI document: schemathesis, over mutual TLS, on a voice that is there."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from tests.support.sidecar import POD, UID, flip, load, running, state_of

pytestmark = pytest.mark.process

_NOT_OURS = "negative_data_rejection,unsupported_method"
"""The first calls an unknown header a violation of the schema; the second sends TRACE, which no ASGI server routes."""


def test_every_answer_is_documented_and_none_is_a_server_error() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            config = world.directory / "schemathesis.toml"
            config.write_text(f'[parameters]\nnamespace = "default"\nname = "narrator"\nrevision = "{first}"\n')
            pair = world.directory / "operator"
            command = [
                sys.executable, "-m", "schemathesis.cli", "--config-file", str(config),
                "run", f"{world.ready['control']}/openapi.json",
                "--tls-verify", "false",
                "--request-cert", str(pair / "tls.crt"), "--request-cert-key", str(pair / "tls.key"),
                "-H", f"Segue-Pod: {POD}", "-H", "Segue-Fence: 5.5", "-H", f"Segue-Voice-Uid: {UID}",
                "--max-examples", "15", "--phases", "coverage,fuzzing", "--exclude-checks", _NOT_OURS, "--seed", "1",
                "--no-color",
            ]  # fmt: skip
            process = await asyncio.create_subprocess_exec(
                *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=world.directory
            )
            output, _ = await process.communicate()
            assert process.returncode == 0, output.decode()
            assert "Tested: 10" in output.decode()
            assert (await state_of(client)).pod.uid == POD

    asyncio.run(story())
