"""An uninstall leaves nothing that cannot be deleted: with no operator alive, namespaces, voices and the CRD go.

A finalizer of an operator that is gone is what usually keeps them.
"""

from __future__ import annotations

import httpx
import pytest
from tests.support.cluster import TestCluster
from tests.support.cluster.cluster import CRD_PATH, VOICES_PATH
from tests.support.cluster.processes import wait_for
from tests.support.voice_table import changed, whole_document

pytestmark = pytest.mark.cluster

WITHIN_S = 30.0


def test_namespaces_voices_and_the_crd_can_be_deleted_in_any_order(own_cluster: TestCluster) -> None:
    tenant, deserted = own_cluster.new_namespace("tenant"), own_cluster.new_namespace("segue-system")
    with own_cluster.client() as api:
        try:
            for namespace in (tenant, deserted):
                _add_voice(api, namespace)
            api.delete(f"/api/v1/namespaces/{deserted}")  # where the operator ran
            _gone(api, f"/api/v1/namespaces/{deserted}")
            api.delete(CRD_PATH)  # with a voice left, in another namespace
            _gone(api, CRD_PATH)
            api.delete(f"/api/v1/namespaces/{tenant}")
            _gone(api, f"/api/v1/namespaces/{tenant}")
        finally:
            own_cluster.install_crd()
        assert [each for each in api.get(VOICES_PATH).json()["items"] if each["metadata"]["namespace"] == tenant] == []


def _add_voice(api: httpx.Client, namespace: str) -> None:
    document = changed(whole_document(), ("metadata", "namespace"), namespace)
    path = f"/apis/segue.dev/v1alpha1/namespaces/{namespace}/voicemodels"
    created = api.post(path, json=document)
    assert created.status_code == 201, created.text
    assert "finalizers" not in created.json()["metadata"]
    written = api.put(f"{path}/narrator/status", json=created.json() | {"status": {"phase": "Watching"}})
    assert written.json()["status"]["phase"] == "Watching"


def _gone(api: httpx.Client, path: str) -> None:
    wait_for(lambda: api.get(path).status_code == 404 or None, within_s=WITHIN_S, what=f"{path} is gone")
