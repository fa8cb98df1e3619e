"""Which pods are a fleet, and which voices may use it.

Pure, and the only place that knows both ways: fleets that the operator's configuration names (their pods are chosen by
its selector, so that no tenant's label makes a pod one of them), and all others, which are the pods of the voice's own
namespace labelled `segue.dev/fleet`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from segue.errors import InvalidVoiceModel
from segue.model import VoiceModel
from segue_operator.config import ClusterFleet
from segue_operator.fleet.records import FleetKey

FLEET_LABEL = "segue.dev/fleet"


@dataclass(frozen=True, slots=True)
class Fleets:
    """The configured fleets by name; whatever has none of these names goes by label."""

    configured: Mapping[str, ClusterFleet]

    def of_voice(self, voice: VoiceModel) -> FleetKey | None:
        """The fleet that serves a voice; None where its namespace may not use it."""
        name, namespace = voice.spec.fleet, voice.metadata.namespace
        fleet = self.configured.get(name)
        if fleet is None:
            return FleetKey(namespace=namespace, name=name)
        return FleetKey(namespace=fleet.namespace, name=name) if _admits(fleet, namespace) else None

    def of_pod(self, namespace: str, labels: Mapping[str, str]) -> FleetKey | None:
        """The fleet that a pod belongs to."""
        for name, fleet in self.configured.items():
            if fleet.namespace == namespace and fleet.pod_selector.items() <= labels.items():
                return FleetKey(namespace=namespace, name=name)
        label = labels.get(FLEET_LABEL)
        return FleetKey(namespace=namespace, name=label) if label and label not in self.configured else None

    def require_allowed(self, voice: VoiceModel) -> None:
        """Refuse a voice before any pod hears of it.

        Raises
        ------
        InvalidVoiceModel
            Its namespace may not use the fleet, or a URI is outside what the fleet reads for that namespace.
        """
        fleet = self.configured.get(voice.spec.fleet)
        if fleet is None:
            return
        namespace = voice.metadata.namespace
        if not _admits(fleet, namespace):
            raise InvalidVoiceModel(
                f"fleet {voice.spec.fleet} serves no voices of namespace {namespace}; "
                "an administrator can add it to allowedNamespaces",
                field="spec.fleet",
            )
        prefixes = [
            prefix
            for rule in fleet.sources
            if not rule.namespaces or namespace in rule.namespaces
            for prefix in rule.uri_prefixes
        ]
        if fleet.sources:
            _require_under(voice, prefixes)


def _admits(fleet: ClusterFleet, namespace: str) -> bool:
    return namespace == fleet.namespace or namespace in fleet.allowed_namespaces or "*" in fleet.allowed_namespaces


def _require_under(voice: VoiceModel, prefixes: Sequence[str]) -> None:
    uris = {f"spec.weights.{name}.uri": source.uri for name, source in voice.spec.weights.items()}
    if voice.spec.reference is not None:
        uris["spec.reference.uri"] = voice.spec.reference.uri
    if voice.spec.verification.signature.uri is not None:
        uris["spec.verification.signature.uri"] = voice.spec.verification.signature.uri
    for field, uri in uris.items():
        if not any(_is_under(uri, prefix) for prefix in prefixes):
            listed = ", ".join(prefixes) or "none"
            message = f"{uri} is outside the sources of fleet {voice.spec.fleet} for this namespace ({listed})"
            raise InvalidVoiceModel(message, field=field)


def _is_under(uri: str, prefix: str) -> bool:
    if ".." in unquote(urlsplit(uri).path).replace("\\", "/").split("/"):
        return False
    return uri == prefix or uri.startswith(prefix if prefix.endswith("/") else f"{prefix}/")
