"""The API server as the place where VoiceModels and their statuses live: `ports.Cluster`.

Every decision is made on an object that was read for it, past every cache. A spec that cannot be used (written for a
newer operator, naming a fleet or a source that its namespace may not use) changes nothing: the voice goes on under the
last one that could, and says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from segue.errors import InvalidVoiceModel, SegueError
from segue.model import Metadata, Status, VoiceModel, VoiceSpec, revision_of
from segue.model.voice import API_VERSION, KIND
from segue.rollout import Event, RevertSpec, spec_owner
from segue_operator.fleet.records import Holding
from segue_operator.kubernetes.api import (
    FIELD_MANAGER,
    JSON_PATCH,
    Api,
    ApiRefused,
    Body,
    ObjectConflict,
    ObjectNotFound,
    voice_path,
)
from segue_operator.kubernetes.revert import revert_patch
from segue_operator.kubernetes.seen import SeenVoices, key_of
from segue_operator.ports import Problem, WriteConflict

_UNPROCESSABLE = 422
"""A `test` of a JSON patch that does not hold, or an object that breaks a rule."""

logger = logging.getLogger(__name__)


class UnusableVoice(SegueError):
    """A VoiceModel that cannot be used, and no earlier spec of it is known."""


class RevertRefused(SegueError):
    """The earlier version may not be written back as it is; it is tried again."""


@dataclass(slots=True, kw_only=True)
class KubernetesCluster:
    """The adapter. Everything runs on one event loop.

    Attributes
    ----------
    require_allowed
        Raises `InvalidVoiceModel` for a voice that its fleet does not take.
    tell
        Publishes an Event about a voice.
    complete
        Set once everything was listed.
    """

    api: Api
    require_allowed: Callable[[VoiceModel], None]
    tell: Callable[[str, Event], None]
    seen: SeenVoices = field(default_factory=SeenVoices)
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    _usable: dict[str, VoiceModel] = field(default_factory=dict)
    _gone: dict[str, VoiceModel] = field(default_factory=dict)
    _problems: dict[str, Problem] = field(default_factory=dict)

    def voices(self) -> Sequence[VoiceModel]:
        """See `ports.Cluster`."""
        usable = (self._parsed(body) for body in self.seen.bodies.values())
        return [voice for voice in usable if voice is not None]

    def keys(self) -> frozenset[str]:
        """See `ports.Cluster`."""
        return frozenset(self.seen.bodies.keys() | self._gone.keys())

    async def read(self, key: str) -> VoiceModel | None:
        """See `ports.Cluster`.

        Raises
        ------
        UnusableVoice
            The spec cannot be used and no earlier one is known.
        ApiUnavailable, ApiRefused
            Nothing can be said at the moment.
        """
        try:
            body = await self.api.call("GET", voice_path(key))
        except ObjectNotFound:
            self._vanished(key)
            return None
        return self._current(key, body)

    async def deleted(self, key: str) -> VoiceModel | None:
        """See `ports.Cluster`."""
        return self._gone.get(key)

    async def forget(self, key: str) -> None:
        """See `ports.Cluster`. Where the object is there again, its loop begins anew."""
        self._gone.pop(key, None)
        self.seen.wake({key})

    async def write_status(self, voice: VoiceModel, status: Status) -> VoiceModel:
        """See `ports.Cluster`."""
        namespace, name = voice.metadata.namespace, voice.metadata.name
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": voice.metadata.uid,
                "resourceVersion": voice.metadata.resource_version,
            },
            "spec": self._read_as(voice)["spec"],
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        try:
            written = await self.api.call(
                "PUT", voice_path(voice.key, "status"), body=body, query={"fieldManager": FIELD_MANAGER}
            )
        except ObjectNotFound as error:
            raise WriteConflict(str(error)) from error
        self.seen.remember(written)
        metadata = voice.metadata.model_copy(update={"resource_version": written["metadata"]["resourceVersion"]})
        return voice.model_copy(update={"metadata": metadata, "status": status})

    async def revert_spec(self, voice: VoiceModel, revert: RevertSpec) -> None:
        """See `ports.Cluster`.

        Raises
        ------
        RevertRefused
            The API server does not take the earlier version.
        """
        if voice.metadata.generation != revert.generation or revision_of(voice.spec) != revert.failed:
            raise WriteConflict(f"{voice.key}: the spec is not the one that failed any more")
        if voice.key in self._problems:
            raise RevertRefused(f"{voice.key}: the spec was changed to one that cannot be used; it is left as it is")
        patch = revert_patch(self._read_as(voice), revert.to)
        try:
            written = await self.api.call(
                "PATCH",
                voice_path(voice.key),
                body=patch,
                content_type=JSON_PATCH,
                query={"fieldManager": FIELD_MANAGER},
            )
        except ObjectNotFound as error:
            raise WriteConflict(str(error)) from error
        except ApiRefused as error:
            await self._explain(voice, error)
            raise RevertRefused(str(error)) from error
        self.seen.remember(written)
        self.seen.wake({voice.key})

    def spec_owner(self, voice: VoiceModel) -> str | None:
        """See `ports.Cluster`."""
        return spec_owner(voice.metadata)

    def problems(self) -> Sequence[Problem]:
        """See `ports.Cluster`."""
        return tuple(self._problems.values())

    async def changes(self) -> AsyncIterator[frozenset[str]]:
        """See `ports.Cluster`."""
        await self.complete.wait()
        yield self.keys()
        while True:
            yield await self.seen.changed()

    async def adopt_orphans(self, held: Iterable[Holding]) -> None:
        """Take charge of voices that were deleted while no operator ran: pods hold them, and no object does."""
        unknown = {each.voice: each for each in held if each.voice not in self.keys()}
        for key, holding in sorted(unknown.items()):
            try:
                self.seen.remember(await self.api.call("GET", voice_path(key)))
            except ObjectNotFound:
                logger.info("%s does not exist any more, and pods hold it", key, extra={"voice": key})
                self._gone[key] = released_voice(key, uid=holding.uid, fleet=holding.fleet.name)
            except ApiRefused as error:
                logger.debug("%s is not ours to look at: %s", key, error)
                continue
            self.seen.wake({key})

    def reference_to(self, key: str) -> Body | None:
        """How an Event names the voice."""
        body = self.seen.bodies.get(key)
        gone = self._gone.get(key)
        if body is None and gone is None:
            return None
        namespace, _, name = key.partition("/")
        uid = body["metadata"]["uid"] if body is not None else gone.metadata.uid if gone is not None else ""
        return {"apiVersion": API_VERSION, "kind": KIND, "namespace": namespace, "name": name, "uid": uid}

    def revision_of(self, key: str) -> str | None:
        """What the voice is about, as far as its status was seen: what is rolled out, else what is served."""
        status = (self.seen.bodies.get(key) or {}).get("status") or {}
        return status.get("targetRevision") or status.get("activeRevision")

    # --- reading --------------------------------------------------------------------------------------------------

    def _current(self, key: str, body: Body) -> VoiceModel | None:
        """The voice of an object that was just read; None where an earlier one of that name must be let go first."""
        self.seen.remember(body)
        gone = self._gone.get(key) or self._replaced(key, body)
        if gone is not None:
            if gone.spec.fleet != body["spec"].get("fleet", "default"):
                self._gone[key] = gone
                self._usable.pop(key, None)
                return None
            self._gone.pop(key, None)  # the first command of the new uid takes its place on the same pods
        voice = self._parsed(body)
        if voice is not None:
            slim = voice.metadata.model_copy(update={"managed_fields": ()})
            self._usable[key] = voice.model_copy(update={"metadata": slim})
            return voice
        return self._under_the_last_spec(key, body)

    def _replaced(self, key: str, body: Body) -> VoiceModel | None:
        """The voice that had this name before, where this is another object."""
        before = self._usable.get(key)
        return before if before is not None and before.metadata.uid != body["metadata"]["uid"] else None

    def _parsed(self, body: Body) -> VoiceModel | None:
        key = key_of(body)
        try:
            voice = VoiceModel.parse(body)
            revision_of(voice.spec)
            self.require_allowed(voice)
        except InvalidVoiceModel as error:
            self._refuse(key, error)
            return None
        self._problems.pop(key, None)
        return voice

    def _refuse(self, key: str, error: InvalidVoiceModel) -> None:
        problem = Problem(file=f"VoiceModel {key}", field=error.field, message=error.message, voices=(key,))
        if self._problems.get(key) != problem:
            self._problems[key] = problem
            said = f"{error.field}: {error.message}" if error.field else error.message
            self.tell(key, Event(reason="InvalidSpec", message=f"{said}; what runs stays as it was", warning=True))

    def _under_the_last_spec(self, key: str, body: Body) -> VoiceModel:
        """The object as it is, with the spec (and its generation) that could be used last."""
        last = self._usable.get(key)
        if last is None or last.metadata.uid != body["metadata"]["uid"]:
            raise UnusableVoice(str(self._problems[key]))
        status = Status.model_validate(body.get("status") or {})
        metadata = last.metadata.model_copy(update={"resource_version": body["metadata"]["resourceVersion"]})
        return last.model_copy(update={"metadata": metadata, "status": status})

    def _vanished(self, key: str) -> None:
        """The API server says that it does not exist: whatever it was is to be let go by the pods."""
        body = self.seen.drop(key)
        last = self._usable.pop(key, None)
        self._problems.pop(key, None)
        if key in self._gone or body is None:
            return
        fleet = (body.get("spec") or {}).get("fleet", "default")
        self._gone[key] = last or released_voice(key, uid=body["metadata"]["uid"], fleet=fleet)

    # --- writing --------------------------------------------------------------------------------------------------

    def _read_as(self, voice: VoiceModel) -> Body:
        """The object behind `voice`, whole; nobody may have seen a later one."""
        body = self.seen.bodies.get(voice.key)
        version = voice.metadata.resource_version
        if body is None or body["metadata"]["resourceVersion"] != version:
            raise WriteConflict(f"{voice.key}: version {version} is not the latest that was seen")
        return body

    async def _explain(self, voice: VoiceModel, error: ApiRefused) -> None:
        """Tell a `test` that did not hold from an object that breaks a rule: both are 422."""
        if error.status != _UNPROCESSABLE:
            return
        now: dict[str, Any] = (await self.api.call("GET", voice_path(voice.key)))["metadata"]
        if (now["uid"], now["resourceVersion"]) != (voice.metadata.uid, voice.metadata.resource_version):
            raise ObjectConflict(f"{voice.key} is at version {now['resourceVersion']} now") from error


def released_voice(key: str, *, uid: str, fleet: str) -> VoiceModel:
    """A voice of which nothing is left but what pods hold: its name, its uid, its fleet."""
    namespace, _, name = key.partition("/")
    spec = VoiceSpec.model_validate(
        {"engine": "demo", "fleet": fleet, "weights": {"any": {"uri": "any"}}, "reference": {"uri": "any"}}
    )
    return VoiceModel(metadata=Metadata(name=name, namespace=namespace, uid=uid), spec=spec)
