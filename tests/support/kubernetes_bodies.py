"""Objects as the API server writes them, for tests of the Kubernetes adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from segue.model import RevisionSource, VoiceModel, source_of

Body = dict[str, Any]

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def digest(letter: str) -> str:
    """A sha256 that is easy to tell from others."""
    return letter * 64


def spec(letter: str, **more: Any) -> Body:
    """A spec whose files have digests of that letter."""
    return {
        "engine": "demo",
        "weights": {"timbre": {"uri": f"s3://voices/{letter}.bin", "sha256": digest(letter)}},
        "reference": {"uri": "s3://voices/ref.wav", "sha256": digest("0"), "text": "Hello.", "language": "en"},
        **more,
    }


def voice_body(
    name: str = "narrator",
    *,
    namespace: str = "voices",
    uid: str = "uid-1",
    version: int = 1,
    generation: int = 1,
    spec_: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
    **more: Any,
) -> Body:
    """A VoiceModel."""
    metadata: Body = {
        "name": name,
        "namespace": namespace,
        "uid": uid,
        "resourceVersion": str(version),
        "generation": generation,
        "creationTimestamp": "2026-11-20T10:00:00Z",
    }
    if annotations is not None:
        metadata["annotations"] = dict(annotations)
    return {
        "apiVersion": "segue.dev/v1alpha1",
        "kind": "VoiceModel",
        "metadata": metadata,
        "spec": dict(spec_ if spec_ is not None else spec("a")),
        **more,
    }


def manifest(name: str, namespace: str, spec_: Mapping[str, Any], **metadata: Any) -> Body:
    """What a person applies."""
    return {
        "apiVersion": "segue.dev/v1alpha1",
        "kind": "VoiceModel",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": dict(spec_),
    }


def applied(body: Body) -> Body:
    """The same with kubectl's memory of what was applied."""
    text = json.dumps(manifest(body["metadata"]["name"], body["metadata"]["namespace"], body["spec"])) + "\n"
    annotations = {**body["metadata"].get("annotations", {}), LAST_APPLIED: text}
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def source(spec_: Mapping[str, Any]) -> RevisionSource:
    """The revision of a spec, as a history keeps it."""
    return source_of(VoiceModel.parse(voice_body(spec_=spec_)).spec)


def pod_body(
    name: str = "pod-0",
    *,
    namespace: str = "voices",
    uid: str | None = None,
    version: int = 1,
    labels: Mapping[str, str] | None = None,
    ip: str | None = "10.0.0.7",
    phase: str = "Running",
    ready: bool = True,
    ports: tuple[Mapping[str, Any], ...] = (),
    native_sidecar: bool = False,
    **metadata: Any,
) -> Body:
    """A Pod of the fleet `default`."""
    container = {"name": "sidecar", "ports": [dict(port) for port in ports]}
    status: Body = {
        "phase": phase,
        "conditions": [
            {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": "2026-11-20T10:01:00Z"}
        ],
    }
    if ip is not None:
        status["podIP"] = ip
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-11-20T10:00:00Z",
            "labels": dict(labels if labels is not None else {"segue.dev/fleet": "default"}),
            **metadata,
        },
        "spec": {"initContainers" if native_sidecar else "containers": [container]},
        "status": status,
    }
