"""From the chart before to this one, while listeners ask the Service."""

from __future__ import annotations

from pathlib import Path

from tests.support.e2e.installation import Installation
from tests.support.e2e.scene import Theatre, playing
from tests.support.e2e.shipped import LIVELIER, shipped
from tests.support.pods.versions import SPLIT

PREVIOUS = Path(__file__).parent / "previous" / "segue-0.1.0.tgz"
AS_NOW = (
    "--set-json",
    'fleet.sources=[{"uriPrefixes":["file:///usr/share/segue/examples/"]}]',
    "--set",
    "fleet.server.resources.requests.cpu=500m,fleet.sidecar.resources.requests.cpu=100m",
)
"""The chart before asks for more processors than a small node has, and lets voices fetch nothing."""


def test_an_upgrade_from_the_chart_before_is_not_noticed(installation: Installation, theatre: Theatre) -> None:
    if installation.exists():
        installation.uninstall()
    installation.upgrade(*AS_NOW, chart=PREVIOUS)
    installation.wait_ready()
    with playing(theatre, "helm-upgrade") as scene:
        voice, first = scene.speaking(SPLIT)
        before = {pod.uid for pod in installation.pods()}
        installation.upgrade("--reset-then-reuse-values", "--set", "fleet.server.config.queueLimit=900")
        after = {pod.uid for pod in installation.wait_ready()}
        assert not before & after, "the fleet's configuration changed, so its pods are new"
        scene.heard(voice, first)
        voice.wait_promoted(voice.apply(shipped(LIVELIER)), within_s=240)
