"""What `segue up` writes for the operator about alerts and queries, read back by the operator's own model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from segue_cli.layout import Layout
from segue_cli.main import app
from segue_cli.up.certificates import ensure_certificates
from segue_cli.up.configs import Hooks, Plan, PrometheusAccess, write_configs
from segue_operator.config import InvalidConfig, OperatorConfig, load_config


def written(folder: Path, **more: Any) -> OperatorConfig:
    layout = Layout(folder / "state")
    layout.create()
    plan = Plan(
        layout=layout,
        voices=folder,
        host="127.0.0.1",
        port=8000,
        status_port=1,
        control_port=2,
        sidecar_status_port=3,
        pod_uid="pod-1",
        budget_bytes=1,
        **more,
    )
    operator_tls, sidecar_tls = ensure_certificates(layout.tls)
    write_configs(plan, operator_tls=operator_tls, sidecar_tls=sidecar_tls)
    config = load_config(plan.operator_config)
    assert isinstance(config, OperatorConfig)
    return config


def test_without_hooks_nothing_is_listened_on(tmp_path: Path) -> None:
    config = written(tmp_path)
    assert (config.listen, config.hooks, config.prometheus) == (None, None, None)


def test_a_port_for_figures_is_listened_on_and_without_a_token_no_alert_is_taken(tmp_path: Path) -> None:
    config = written(tmp_path, operator_status_port=9)
    assert (config.listen, config.hooks) == ("127.0.0.1:9", None)


def test_hooks_and_prometheus_come_into_the_operators_file(tmp_path: Path) -> None:
    token = tmp_path / "token"
    config = written(
        tmp_path, hooks=Hooks(token, "::1", 9095), prometheus=PrometheusAccess("http://127.0.0.1:9090", token)
    )
    assert config.listen == "[::1]:9095"
    assert config.hooks is not None
    assert config.hooks.token_file == token
    assert config.prometheus is not None
    assert (config.prometheus.url, config.prometheus.token_file) == ("http://127.0.0.1:9090", token)


def test_hooks_without_an_address_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "operator.yaml"
    file.write_text(
        "voices: v\nstatusDirectory: s\nstateDirectory: s\nsocket: s\nhooks: {tokenFile: t}\n"
        "fleet: {pods: [{url: 'https://127.0.0.1:1', uid: u}]}\n",
        encoding="utf-8",
    )
    with pytest.raises(InvalidConfig, match="listen"):
        load_config(file)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--hooks-token", "nowhere"], "nowhere does not exist"),
        (["--hooks-token", __file__, "--hooks-listen", "9095"], "ADDRESS:PORT"),
        (["--prometheus-token", __file__], "--prometheus"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_starts(tmp_path: Path, options: list[str], word: str) -> None:
    result = CliRunner().invoke(app, ["up", str(tmp_path), *options])
    assert result.exit_code != 0
    assert word in str(result.exception)
