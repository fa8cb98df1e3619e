"""The configuration of an operator for a cluster, and how a mistake in it is named."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest

from segue_operator.__main__ import main
from segue_operator.config import InvalidConfig, KubernetesConfig, OperatorConfig, load_config
from segue_operator.kubernetes.scope import watches_of


def written(directory: Path, text: str) -> Path:
    path = directory / "operator.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def config(directory: Path, text: str = "") -> KubernetesConfig:
    found = load_config(written(directory, f"adapter: kubernetes\n{text}"))
    assert isinstance(found, KubernetesConfig)
    return found


def test_nothing_but_the_adapter_must_be_said(tmp_path: Path) -> None:
    found = config(tmp_path)
    assert found.namespaces == ()
    assert (found.lease.name, found.lease.namespace, found.lease.duration_s) == ("segue-operator", "segue-system", 15)
    assert found.listen == "127.0.0.1:8080"
    assert found.control_port == 8443


def test_a_folder_is_still_the_default(tmp_path: Path) -> None:
    text = (
        "voices: /v\nstatusDirectory: /s\nstateDirectory: /t\nsocket: /x\nfleet: {pods: [{url: 'http://h', uid: u}]}\n"
    )
    assert isinstance(load_config(written(tmp_path, text)), OperatorConfig)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("adapter: nomad\n", "adapter: is folder or kubernetes, not 'nomad'"),
        ("adapter: kubernetes\nvoices: /v\n", ":2: voices: is no key that is known here"),
        ("adapter: kubernetes\nlease: {durationS: 5}\n", ":2: lease: needs retryS < renewDeadlineS < durationS"),
        ("adapter: kubernetes\nlisten: nowhere\n", ":2: listen: is ADDRESS:PORT"),
        ("adapter: kubernetes\nlisten: 127.0.0.1:99999\n", ":2: listen: is ADDRESS:PORT"),
        ("adapter: kubernetes\nfleets:\n  gold: {namespace: a}\n", ":3: fleets.gold.podSelector: Field required"),
        ("adapter: kubernetes\nfleets:\n  gold: {namespace: a, podSelector: {}}\n", ":3: fleets.gold.podSelector: "),
        ("adapter: kubernetes\nnamespaces: [Upper]\n", ":2: namespaces.0: "),
    ],
)
def test_a_mistake_names_line_and_field(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        load_config(written(tmp_path, text))
    assert complaint in str(error.value)


def test_what_is_watched_follows_from_it(tmp_path: Path) -> None:
    whole = [(watch.name, watch.paths, watch.selector) for watch in watches_of(config(tmp_path))]
    assert whole == [
        ("voices", ("/apis/segue.dev/v1alpha1/voicemodels",), ""),
        ("pods", ("/api/v1/pods",), "segue.dev/fleet"),
    ]
    text = "namespaces: [a, b]\nfleets:\n  gold: {namespace: pods, podSelector: {tier: gold, app: tts}}\n"
    named = [(watch.name, watch.paths, watch.selector) for watch in watches_of(config(tmp_path, text))]
    assert named == [
        (
            "voices",
            (
                "/apis/segue.dev/v1alpha1/namespaces/a/voicemodels",
                "/apis/segue.dev/v1alpha1/namespaces/b/voicemodels",
            ),
            "",
        ),
        ("pods", ("/api/v1/namespaces/a/pods", "/api/v1/namespaces/b/pods"), "segue.dev/fleet"),
        ("pods of fleet gold", ("/api/v1/namespaces/pods/pods",), "app=tts,tier=gold"),
    ]


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without_kopf(name: str, *arguments: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "kopf":
            raise ModuleNotFoundError("No module named 'kopf'", name="kopf")
        return real(name, *arguments, **more)

    for name in [each for each in sys.modules if each.startswith("segue_operator.kubernetes")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_kopf)
    assert main(["--config", str(written(tmp_path, "adapter: kubernetes\n"))]) == 1
    assert "pip install 'segue[operator]'" in capsys.readouterr().err


def test_a_cluster_that_cannot_be_reached_is_an_error_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(written(tmp_path, f"adapter: kubernetes\nkubeconfig: {tmp_path}/none\n"))]) == 1
    assert f"error: {tmp_path}/none cannot be used to reach a cluster" in capsys.readouterr().err
