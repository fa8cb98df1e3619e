"""Who dialled whom, as the node's connection tracking saw it, and whether NetworkPolicies allow that.

Separate from the tests because a policy must be judged by what is really dialled, over everything that the suite does.
The plug-ins of the test node enforce no policy, so a dial that one forbids is seen here and not refused there.

Source: the semantics of `networking.k8s.io/v1 NetworkPolicy` (API reference): policies add up, a pod that none selects
for a direction is not isolated in it, and what comes from a pod's own node is always let in.
"""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.support.node.network import ADDRESS, GATEWAY
from tests.support.node.packages import program
from tests.support.pods.kube import Kube, Unavailable

LOOK_S = 0.5
_POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
_EVENT = re.compile(r"\b(tcp|udp)\b.*")
_FIELD = re.compile(r"\b(src|dst|sport|dport)=(\S+)")


@dataclass(frozen=True, slots=True, order=True)
class Dial:
    """One kind of connection that was begun: from an address, to an address and port (after any Service)."""

    source: str
    target: str
    port: int
    protocol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A pod, as policies see it."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    namespace_labels: Mapping[str, str]


class Flows:
    """Watches from `begin` to `end`."""

    def __init__(self, kube: Kube, file: Path) -> None:
        self._kube = kube
        self._file = file
        self._process: subprocess.Popen[bytes] | None = None
        self._peers: dict[str, Peer] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow_pods, name="pods by address", daemon=True)

    def begin(self) -> None:
        """Record every new connection from now on."""
        with self._file.open("wb") as log:
            self._process = subprocess.Popen(
                [program("conntrack"), "-E", "-e", "NEW", "-b", "8388608"], stdout=log, stderr=subprocess.DEVNULL
            )
        self._thread.start()

    def end(self) -> None:
        """No more."""
        self._over.set()
        self._thread.join(10)
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def _follow_pods(self) -> None:
        while not self._over.wait(LOOK_S):
            with suppress(httpx.TransportError, Unavailable):
                self._look()

    def _look(self) -> None:
        """Remember which pod has which address; the node gives none out a second time so soon."""
        listed = self._kube.list("/api/v1/namespaces")
        namespaces = {each["metadata"]["name"]: each["metadata"].get("labels", {}) for each in listed}
        for body in self._kube.list("/api/v1/pods"):
            address, metadata = body["status"].get("podIP"), body["metadata"]
            if address and not body["spec"].get("hostNetwork"):
                self._peers[address] = Peer(
                    name=metadata["name"],
                    namespace=metadata["namespace"],
                    labels=metadata.get("labels", {}),
                    namespace_labels=namespaces.get(metadata["namespace"], {}),
                )

    def peer(self, address: str) -> Peer | None:
        """The pod that has (had) an address."""
        return self._peers.get(address)

    def dials(self) -> list[Dial]:
        """Every kind of connection from or to a pod so far."""
        with self._file.open(encoding="ascii", errors="replace") as lines:
            found = {dial for line in lines if (dial := parse_event(line)) is not None}
        return sorted(dial for dial in found if dial.source in self._peers or dial.target in self._peers)

    def policies(self) -> Policies:
        """Those that the cluster has now."""
        return Policies(self._kube.list(_POLICIES))

    def forbidden(self, dials: Iterable[Dial], policies: Policies) -> list[str]:
        """Those that a cluster which enforces these policies would not have let through."""
        refusals = []
        for dial in dials:
            source, target = self.peer(dial.source), self.peer(dial.target)
            why = policies.refusal(dial, source=source, target=target)
            if why:
                refusals.append(f"{_told(source, dial.source)} -> {_told(target, dial.target)}:{dial.port}: {why}")
        return sorted(set(refusals))


def parse_event(line: str) -> Dial | None:
    """One line of `conntrack -E`.

    The second tuple is how answers come back: its source is where the connection went, whatever Service was named.
    """
    kind = _EVENT.search(line)
    if kind is None:
        return None
    fields = _FIELD.findall(kind[0])
    if len(fields) != 8:
        return None
    asked, answered = dict(fields[:4]), dict(fields[4:])
    return Dial(source=asked["src"], target=answered["src"], port=int(answered["sport"]), protocol=kind[1].upper())


@dataclass(frozen=True, slots=True)
class Policies:
    """NetworkPolicies, and what they say of a dial."""

    bodies: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def refusal(self, dial: Dial, *, source: Peer | None, target: Peer | None) -> str:
        """Why a dial is not allowed; empty: it is. None for a peer: it is no pod."""
        if source is not None and not self._allowed("Egress", source, target, dial.target, dial):
            return f"no policy lets {source.name} dial this"
        is_isolated = target is not None and not _is_own_node(dial.source)
        if is_isolated and target is not None and not self._allowed("Ingress", target, source, dial.source, dial):
            return f"no policy lets this into {target.name}"
        return ""

    def _allowed(self, direction: str, pod: Peer, other: Peer | None, address: str, dial: Dial) -> bool:
        selecting = [body for body in self.bodies if _selects(body, pod, direction)]
        if not selecting:
            return True
        ends = "to" if direction == "Egress" else "from"
        return any(
            _rule_matches(rule, ends, other, address, dial, namespace=body["metadata"]["namespace"])
            for body in selecting
            for rule in body["spec"].get(direction.lower()) or ()
        )


def _is_own_node(address: str) -> bool:
    """The plug-in's gateway address belongs to the node as well."""
    return address in (ADDRESS, GATEWAY) or address.startswith("127.")


def _selects(body: Mapping[str, Any], pod: Peer, direction: str) -> bool:
    spec = body["spec"]
    is_here = body["metadata"]["namespace"] == pod.namespace and direction in spec["policyTypes"]
    return is_here and matches(spec.get("podSelector") or {}, pod.labels)


def _rule_matches(
    rule: Mapping[str, Any], ends: str, other: Peer | None, address: str, dial: Dial, *, namespace: str
) -> bool:
    ports, peers = rule.get("ports") or (), rule.get(ends) or ()
    has_port = not ports or any(_port_matches(port, dial) for port in ports)
    has_peer = not peers or any(_peer_matches(peer, other, address, namespace=namespace) for peer in peers)
    return has_port and has_peer


def _port_matches(port: Mapping[str, Any], dial: Dial) -> bool:
    if port.get("protocol", "TCP") != dial.protocol:
        return False
    first = port.get("port")
    if first is None:
        return True
    assert isinstance(first, int), "our policies name no port by its name"
    return first <= dial.port <= int(port.get("endPort", first))


def _peer_matches(peer: Mapping[str, Any], other: Peer | None, address: str, *, namespace: str) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        return _is_in(address, block["cidr"]) and not any(_is_in(address, each) for each in block.get("except") or ())
    if other is None:
        return False
    if "namespaceSelector" in peer:
        has_namespace = matches(peer["namespaceSelector"] or {}, other.namespace_labels)
    else:
        has_namespace = other.namespace == namespace
    return has_namespace and matches(peer.get("podSelector") or {}, other.labels)


def _is_in(address: str, block: str) -> bool:
    network = ipaddress.ip_network(block)
    found = ipaddress.ip_address(address)
    return found.version == network.version and found in network


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector selects; an empty one selects everything."""
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(name) != value for name, value in wanted.items()):
        return False
    return all(_holds(each, labels) for each in selector.get("matchExpressions") or ())


def _holds(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement["key"])
    match requirement["operator"]:
        case "In":
            return value in requirement["values"]
        case "NotIn":
            return value not in requirement["values"]
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case other:
            raise ValueError(f"{json.dumps(requirement)}: no operator {other}")


def _told(peer: Peer | None, address: str) -> str:
    return f"{peer.namespace}/{peer.name}" if peer is not None else address
