"""A VoiceModel as people handle it: applied with kubectl, edited, waited for by a watch with a deadline.

Separate because every case reads as a story about one or two of these.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.cluster import TestCluster
from tests.support.pods.kube import VOICES, Kube, Object
from tests.support.pods.versions import Version, manifest

from segue.model import Phase, Status, VoiceModel
from segue.model.status import ConditionStatus

ROLLOUT_S = 180.0

Told = Callable[[VoiceModel], bool]


@dataclass(slots=True, kw_only=True)
class Voice:
    """One voice by its name.

    Attributes
    ----------
    policies
        Laid over the quick policy in every `apply`.
    on_version
        Told of every version that is asked for, so that its answers can be judged.
    """

    name: str
    namespace: str
    cluster: TestCluster
    kube: Kube
    policies: tuple[Mapping[str, Any], ...] = ()
    on_version: Callable[[str, Version], None] = lambda _name, _version: None

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def collection(self) -> str:
        """Path of the namespace's voices."""
        return f"{VOICES}/namespaces/{self.namespace}/voicemodels"

    @property
    def path(self) -> str:
        """Path of this one."""
        return f"{self.collection}/{self.name}"

    # --- what people do -----------------------------------------------------------------------------------------------

    def manifest(self, version: Version, *policies: Mapping[str, Any]) -> str:
        """What stands in the YAML file, as JSON."""
        self.on_version(self.name, version)
        return json.dumps(manifest(self.name, self.namespace, version, *self.policies, *policies))

    def apply(self, version: Version, *policies: Mapping[str, Any], manager: str | None = None) -> str:
        """`kubectl apply`, client-side, or server-side by `manager`; the revision that was asked for."""
        self.apply_text(self.manifest(version, *policies), manager=manager)
        return version.revision

    def apply_text(self, text: str, *, manager: str | None = None) -> None:
        """`kubectl apply` of a manifest."""
        more = ("--server-side", "--field-manager", manager, "--force-conflicts") if manager is not None else ()
        self.kubectl("apply", "-f", "-", *more, input=text)

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """Run it in the voice's namespace; its stdout."""
        done = self.cluster.kubectl("-n", self.namespace, *arguments, input=input)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return str(done.stdout)

    def edit(self, version: Version) -> str:
        """Change what is heard by one patch, whatever else was written meanwhile; the revision."""
        self.on_version(self.name, version)
        heard = {"options": None, "reference": None, **version.spec}
        self.patch({name: value for name, value in heard.items() if name != "engine"})
        return version.revision

    def patch(self, spec: Mapping[str, Any]) -> Object:
        """Merge into the spec."""
        return self.kube.patch(self.path, {"spec": dict(spec)})

    def follow(self, *policies: Mapping[str, Any]) -> None:
        """Write these policies into the spec, and into every manifest from now on."""
        self.policies += policies
        for policy in policies:
            self.patch(policy)

    def annotate(self, **tokens: str) -> None:
        """Set `segue.dev/NAME` annotations: promote, retry, rollback."""
        annotations = {f"segue.dev/{name}": value for name, value in tokens.items()}
        self.kube.patch(self.path, {"metadata": {"annotations": annotations}})

    def delete(self) -> None:
        """Delete it; nothing is waited for."""
        self.kube.delete(self.path)

    # --- what they see ------------------------------------------------------------------------------------------------

    def object(self) -> Object:
        """As it stands in the API server."""
        found = self.kube.get(self.path)
        assert found is not None, f"{self.key} does not exist"
        return found

    def read(self) -> VoiceModel:
        """The same, read."""
        return VoiceModel.parse(self.object())

    @property
    def status(self) -> Status:
        """Of now."""
        return self.read().status

    def wait(self, reached: Told, *, what: str, within_s: float = ROLLOUT_S) -> VoiceModel:
        """Follow it until it is so; fails with where it stands instead."""
        deadline = time.monotonic() + within_s
        voice: VoiceModel | None = None
        for found in self.kube.follow(self.collection, self.name, until_s=deadline):
            voice = VoiceModel.parse(found) if found is not None else None
            if voice is not None and reached(voice):
                return voice
            if time.monotonic() >= deadline:
                break
        raise AssertionError(f"{self.key}: not within {within_s:g} s: {what}; {describe(voice)}")

    def wait_phase(self, *phases: Phase, target: str | None = None, within_s: float = ROLLOUT_S) -> VoiceModel:
        """Until it stands in one of these phases (with this target)."""

        def reached(voice: VoiceModel) -> bool:
            return voice.status.phase in phases and target in (None, voice.status.target_revision)

        return self.wait(reached, what=f"phase {', '.join(phases)}", within_s=within_s)

    def wait_reason(self, reason: str, *, within_s: float = ROLLOUT_S) -> VoiceModel:
        """Until the status gives this reason."""
        return self.wait(lambda voice: voice.status.reason == reason, what=f"reason {reason}", within_s=within_s)

    def wait_promoted(self, revision: str, *, within_s: float = ROLLOUT_S) -> VoiceModel:
        """Until the revision is confirmed, and the conditions say so."""

        def reached(voice: VoiceModel) -> bool:
            status, promoted = voice.status, voice.status.condition("Promoted")
            is_true = promoted is not None and promoted.status is ConditionStatus.TRUE
            return status.phase is Phase.IDLE and status.stable_revision == revision and is_true

        return self.wait(reached, what=f"{revision[:10]} is promoted", within_s=within_s)

    def wait_rolled_back(self, revision: str, *, within_s: float = ROLLOUT_S) -> VoiceModel:
        """Until the revision is remembered as failed and the rollback is over."""

        def reached(voice: VoiceModel) -> bool:
            return voice.status.phase is Phase.IDLE and has_failed(voice.status, revision)

        return self.wait(reached, what=f"{revision[:10]} went back", within_s=within_s)

    def wait_gone(self, *, within_s: float = 30.0) -> None:
        """Until the object does not exist."""
        for found in self.kube.follow(self.collection, self.name, until_s=time.monotonic() + within_s):
            if found is None:
                return
        raise AssertionError(f"{self.key} still exists after {within_s:g} s")


def has_failed(status: Status, revision: str) -> bool:
    """Whether the revision is in the memory of failures."""
    return any(each.revision == revision for each in status.failed_revisions)


def describe(voice: VoiceModel | None) -> str:
    """Where it stands, for a failure's message."""
    if voice is None:
        return "it does not exist"
    status = voice.status
    return (
        f"it stands in {status.phase} ({status.reason}: {status.message}), generation {voice.metadata.generation}, "
        f"observed {status.observed_generation}, target {(status.target_revision or 'none')[:10]}, "
        f"stable {(status.stable_revision or 'none')[:10]}, attempt {status.attempt}, "
        f"last rollback: {status.last_rollback.message if status.last_rollback else 'none'}"
    )
