"""Which cluster is meant: files, their merging, and what is said when they say nothing."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from segue_cli.cluster.errors import NoSuchContext
from segue_cli.cluster.kubeconfig import IN_CLUSTER, find_access

FILE = """\
apiVersion: v1
kind: Config
current-context: {current}
contexts:
- name: {name}
  context: {{cluster: {name}, user: jane, namespace: voices}}
clusters:
- name: {name}
  cluster: {{server: "https://{name}:6443", certificate-authority: ca.crt}}
users:
- name: jane
  user: {{token: of-{name}}}
"""


def write(path: Path, name: str, *, current: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FILE.format(name=name, current=current or name), encoding="utf-8")
    (path.parent / "ca.crt").write_text(f"authority of {name}", encoding="utf-8")
    return path


def test_the_current_context_is_meant_where_nothing_is_said(tmp_path: Path) -> None:
    write(tmp_path / ".kube" / "config", "dev")
    access = find_access(None, None, environ={"HOME": str(tmp_path)})
    assert (access.context, access.namespace, access.server) == ("dev", "voices", "https://dev:6443")
    assert not access.is_named


def test_the_first_file_of_the_list_wins_and_all_contexts_are_known(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one" / "config", "dev"), write(tmp_path / "two" / "config", "prod")
    environ = {"KUBECONFIG": f"{one}:{tmp_path / 'missing'}:{two}", "HOME": str(tmp_path)}
    assert find_access(None, None, environ=environ).context == "dev"
    prod = find_access("prod", None, environ=environ)
    assert prod.server == "https://prod:6443"
    assert prod.is_named
    assert prod.user.text("token") == "of-dev"  # both files call their user jane


def test_relative_paths_start_from_the_file_that_says_them(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one" / "config", "dev"), write(tmp_path / "two" / "config", "prod")
    access = find_access("prod", None, environ={"KUBECONFIG": f"{one}:{two}"})
    assert access.cluster.content("certificate-authority") == b"authority of prod"


def test_inline_data_goes_before_a_file(tmp_path: Path) -> None:
    file = write(tmp_path / "config", "dev")
    data = base64.b64encode(b"inline").decode()
    text = file.read_text(encoding="utf-8").replace("ca.crt}", f"ca.crt, certificate-authority-data: {data}}}")
    file.write_text(text, encoding="utf-8")
    assert find_access(None, file).cluster.content("certificate-authority") == b"inline"


def test_a_context_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    file = write(tmp_path / "config", "dev")
    with pytest.raises(NoSuchContext, match=rf"no context production in {file}; there are: dev"):
        find_access("production", file)


def test_no_current_context_is_no_guess(tmp_path: Path) -> None:
    file = write(tmp_path / "config", "dev", current='""')
    with pytest.raises(NoSuchContext, match="no current context; name one with --context; there are: dev"):
        find_access(None, file)


def test_no_kubeconfig_at_all(tmp_path: Path) -> None:
    with pytest.raises(NoSuchContext, match="no kubeconfig"):
        find_access(None, None, environ={"HOME": str(tmp_path)}, service_account=tmp_path)


def test_a_kubeconfig_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(NoSuchContext, match="does not exist"):
        find_access(None, tmp_path / "missing")


@pytest.mark.parametrize("text", ["[", "- a", "clusters: [{cluster: {}}]", "\x00"])
def test_what_is_no_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(NoSuchContext, match=str(file)):
        find_access(None, file)


def test_a_context_whose_cluster_is_missing_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "config", "dev")
    text = file.read_text(encoding="utf-8").replace("- name: dev\n  cluster:", "- name: other\n  cluster:")
    file.write_text(text, encoding="utf-8")
    with pytest.raises(NoSuchContext, match="context dev names the cluster dev"):
        find_access(None, file)


def test_a_pod_is_its_service_account(tmp_path: Path) -> None:
    for name, content in (("token", "secret"), ("namespace", "voices\n"), ("ca.crt", "authority")):
        (tmp_path / name).write_text(content, encoding="utf-8")
    environ = {"HOME": "/nowhere", "KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    access = find_access(None, None, environ=environ, service_account=tmp_path)
    assert (access.context, access.namespace, access.server) == (IN_CLUSTER, "voices", "https://[fd00::1]:443")
    assert access.cluster.content("certificate-authority") == b"authority"
