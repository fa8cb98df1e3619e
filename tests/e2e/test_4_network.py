"""What is really dialled is what the NetworkPolicies allow."""

from __future__ import annotations

import pytest
from tests.support.e2e.flows import Dial, Flows, Peer
from tests.support.e2e.installation import NAMESPACE, Installation

CONTROL_PORT = 8443


def component(peer: Peer | None) -> str:
    return "" if peer is None else peer.labels.get("app.kubernetes.io/component", peer.name)


@pytest.fixture
def watched(flows: Flows | None) -> Flows:
    if flows is None:
        pytest.skip("the network of this cluster is not ours to look into")
    return flows


def test_every_dial_so_far_is_allowed(installed: Installation, watched: Flows) -> None:
    dials = [dial for dial in watched.dials() if in_release(watched, dial)]
    pairs = {(component(watched.peer(dial.source)), component(watched.peer(dial.target)), dial.port) for dial in dials}
    assert ("operator", "fleet", CONTROL_PORT) in pairs, pairs
    assert watched.forbidden(dials, watched.policies()) == []


def in_release(watched: Flows, dial: Dial) -> bool:
    ends = (watched.peer(dial.source), watched.peer(dial.target))
    return any(end is not None and end.namespace == NAMESPACE for end in ends)


def test_no_pod_of_the_fleet_dials_the_api_server(installed: Installation, watched: Flows) -> None:
    """It has no token, and no business there."""
    dialled = {dial.target for dial in watched.dials() if component(watched.peer(dial.source)) == "fleet"}
    api_server = {dial.target for dial in watched.dials() if component(watched.peer(dial.source)) == "operator"}
    outside = {address for address in api_server if watched.peer(address) is None}
    assert outside, "the operator was not seen to dial the API server"
    assert not dialled & outside


def test_a_stranger_may_not_command_a_sidecar_or_read_it(installed: Installation, watched: Flows) -> None:
    """What the policies say of dials that nobody makes."""
    policies, pod = watched.policies(), installed.pods()[0]
    address = pod.body["status"]["podIP"]
    target = watched.peer(address)
    stranger = Peer(name="stranger", namespace="elsewhere", labels={}, namespace_labels={})
    to_control = Dial(source="10.244.9.9", target=address, port=CONTROL_PORT, protocol="TCP")
    to_speech = Dial(source="10.244.9.9", target=address, port=8000, protocol="TCP")
    assert policies.refusal(to_control, source=stranger, target=target)
    assert not policies.refusal(to_speech, source=stranger, target=target)
