"""What a test gets: a cluster of its own, or one that it was told to use, behind the same methods.

One that is not ours is only ever used when both `SEGUE_TEST_KUBECONFIG` and `SEGUE_TEST_CONTEXT` name it: a KUBECONFIG
that happens to be set, or its current context, may be somebody's production.
"""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from tests.support.cluster.access import Access
from tests.support.cluster.binaries import CONTROL_PLANE, NoBinary, Origins, Say, obtain
from tests.support.cluster.certificates import KeyPair, key_pem, new_key, signing_request
from tests.support.cluster.control_plane import ControlPlane, Programs, control_plane
from tests.support.cluster.login import portable
from tests.support.cluster.processes import wait_for

from segue.model.crd import FILE_NAME, GROUP, PLURAL, VERSION, render_crd

KUBECONFIG, CONTEXT = "SEGUE_TEST_KUBECONFIG", "SEGUE_TEST_CONTEXT"
CRD_PATH = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"
VOICES_PATH = f"/apis/{GROUP}/{VERSION}/{PLURAL}"
WITHIN_S = 60.0

_KUBECTL_LIMIT_S = 60
_SIGNING_REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


class ClusterUnavailable(Exception):
    """There is no cluster to test with on this machine; the message says why."""


class TestCluster:
    """A cluster, with the rights of its administrator.

    Attributes
    ----------
    kubeconfig
        Of the administrator; one context, everything inline.
    """

    __test__ = False  # not a class of tests, whatever pytest makes of its name

    def __init__(self, *, kubeconfig: Path, kubectl: Path, directory: Path, plane: ControlPlane | None = None) -> None:
        self.kubeconfig = kubeconfig
        self._kubectl = kubectl
        self._directory = directory
        self._plane = plane
        self._access = Access.read(kubeconfig)
        self._namespaces: list[str] = []
        self._files = 0

    @property
    def owned(self) -> bool:
        """Whether we run it: only then may its processes be stopped and its CRD be deleted."""
        return self._plane is not None

    @property
    def plane(self) -> ControlPlane:
        """The processes of a cluster of our own.

        Raises
        ------
        ClusterUnavailable
            It is not ours.
        """
        if self._plane is None:
            raise ClusterUnavailable(f"needs a cluster of its own, not the one that {KUBECONFIG} names")
        return self._plane

    def client(self) -> httpx.Client:
        """For raw calls as the administrator; to be closed by the caller (`with cluster.client() as api`)."""
        return self._access.client()

    def kubectl(
        self, *arguments: str, input: str | None = None, check: bool = True, kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl against this cluster and no other.

        Parameters
        ----------
        input
            Standard input, for `-f -`.
        check
            Fail the test, with what kubectl said, where it fails.
        kubeconfig
            Somebody else's, see `kubeconfig_of`.
        """
        command = [str(self._kubectl), "--kubeconfig", str(kubeconfig or self.kubeconfig), *arguments]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self._directory)}
        done = subprocess.run(
            command,
            input=input if input is not None else "",
            capture_output=True,
            text=True,
            env=environment,
            timeout=_KUBECTL_LIMIT_S,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}: code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def kubeconfig_of(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig with a client certificate of that user, who has the rights that RBAC gives it."""
        pair = self._plane.authority.client(user, groups) if self._plane else self._signed_by_cluster(user, groups)
        return self._write(Access(server=self._access.server, ca=self._access.ca, pair=pair))

    def kubeconfig_of_service_account(self, namespace: str, name: str, *, lifetime_s: int = 7200) -> Path:
        """A kubeconfig with a fresh token of a service account that exists."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        request = {"spec": {"expirationSeconds": lifetime_s}}
        with self.client() as api:
            token = _checked(api.post(path, json=request))["status"]["token"]
        return self._write(Access(server=self._access.server, ca=self._access.ca, token=token), namespace=namespace)

    def new_namespace(self, prefix: str) -> str:
        """A namespace in which pods can be made, and that nobody else uses; its name."""
        document = {"metadata": {"generateName": f"{prefix}-"}}
        with self.client() as api:
            name = str(_checked(api.post("/api/v1/namespaces", json=document))["metadata"]["name"])
            self._namespaces.append(name)
            _until(api, f"/api/v1/namespaces/{name}/serviceaccounts/default")
        return name

    def install_crd(self) -> None:
        """Install the CRD of this checkout and wait until voices can be listed."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=render_crd())
        with self.client() as api:
            wait_for(lambda: _established(api), within_s=WITHIN_S, what=f"{FILE_NAME} is Established")
            _until(api, VOICES_PATH)

    def stop_api_server(self) -> None:
        """As a crash does: connections are cut, new ones refused."""
        self.plane.api_server.kill()

    def start_api_server(self) -> None:
        """Start it again, on the same port with the same data, and wait until it is ready."""
        self.plane.start_api_server()

    def api_server_frozen(self) -> contextlib.AbstractContextManager[None]:
        """Connections stay open and nobody answers, while in the context."""
        return self.plane.api_server.frozen()

    def requests_of(self, user: str) -> list[dict[str, Any]]:
        """Every answered request of a user, oldest first, as `audit.k8s.io/v1` events.

        A service account is called `system:serviceaccount:NAMESPACE:NAME`.
        """
        return [event for event in self.plane.audit() if event["user"].get("username") == user]

    def forget_namespaces(self) -> None:
        """Ask for the deletion of what `new_namespace` made; matters only where the cluster lives on."""
        with self.client() as api:
            for name in self._namespaces:
                api.delete(f"/api/v1/namespaces/{name}")

    def _signed_by_cluster(self, user: str, groups: Sequence[str]) -> KeyPair:
        """A certificate by the cluster's own signer, as its administrator may approve one."""
        key = new_key()
        spec = {
            "request": base64.b64encode(signing_request(key, user, groups)).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        }
        condition = {"type": "Approved", "status": "True", "reason": "Test", "message": "asked for by a test"}
        with self.client() as api:
            request = _checked(api.post(_SIGNING_REQUESTS, json={"metadata": {"generateName": "test-"}, "spec": spec}))
            path = f"{_SIGNING_REQUESTS}/{request['metadata']['name']}"
            request["status"] = {"conditions": [condition]}
            _checked(api.put(f"{path}/approval", json=request))
            cert = wait_for(
                lambda: _checked(api.get(path))["status"].get("certificate"), within_s=WITHIN_S, what="a certificate"
            )
            api.delete(path)
        return KeyPair(cert=base64.b64decode(cert), key=key_pem(key))

    def _write(self, access: Access, *, namespace: str = "default") -> Path:
        self._files += 1
        return access.write(self._directory / f"kubeconfig-{self._files}.yaml", namespace=namespace)


@contextlib.contextmanager
def open_cluster(
    *, origins: Origins | None = None, environment: Mapping[str, str] = os.environ, say: Say = lambda line: None
) -> Iterator[TestCluster]:
    """The cluster that the environment names, else one of our own; with the CRD installed.

    Raises
    ------
    ClusterUnavailable
        There is none, and none can be started here.
    """
    origins = origins or Origins()
    given = environment.get(KUBECONFIG) or environment.get(CONTEXT)
    with given_cluster(environment, origins=origins) if given else _own(origins, say) as cluster:
        cluster.install_crd()
        yield cluster


@contextlib.contextmanager
def _own(origins: Origins, say: Say) -> Iterator[TestCluster]:
    etcd, api_server, manager, kubectl = (_program(name, origins, say) for name in CONTROL_PLANE)
    programs = Programs(etcd=etcd, api_server=api_server, controller_manager=manager)
    with _directory() as directory, control_plane(programs, directory) as plane:
        kubeconfig = plane.admin.write(directory / "kubeconfig.yaml")
        yield TestCluster(kubeconfig=kubeconfig, kubectl=kubectl, directory=directory, plane=plane)


@contextlib.contextmanager
def given_cluster(
    environment: Mapping[str, str] = os.environ, *, origins: Origins | None = None
) -> Iterator[TestCluster]:
    """The cluster that the environment names; nothing is installed into it.

    Raises
    ------
    ClusterUnavailable
        There is no kubectl.
    ValueError
        It is named by half, or there is no such context.
    """
    with _directory() as directory:
        yield from _existing(environment, directory, origins or Origins())


def _existing(environment: Mapping[str, str], directory: Path, origins: Origins) -> Iterator[TestCluster]:
    source, context = environment.get(KUBECONFIG), environment.get(CONTEXT)
    if not source or not context:
        raise ValueError(f"set both {KUBECONFIG} and {CONTEXT}, or neither: a cluster is only used when it is named")
    kubectl = _program("kubectl", origins, lambda line: None)
    view = ["--kubeconfig", source, "--context", context, "config", "view", "--minify", "--flatten", "--raw"]
    done = subprocess.run([kubectl, *view], capture_output=True, text=True, timeout=_KUBECTL_LIMIT_S, check=False)
    if done.returncode != 0:
        raise ValueError(f"{CONTEXT}={context} is not in {source}: {done.stderr.strip()}")
    kubeconfig = directory / "kubeconfig.yaml"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(done.stdout, encoding="utf-8")
    with portable(kubeconfig, kubectl=kubectl, directory=directory) as login:
        cluster = TestCluster(kubeconfig=login, kubectl=kubectl, directory=directory)
        try:
            yield cluster
        finally:
            cluster.forget_namespaces()


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="segue-cluster-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _program(name: str, origins: Origins, say: Say) -> Path:
    try:
        return obtain(name, origins=origins, say=say)
    except NoBinary as error:
        raise ClusterUnavailable(str(error)) from error


def _established(api: httpx.Client) -> bool | None:
    response = api.get(CRD_PATH)
    status = response.json().get("status", {}) if response.is_success else {}
    conditions = status.get("conditions") or ()  # null in the first moments
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions) or None


def _until(api: httpx.Client, path: str) -> None:
    wait_for(lambda: api.get(path).is_success or None, within_s=WITHIN_S, what=path)


def _checked(response: httpx.Response) -> dict[str, Any]:
    """The body of a success; else a failure that says what the API server said."""
    assert response.is_success, f"{response.request.method} {response.request.url}: {response.text}"
    body: dict[str, Any] = response.json()
    return body
