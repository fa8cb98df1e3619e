"""What is watched: which kind of object, where, and which of them.

Separate from the watching itself because lists ask for the same, and permissions follow from it: one watch for the
voices, one for the pods that a label makes part of a fleet, one for the pods of each configured fleet. A fleet's
namespace needs no permission but to see its pods.
"""

from __future__ import annotations

from dataclasses import dataclass

from segue_operator.config import KubernetesConfig
from segue_operator.kubernetes.api import object_path
from segue_operator.kubernetes.fleets import FLEET_LABEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One kind of object.

    Attributes
    ----------
    namespaces
        Empty: all of them.
    selector
        Labels, in the API server's own syntax.
    """

    name: str
    group: str
    version: str
    plural: str
    namespaces: tuple[str, ...] = ()
    selector: str = ""

    @property
    def is_voices(self) -> bool:
        """Whether these are VoiceModels; pods otherwise."""
        return self.group != ""

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the API server lists them."""
        namespaces: tuple[str | None, ...] = self.namespaces or (None,)
        return tuple(object_path(self.group, self.version, namespace, self.plural) for namespace in namespaces)


def watches_of(config: KubernetesConfig) -> tuple[Watch, ...]:
    """Everything that an operator with this configuration follows, the voices first."""
    voices = Watch(
        name="voices", group="segue.dev", version="v1alpha1", plural="voicemodels", namespaces=config.namespaces
    )
    labelled = _pods("pods", namespaces=config.namespaces, selector=FLEET_LABEL)
    configured = (
        _pods(f"pods of fleet {name}", namespaces=(fleet.namespace,), selector=_selector(fleet.pod_selector))
        for name, fleet in config.fleets.items()
    )
    return (voices, labelled, *configured)


def _pods(name: str, *, namespaces: tuple[str, ...], selector: str) -> Watch:
    return Watch(name=name, group="", version="v1", plural="pods", namespaces=namespaces, selector=selector)


def _selector(labels: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
