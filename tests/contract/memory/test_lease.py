"""The lease test sees every way in which another process can still hold memory."""

from __future__ import annotations

import os
import socket

import pytest
from tests.support.memory import written_memfd
from tests.support.memory_peer import MemoryPeer

from segue.memory import memfd
from segue.memory.lease import leases_supported, still_held

pytestmark = pytest.mark.skipif(not leases_supported(), reason="this kernel cannot lease memfds")


@pytest.fixture
def owned() -> object:
    """Our one `O_RDWR` description of a sealed arena."""
    original = written_memfd()
    fd = memfd.reopen(original, os.O_RDWR)
    os.close(original)
    yield fd
    os.close(fd)


def test_nobody_else_holds_it(owned: int) -> None:
    assert not still_held(owned)
    assert not still_held(owned)


def test_a_descriptor_in_a_peer_holds_it_until_the_peer_is_killed(owned: int) -> None:
    lent = memfd.reopen(owned, os.O_RDONLY)
    with MemoryPeer(fds=[lent]) as peer:
        os.close(lent)
        assert still_held(owned)
        peer.kill()
        assert not still_held(owned)


def test_a_mapping_without_a_descriptor_holds_it_until_unmapped(owned: int) -> None:
    lent = memfd.reopen(owned, os.O_RDONLY)
    with MemoryPeer(fds=[lent]) as peer:
        os.close(lent)
        assert peer.ask("map", fd=lent) == "mapped"
        assert peer.ask("close", fd=lent) == "closed"
        assert still_held(owned)
        assert peer.ask("unmap") == "unmapped"
        assert not still_held(owned)


def test_a_message_in_flight_holds_it_until_its_socket_is_closed(owned: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lent = memfd.reopen(owned, os.O_RDONLY)
    socket.send_fds(ours, [b"offer"], [lent])
    os.close(lent)
    assert still_held(owned)
    theirs.close()
    ours.close()
    assert not still_held(owned)


def test_our_own_mapping_of_the_same_description_does_not_count(owned: int) -> None:
    copy = os.dup(owned)
    assert not still_held(owned)
    os.close(copy)
