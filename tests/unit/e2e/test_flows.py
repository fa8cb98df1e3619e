"""What a NetworkPolicy allows, and what a line of the node's connection tracking says."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.e2e.flows import Dial, Peer, Policies, matches, parse_event

TO_SERVICE = (
    "    [NEW] tcp      6 120 SYN_SENT src=10.244.0.7 dst=10.96.0.1 sport=40412 dport=443 [UNREPLIED] "
    "src=10.200.0.2 dst=10.244.0.7 sport=6443 dport=40412"
)
TO_POD = (
    "    [NEW] udp      17 30 src=10.244.0.7 dst=10.244.0.9 sport=1 dport=53 [UNREPLIED] "
    "src=10.244.0.9 dst=10.244.0.7 sport=53 dport=1"
)


def peer(name: str, *, namespace: str = "voices", **labels: str) -> Peer:
    metadata = {"kubernetes.io/metadata.name": namespace}
    return Peer(name=name, namespace=namespace, labels={"app": name, **labels}, namespace_labels=metadata)


def policy(*, app: str, namespace: str = "voices", **directions: list[Any]) -> dict[str, Any]:
    """One that selects the pods of an app; `ingress` and `egress` are its rules."""
    spec: dict[str, Any] = {"podSelector": {"matchLabels": {"app": app}}, **directions}
    return {
        "metadata": {"namespace": namespace},
        "spec": {**spec, "policyTypes": [direction.capitalize() for direction in directions]},
    }


def dial(port: int = 8443, *, source: str = "10.244.0.7", target: str = "10.244.0.9", protocol: str = "TCP") -> Dial:
    return Dial(source=source, target=target, port=port, protocol=protocol)


OPERATOR, FLEET, STRANGER = peer("operator"), peer("fleet"), peer("stranger", namespace="elsewhere")
FROM_OPERATOR = {"from": [{"podSelector": {"matchLabels": {"app": "operator"}}}], "ports": [{"port": 8443}]}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (TO_SERVICE, dial(6443, target="10.200.0.2")),
        (TO_POD, dial(53, protocol="UDP")),
        ("    [NEW] icmp     1 30 src=10.244.0.7 dst=10.244.0.9 type=8 code=0 id=1", None),
        ("", None),
        ("half a line tcp src=10.244.0.7", None),
    ],
)
def test_a_service_is_dialled_where_it_leads(line: str, expected: Dial | None) -> None:
    assert parse_event(line) == expected


def test_a_pod_that_no_policy_selects_is_free() -> None:
    assert not Policies().refusal(dial(), source=STRANGER, target=FLEET)
    other = Policies([policy(app="fleet", namespace="elsewhere", ingress=[])])
    assert not other.refusal(dial(), source=STRANGER, target=FLEET)


def test_a_policy_lets_in_whom_it_names() -> None:
    policies = Policies([policy(app="fleet", ingress=[FROM_OPERATOR])])
    assert not policies.refusal(dial(), source=OPERATOR, target=FLEET)
    assert policies.refusal(dial(), source=STRANGER, target=FLEET)
    assert policies.refusal(dial(8081), source=OPERATOR, target=FLEET), "another port"
    assert policies.refusal(dial(protocol="UDP"), source=OPERATOR, target=FLEET), "another protocol"


def test_a_pod_selector_means_pods_of_the_policys_own_namespace() -> None:
    policies = Policies([policy(app="fleet", ingress=[FROM_OPERATOR])])
    assert policies.refusal(dial(), source=peer("operator", namespace="elsewhere"), target=FLEET)


def test_both_ends_must_agree() -> None:
    policies = Policies([policy(app="fleet", ingress=[FROM_OPERATOR]), policy(app="operator", egress=[])])
    assert policies.refusal(dial(), source=OPERATOR, target=FLEET)


def test_policies_add_up() -> None:
    everybody = policy(app="fleet", ingress=[{"from": [{"namespaceSelector": {}}]}])
    policies = Policies([policy(app="fleet", ingress=[FROM_OPERATOR]), everybody])
    assert not policies.refusal(dial(8000), source=STRANGER, target=FLEET)


def test_a_block_has_exceptions() -> None:
    anywhere = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}
    policies = Policies([policy(app="fleet", egress=[{"to": [anywhere]}])])
    assert not policies.refusal(dial(443, target="192.0.2.1"), source=FLEET, target=None)
    assert policies.refusal(dial(80, target="169.254.169.254"), source=FLEET, target=None)


def test_what_comes_from_the_node_itself_is_let_in() -> None:
    policies = Policies([policy(app="fleet", ingress=[])])
    assert not policies.refusal(dial(source="10.200.0.2"), source=None, target=FLEET)
    assert policies.refusal(dial(source="192.0.2.1"), source=None, target=FLEET)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({}, True),
        ({"matchLabels": {"app": "fleet"}}, True),
        ({"matchLabels": {"app": "fleet", "tier": "gold"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["fleet"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["fleet"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, False),
    ],
)
def test_selectors(selector: dict[str, Any], expected: bool) -> None:
    assert matches(selector, FLEET.labels) is expected
