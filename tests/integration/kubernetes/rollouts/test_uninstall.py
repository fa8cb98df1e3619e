"""Taking Segue away while it works: nothing is left that cannot be deleted, and listeners hear it to the end."""

from __future__ import annotations

import pytest
from tests.support.pods.case import Case
from tests.support.pods.kube import CORE
from tests.support.pods.stage import STEADY
from tests.support.pods.versions import SPLIT
from tests.support.running import eventually

from segue.model import Phase

pytestmark = [pytest.mark.cluster, pytest.mark.process, pytest.mark.timeout(600)]

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/voicemodels.segue.dev"
GONE_S = 60.0


def test_uninstalled_in_mid_rollout_operator_first(case: Case) -> None:
    stage = case.stage
    voice, first = case.speaking(SPLIT)
    second = voice.edit(case.fresh())
    voice.wait_phase(Phase.CANARY, target=second)
    stage.operator.kill()
    try:
        voice.kubectl("delete", "voicemodels", "--all", "--wait=true", "--timeout=30s")
        assert stage.kube.list(voice.collection) == []
        stage.cluster.kubectl("delete", "crd", "voicemodels.segue.dev", "--wait=true", "--timeout=30s")
        assert stage.kube.get(CRD) is None
        case.heard(voice, first)
        case.heard(stage.voice(STEADY), stage.wardrobe.narrator.revision)
        for each in (voice, stage.voice(STEADY)):
            case.hush(each)
    finally:
        stage.cluster.install_crd()
        stage.operator.start_leading(stage.kube)
    stage.wait_states(voice.key, lambda found: not any(found.values()), what="the next operator has the pods let it go")
    stage.introduce_steady()


def test_uninstalled_in_mid_rollout_operator_last(case: Case) -> None:
    stage = case.stage
    voices = [case.speaking(SPLIT)[0] for _ in range(2)]
    for voice in voices:
        target = voice.edit(case.fresh())
        voice.wait_phase(Phase.CANARY, target=target)
    for voice in (*voices, stage.voice(STEADY)):
        case.hush(voice)
    try:
        voices[0].kubectl("delete", "voicemodels", "--all", "--wait=true", "--timeout=30s")
        stage.cluster.kubectl("delete", "crd", "voicemodels.segue.dev", "--wait=true", "--timeout=30s")
        for voice in voices:
            stage.wait_states(voice.key, lambda found: not any(found.values()), what="every pod lets it go")
        assert stage.operator.is_running, stage.operator.tail()
    finally:
        stage.cluster.install_crd()
    stage.ensure_operator()
    stage.introduce_steady()
    case.listen(stage.voice(STEADY))
    eventually(lambda: case.answers(stage.voice(STEADY)) > 0, within_s=30, what="a voice made again is heard")


def test_the_namespace_goes_with_everything_in_it(case: Case) -> None:
    stage = case.stage
    voice, first = case.speaking(SPLIT)
    second = voice.edit(case.fresh())
    voice.wait_phase(Phase.CANARY, target=second)
    case.heard(voice, first)
    namespace = f"{CORE}/namespaces/{stage.namespace}"
    case.voices.clear()
    stage.spoiled = True
    stage.kube.delete(namespace)
    eventually(lambda: stage.kube.get(namespace) is None, within_s=GONE_S, what=f"{stage.namespace} is gone")
    assert not stage.pods, "every pod has ended"
    assert stage.operator.is_running, stage.operator.tail()
