"""Certificates: the exact name on both sides, the right usage, rotation without a restart."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import httpx
import pytest

from segue.tls import (
    OPERATOR_NAME,
    Authority,
    CertificateError,
    KeyPairFiles,
    client_context,
    server_context,
    sidecar_name,
)

SIDECAR = sidecar_name(fleet="default", namespace="voices")


def pairs(directory: Path) -> tuple[Authority, KeyPairFiles, KeyPairFiles]:
    authority = Authority.create(directory / "ca")
    sidecar = authority.issue(SIDECAR, server=True, directory=directory / "sidecar")
    operator = authority.issue(OPERATOR_NAME, server=False, directory=directory / "operator")
    return authority, sidecar, operator


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()


async def exchange(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    """One request over TLS by address, as operators dial pods."""
    listener = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server)
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    port = listener.sockets[0].getsockname()[1]
    async with listener, httpx.AsyncClient(verify=client) as http:
        return (await http.get(f"https://127.0.0.1:{port}/")).text


def test_a_pair_of_the_same_authority_talks(tmp_path: Path) -> None:
    _, sidecar, operator = pairs(tmp_path)
    text = asyncio.run(
        exchange(
            server_context(sidecar, client_name=OPERATOR_NAME),
            client_context(operator, server_name=SIDECAR),
        )
    )
    assert text == "ok"


def test_a_client_of_another_name_is_refused(tmp_path: Path) -> None:
    authority, sidecar, _ = pairs(tmp_path)
    other = authority.issue("someone.segue.dev", server=False, directory=tmp_path / "other")
    with pytest.raises(httpx.TransportError):
        asyncio.run(
            exchange(server_context(sidecar, client_name=OPERATOR_NAME), client_context(other, server_name=SIDECAR))
        )


def test_a_server_certificate_cannot_dial(tmp_path: Path) -> None:
    authority, sidecar, _ = pairs(tmp_path)
    wrong_use = authority.issue(OPERATOR_NAME, server=True, directory=tmp_path / "wrong")
    with pytest.raises(httpx.TransportError):
        asyncio.run(
            exchange(server_context(sidecar, client_name=OPERATOR_NAME), client_context(wrong_use, server_name=SIDECAR))
        )


def test_a_sidecar_of_another_fleet_is_refused(tmp_path: Path) -> None:
    _, sidecar, operator = pairs(tmp_path)
    with pytest.raises(httpx.ConnectError, match=r"not gpu\.voices\.sidecar\.segue\.dev"):
        asyncio.run(
            exchange(
                server_context(sidecar, client_name=OPERATOR_NAME),
                client_context(operator, server_name=sidecar_name(fleet="gpu", namespace="voices")),
            )
        )


def test_another_authority_is_refused(tmp_path: Path) -> None:
    _, sidecar, _ = pairs(tmp_path / "a")
    _, _, operator = pairs(tmp_path / "b")
    with pytest.raises(httpx.TransportError):
        asyncio.run(
            exchange(server_context(sidecar, client_name=OPERATOR_NAME), client_context(operator, server_name=SIDECAR))
        )


def test_rotation_to_a_new_authority_needs_no_new_context(tmp_path: Path) -> None:
    _, sidecar, operator = pairs(tmp_path)
    server = server_context(sidecar, client_name=OPERATOR_NAME)
    client = client_context(operator, server_name=SIDECAR)
    assert asyncio.run(exchange(server, client)) == "ok"

    old_client = client_context(
        Authority.load(tmp_path / "ca").issue(OPERATOR_NAME, server=False, directory=tmp_path / "old"),
        server_name=SIDECAR,
    )
    pairs(tmp_path)

    assert asyncio.run(exchange(server, client)) == "ok"
    with pytest.raises(httpx.TransportError):
        asyncio.run(exchange(server, old_client))


def test_a_half_written_pair_keeps_the_previous_one(tmp_path: Path) -> None:
    authority, sidecar, operator = pairs(tmp_path)
    server = server_context(sidecar, client_name=OPERATOR_NAME)
    client = client_context(operator, server_name=SIDECAR)
    whole = sidecar.key.read_bytes()
    sidecar.key.write_bytes(whole[:20])
    assert asyncio.run(exchange(server, client)) == "ok"
    authority.issue(SIDECAR, server=True, directory=tmp_path / "sidecar")
    assert asyncio.run(exchange(server, client)) == "ok"


def test_private_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    _, sidecar, _ = pairs(tmp_path)
    assert sidecar.key.stat().st_mode & 0o077 == 0
    assert (tmp_path / "ca" / "ca.key").stat().st_mode & 0o077 == 0


def test_a_missing_authority_is_named(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="cannot be read"):
        Authority.load(tmp_path)
    with pytest.raises(CertificateError, match="missing"):
        server_context(KeyPairFiles.of(tmp_path), client_name=OPERATOR_NAME)
