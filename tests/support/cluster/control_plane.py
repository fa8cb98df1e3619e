"""etcd, kube-apiserver and kube-controller-manager: which processes, with which flags, ready when.

The API server is the real one with RBAC and audit log on. Of the controllers only those run that act on what tests
make; pod garbage collection and node lifecycle would delete pods whose node does not exist.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.support.cluster.access import Access
from tests.support.cluster.certificates import Authority, key_pem, new_key
from tests.support.cluster.processes import Child, Leash, ProcessEnded, wait_for

HOST = "127.0.0.1"
SERVING_NAMES = (
    HOST,
    "10.96.0.1",
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
CONTROLLERS = (
    "certificatesigningrequest-signing-controller",
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
)
READY_WITHIN_S = 60.0

_ISSUER = "https://kubernetes.default.svc"
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
_PORT_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """What is run."""

    etcd: Path
    api_server: Path
    controller_manager: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a control plane is for: objects alone, unless a node says otherwise.

    Attributes
    ----------
    address, port
        Where the API server listens; without a port, on one that is free.
    controllers
        Those that run.
    api_server
        Further flags of the API server; its directory holds `kubelet-client.crt` and `.key`.
    """

    address: str = HOST
    port: int | None = None
    controllers: Sequence[str] = CONTROLLERS
    api_server: Sequence[str] = ("--endpoint-reconciler-type=none",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """A running control plane.

    Attributes
    ----------
    authority
        Signs client certificates.
    leash
        For further processes that shall end with these.
    admin
        Access with every right.
    """

    directory: Path
    authority: Authority
    leash: Leash
    admin: Access
    etcd_url: str
    etcd: Child
    api_server: Child
    controller_manager: Child

    def start_etcd(self) -> None:
        """Start it, with the data it had before, and wait until it answers."""
        self.etcd.start()
        with httpx.Client(base_url=self.etcd_url, trust_env=False) as client:
            _wait(self.etcd, client, "/health")

    def start_api_server(self) -> None:
        """Start it, on the port it had before, and wait until it is ready."""
        self.api_server.start()
        with self.admin.client() as client:
            _wait(self.api_server, client, "/readyz")

    def audit(self) -> Iterator[dict[str, Any]]:
        """Every request that was answered, oldest first, as the audit log has it."""
        with (self.directory / "audit.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):
                    yield json.loads(line)


@contextlib.contextmanager
def control_plane(programs: Programs, directory: Path, setting: Setting | None = None) -> Iterator[ControlPlane]:
    """Bring one up in an empty directory; all of it is gone afterwards, whatever happens inside.

    Raises
    ------
    ProcessEnded
        One of the processes gave up.
    TimeoutError
        One of them was not ready in time.
    """
    with contextlib.ExitStack() as stack:
        leash = Leash()
        stack.callback(leash.close)
        plane = _started(programs, directory, leash, stack, setting or Setting())
        yield plane


def _started(
    programs: Programs, directory: Path, leash: Leash, stack: contextlib.ExitStack, setting: Setting
) -> ControlPlane:
    """Started on ports of its own; somebody may take one between our looking and its binding, then on others."""
    for attempt in range(_PORT_ATTEMPTS):
        folder = directory / f"attempt-{attempt}"
        folder.mkdir(parents=True)
        plane = _laid_out(programs, folder, leash, setting)
        for child in (plane.etcd, plane.api_server, plane.controller_manager):
            stack.callback(child.stop)
        try:
            _bring_up(plane)
        except ProcessEnded as error:
            if "address already in use" not in str(error) or attempt == _PORT_ATTEMPTS - 1:
                raise
            continue
        return plane
    raise AssertionError("the last attempt returns or raises")


def _bring_up(plane: ControlPlane) -> None:
    plane.start_etcd()
    plane.start_api_server()
    plane.controller_manager.start()
    with plane.admin.client() as client:
        _wait(plane.controller_manager, client, "/api/v1/namespaces/default/serviceaccounts/default")


def _wait(child: Child, client: httpx.Client, path: str) -> None:
    """Wait for a 200 there, as long as the process that makes it possible lives."""
    wait_for(lambda: _answers(child, client, path), within_s=READY_WITHIN_S, what=f"{child.name}: {path}")


def _answers(child: Child, client: httpx.Client, path: str) -> bool | None:
    child.check()
    with contextlib.suppress(httpx.TransportError):
        return client.get(path, timeout=2).is_success or None
    return None


def _laid_out(programs: Programs, directory: Path, leash: Leash, setting: Setting) -> ControlPlane:
    """Certificates, configuration and arguments; nothing runs yet."""
    etcd_port, peer_port, free_port = free_ports(3)
    api_port = setting.port or free_port
    authority = Authority.create()
    server = f"https://{setting.address}:{api_port}"
    _write_credentials(directory, authority, server, setting.address)
    etcd_url, peer_url = f"http://{HOST}:{etcd_port}", f"http://{HOST}:{peer_port}"

    def child(program: Path, arguments: list[str]) -> Child:
        return Child([program, *arguments], log=directory / f"{program.name}.log", leash=leash)

    return ControlPlane(
        directory=directory,
        authority=authority,
        leash=leash,
        admin=as_client(authority, server, "kubernetes-admin", "system:masters"),
        etcd_url=etcd_url,
        etcd=child(programs.etcd, _etcd_arguments(etcd_url, peer_url)),
        api_server=child(programs.api_server, _api_server_arguments(etcd_url, api_port, setting)),
        controller_manager=child(programs.controller_manager, _controller_manager_arguments(setting)),
    )


def as_client(authority: Authority, server: str, user: str, *groups: str) -> Access:
    """Access of a user by a new certificate."""
    return Access(server=server, ca=authority.pair.cert, pair=authority.client(user, groups))


def _write_credentials(directory: Path, authority: Authority, server: str, address: str) -> None:
    authority.pair.write(directory, "ca")
    authority.server(sorted({*SERVING_NAMES, address})).write(directory, "server")
    authority.client("kube-apiserver-kubelet-client", ("system:masters",)).write(directory, "kubelet-client")
    tokens = directory / "tokens.key"
    tokens.touch(mode=0o600)
    tokens.write_bytes(key_pem(new_key()))
    manager = as_client(authority, server, "system:kube-controller-manager")
    manager.write(directory / "controller-manager.kubeconfig")
    (directory / "audit-policy.json").write_text(json.dumps(_AUDIT_POLICY), encoding="utf-8")


def _etcd_arguments(client_url: str, peer_url: str) -> list[str]:
    """Without fsync: its data are not meant to survive the machine, and a test machine's disk is slow."""
    return [
        "--name=test",
        "--data-dir=etcd",
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=test={peer_url}",
        "--unsafe-no-fsync",
        "--log-level=warn",
        "--logger=zap",
        "--log-outputs=stderr",
    ]


def _api_server_arguments(etcd_url: str, port: int, setting: Setting) -> list[str]:
    return [
        f"--etcd-servers={etcd_url}",
        f"--bind-address={setting.address}",
        f"--secure-port={port}",
        "--service-cluster-ip-range=10.96.0.0/16",
        *setting.api_server,
        "--tls-cert-file=server.crt",
        "--tls-private-key-file=server.key",
        "--client-ca-file=ca.crt",
        f"--service-account-issuer={_ISSUER}",
        "--service-account-key-file=tokens.key",
        "--service-account-signing-key-file=tokens.key",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged",
        "--audit-policy-file=audit-policy.json",
        "--audit-log-path=audit.jsonl",
        "--profiling=false",
    ]


def _controller_manager_arguments(setting: Setting) -> list[str]:
    return [
        "--kubeconfig=controller-manager.kubeconfig",
        f"--controllers={','.join(setting.controllers)}",
        "--service-account-private-key-file=tokens.key",
        "--root-ca-file=ca.crt",
        "--cluster-signing-cert-file=ca.crt",
        "--cluster-signing-key-file=ca.key",
        "--use-service-account-credentials=true",  # each controller has its rights as its own account only
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below the range from which connections get theirs.

    An API server that is down for a while must find its port free when it comes back.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, max(lowest, 10_001 + count))
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            found += [port] if port not in found else []
    return found
