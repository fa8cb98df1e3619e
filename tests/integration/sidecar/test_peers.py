"""Peers that send half a request, too much of one, or nothing that is a request."""

from __future__ import annotations

import asyncio
import ssl
import time

import pytest
from tests.support.sidecar import POD, World, running, state_of

from segue.tls import client_context, sidecar_name

pytestmark = pytest.mark.process


async def spoken(world: World, request: bytes, *, hold: bool = False) -> bytes:
    """What the control port answers to these bytes before it closes; with `hold` we never end ours."""
    host, port = world.ready["control"].removeprefix("https://").split(":")
    tls = client_context(world.operator, server_name=sidecar_name(fleet="default", namespace="default"))
    reader, writer = await asyncio.open_connection(host, int(port), ssl=tls)
    try:
        writer.write(request)
        await writer.drain()
        if not hold:
            return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) + await reader.read(300)
        return await asyncio.wait_for(reader.read(), 10)
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError) as error:
        return getattr(error, "partial", b"")
    finally:
        writer.close()


def head(method: str, path: str, *more: str) -> bytes:
    """Of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Segue-Pod: {POD}", "Segue-Fence: 9.9", "Segue-Voice-Uid: u"]
    return "\r\n".join([*lines, *more, "", ""]).encode()


def test_half_requests_are_given_up_and_hold_nobody_up() -> None:
    async def story() -> None:
        async with running(workers=0, deadlines={"requestS": 0.5}) as (world, client):
            began_s = time.monotonic()
            answers = await asyncio.gather(
                spoken(world, b"GET /v1/state HT", hold=True),
                spoken(world, head("PUT", "/v1/voices/a/b/pointer", "Content-Length: 50") + b'{"act', hold=True),
                spoken(world, b"", hold=True),
            )
            assert not any(answers)
            assert time.monotonic() - began_s < 5
            assert (await state_of(client)).pod.uid == POD

    asyncio.run(story())


def test_what_is_too_large_or_no_http_is_refused() -> None:
    async def story() -> None:
        async with running(workers=0) as (world, client):
            announced = head("PUT", "/v1/voices/a/b/pointer", "Content-Length: 9000000")
            assert b"413" in await spoken(world, announced)
            streamed = head("PUT", f"/v1/voices/a/b/revisions/{'ab' * 32}", "Transfer-Encoding: chunked")
            chunk = b"20000\r\n" + b"x" * 0x20000 + b"\r\n"
            assert b"413" in await spoken(world, streamed + chunk * 9 + b"0\r\n\r\n")
            assert await spoken(world, head("GET", "/v1/state", "X-Large: " + "x" * 70_000), hold=True) == b""
            assert b"400" in await spoken(world, b"\x16\x03\x01 what\r\n\r\n")
            assert b"404" in await spoken(world, head("GET", "/nothing"))
            refused = await spoken(world, head("PATCH", f"/v1/voices/a/b/revisions/{'ab' * 32}"))
            assert b"405" in refused
            assert b"DELETE, PUT" in refused
            assert (await state_of(client)).pod.uid == POD

    asyncio.run(story())
