"""What Argo CD and Flux make of a voice: what is shipped for them, over statuses of the real engine.

The script runs in a real Lua 5.1, as in Argo CD; the expressions in CEL, asked in the order in which Flux asks them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cel
import pytest
from lupa import lua51
from ruamel.yaml import YAML
from tests.fakes.sidecar import Temper
from tests.fakes.world import World
from tests.support.rollouts import QUICK, change, new_world, run_to, run_until, serving_world
from tests.support.voices import KEY, revision, voice_document

from segue.model import Phase
from segue.wire import ProbePhase

GITOPS = Path(__file__).parents[3] / "deploy" / "gitops"
SCRIPT = (GITOPS / "argocd" / "health.lua").read_text(encoding="utf-8")
IN_FLUX = {
    "Progressing": "inProgress",
    "Suspended": "inProgress",
    "Degraded": "failed",
    "Healthy": "current",
}
"""What Flux calls it; it knows no pause."""
V1, V2 = revision("v1"), revision("v2")


def expressions() -> dict[str, str]:
    """Those of the Kustomization, by what they decide."""
    documents = YAML(typ="safe").load_all((GITOPS / "flux" / "voices.yaml").read_text(encoding="utf-8"))
    (found,) = (each["spec"]["healthCheckExprs"] for each in documents if each["kind"] == "Kustomization")
    (mine,) = found
    assert (mine["apiVersion"], mine["kind"]) == ("segue.dev/v1alpha1", "VoiceModel")
    return {name: mine[name] for name in ("inProgress", "failed", "current")}


def flux_of(document: dict[str, Any]) -> str:
    """The first that holds."""
    held = (name for name, text in expressions().items() if cel.evaluate(text, document))
    return next(held, "inProgress")


@dataclass(frozen=True, slots=True)
class Health:
    """What the script returns."""

    status: str
    message: str


def health_of(document: dict[str, Any]) -> Health:
    """Run it as Argo CD does: `obj` is the resource, nothing else is there. Flux must mean the same."""
    lua = lua51.LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(document, recursive=True)
    found = lua.execute(SCRIPT)
    assert flux_of({"status": {}, **document}) == IN_FLUX[found.status]
    return Health(found.status, found.message)


def health(world: World) -> Health:
    voice = world.cluster.read(KEY)
    return health_of(voice.model_dump(mode="json", by_alias=True, exclude_none=True))


def test_a_voice_that_nobody_has_seen_is_on_its_way() -> None:
    document = {"metadata": {"name": "narrator", "generation": 1}, "spec": {}}
    assert health_of(document).status == "Progressing"
    assert health_of({**document, "status": {}}).status == "Progressing"


def test_a_confirmed_version_is_healthy() -> None:
    world = serving_world(pods=2)
    world.settle_or_go_on(KEY)
    found = health(world)
    assert found.status == "Healthy"
    assert "2/2" in found.message


def test_every_step_of_a_rollout_is_on_its_way_until_the_watch_is_over() -> None:
    world = serving_world(pods=2)
    world.settle_or_go_on(KEY)
    change(world, "v2")
    assert health(world).status == "Progressing", "the operator has not seen it"
    for phase in (Phase.PRELOADING, Phase.VERIFYING, Phase.CANARY, Phase.FLIPPING, Phase.WATCHING):
        run_to(world, phase, every=1)
        assert health(world).status == "Progressing", phase
    run_until(world, lambda status: status.stable_revision == V2)
    world.settle_or_go_on(KEY)
    assert health(world).status == "Healthy"


def manual(world: World) -> None:
    change(world, "v2", rollout={**QUICK["rollout"], "approval": "Manual"})
    run_until(world, lambda status: status.reason == "AwaitingApproval")


def paused(world: World) -> None:
    change(world, "v2")
    run_to(world, Phase.VERIFYING)
    world.cluster.edit_spec(KEY, lambda spec: spec["rollout"].update(paused=True))
    run_until(world, lambda status: status.reason == "Paused")


def held(world: World) -> None:
    world.tempers[V2] = Temper(drift="median pitch 3.1 st higher, limit 1 st")
    change(world, "v2", continuity={"maxPitchDelta": "1st"})
    run_until(world, lambda status: status.reason == "ContinuityHold")


@pytest.mark.parametrize("wait", [manual, paused, held])
def test_what_waits_for_a_person_is_suspended(wait: Callable[[World], None]) -> None:
    world = serving_world()
    wait(world)
    found = health(world)
    assert found.status == "Suspended"
    assert found.message


@pytest.mark.parametrize("owner", [None, "Argo CD"], ids=["spec written back", "spec left alone"])
def test_a_version_that_went_back_is_degraded_until_the_next_is_confirmed(owner: str | None) -> None:
    world = serving_world(pods=2)
    world.owner = owner
    change(world, "v2", rollout={"canary": {"mode": "Skip"}})
    run_to(world, Phase.WATCHING, every=1)
    world.tempers[V2] = Temper(error_rate=0.5)
    run_until(world, lambda status: status.phase is Phase.IDLE and status.last_rollback is not None, every=2)
    world.settle_or_go_on(KEY)
    found = health(world)
    assert found.status == "Degraded"
    assert found.message
    change(world, "v3")
    run_until(world, lambda status: status.stable_revision == revision("v3"))
    world.settle_or_go_on(KEY)
    assert health(world).status == "Healthy"


def test_a_first_version_that_is_refused_is_degraded() -> None:
    world = new_world()
    world.tempers[V1] = Temper(probe=ProbePhase.FAILED)
    world.cluster.apply(voice_document("v1", **QUICK))
    run_until(world, lambda status: status.phase is Phase.IDLE and bool(status.failed_revisions))
    world.settle_or_go_on(KEY)
    assert health(world).status == "Degraded"


def test_a_voice_that_no_pod_serves_is_degraded() -> None:
    world = serving_world()
    world.settle_or_go_on(KEY)
    world.pods.clear()
    run_until(world, lambda status: status.pods.updated == 0)
    world.settle_or_go_on(KEY)
    assert health(world).status == "Degraded"


def test_the_settings_of_argo_cd_hold_the_same_script() -> None:
    settings = YAML(typ="safe").load((GITOPS / "argocd" / "argocd-cm.yaml").read_text(encoding="utf-8"))
    assert settings["data"]["resource.customizations.health.segue.dev_VoiceModel"] == SCRIPT
