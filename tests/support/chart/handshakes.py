"""Certificates out of Secrets, and the handshake that operator and sidecar make with them."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

from tests.support.chart.rendering import Body

from segue.tls import KeyPairFiles


def unpacked(secret: Body, folder: Path) -> KeyPairFiles:
    """As a kubelet mounts it."""
    folder.mkdir()
    for name, content in secret["data"].items():
        (folder / name).write_bytes(base64.b64decode(content))
    return KeyPairFiles.of(folder)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """TLS between two ends in memory, both ways to the end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="10.0.0.1"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert not ends, "the handshake did not end"
