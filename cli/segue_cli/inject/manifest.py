"""Where the sidecar is put in somebody's manifest, without touching what is theirs.

Separate from the shape because reading is where other people's files come in: everything may be missing or otherwise
than we think, and each refusal names file, line and what to do. Comments and indentation stay.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from segue.errors import SegueError
from segue.model.yaml_text import Chunk, dump_chunk, line_of, parse_chunk, split_documents
from segue_cli.inject.shape import SIDECAR, Body, SidecarPlan, config_map, server_mount, sidecar, volumes

KINDS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
FLEET_LABEL = "segue.dev/fleet"
INJECTED = "segue.dev/injected"
"""Annotation of a pod template whose sidecar is ours, and may be put there anew.

It changes with the sidecar's configuration, which is read once, at the start: so pods are replaced.
"""

FS_GROUP = 10000
GRACE_S = 60


class CannotInject(SegueError):
    """A manifest that no sidecar can be added to; the message names file and line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person asked for, but for what the manifest says itself.

    Attributes
    ----------
    container
        Name of the server's container; None: there is only one.
    socket_directory
        Where the server looks for the sidecar's socket (`socketDir` of its configuration).
    plan
        But for the workload's name and the server's user id, which the manifest says.
    """

    container: str | None
    socket_directory: str
    plan: SidecarPlan


def inject(text: str, wish: Wish, *, file: str) -> str:
    """The manifest with a sidecar in its one workload, and the ConfigMap of it as one more document.

    Raises
    ------
    CannotInject
        There is no workload, or more than one; the server's container is not found, or has no user of its own;
        something that is not ours has a name that we need.
    InvalidVoiceModel
        The file is no YAML.
    """
    chunks = split_documents(text)
    documents = [parse_chunk(chunk, file=file) for chunk in chunks]
    found = [index for index, each in enumerate(documents) if _is_workload(each)]
    if len(found) != 1:
        count = f"{len(found)} workloads" if found else "no workload"
        raise CannotInject(f"{file} holds {count}: one of {', '.join(KINDS)} is needed")
    (index,) = found
    target = _Target(documents[index], chunks[index], file)
    plan = target.add(wish)
    ours = {"ConfigMap": plan.config_map}
    kept = [
        dump_chunk(target.document, like=chunk.text) if place == index else chunk.text
        for place, chunk in enumerate(chunks)
        if not _is_ours(documents[place], ours)
    ]
    namespace = target.document["metadata"].get("namespace")
    return _joined([*kept, config_map(plan, namespace=namespace)])


def _is_workload(document: Any) -> bool:
    return isinstance(document, Mapping) and document.get("kind") in KINDS


def _is_ours(document: Any, names: Mapping[str, str]) -> bool:
    if not isinstance(document, Mapping):
        return False
    return (document.get("metadata") or {}).get("name") == names.get(str(document.get("kind")), object())


def _joined(documents: list[str]) -> str:
    """Documents one after the other; the first keeps the beginning that it has."""
    texts = [each if each.endswith("\n") else f"{each}\n" for each in documents]
    return texts[0] + "".join(each if each.startswith("---") else f"---\n{each}" for each in texts[1:])


class _Target:
    """One workload of a file."""

    def __init__(self, document: Any, chunk: Chunk, file: str) -> None:
        self.document = document
        self._chunk = chunk
        self._file = file

    def add(self, wish: Wish) -> SidecarPlan:
        """Put the sidecar in; the plan by which it was made."""
        template = self._mapping("spec", "template")
        pod = self._mapping("spec", "template", "spec")
        metadata = template.setdefault("metadata", {})
        mine = INJECTED in (metadata.get("annotations") or {})
        if not mine:
            self._require_free(pod, taken={each["name"] for each in volumes(wish.plan)})
        server = self._server(pod, wish.container)
        plan = dataclasses.replace(wish.plan, workload=self._name(), server_uid=self._uid(pod, server))
        if plan.uid == plan.server_uid:
            raise self._refusal(f"server and sidecar would both be user {plan.uid}: choose another --uid", "spec")
        _set(metadata, "labels", FLEET_LABEL, plan.fleet)
        _set(metadata, "annotations", INJECTED, plan.fingerprint)
        _guard(pod)
        _replace(pod, "initContainers", [sidecar(plan)], first=True)
        _replace(pod, "volumes", volumes(plan))
        _replace(server, "volumeMounts", [server_mount(wish.socket_directory)])
        return plan

    def _require_free(self, pod: Any, *, taken: Set[str]) -> None:
        """Nobody else's container or volume has a name that we need."""
        needed = {"initContainers": {SIDECAR}, "containers": {SIDECAR}, "volumes": taken}
        for field, names in needed.items():
            for index, each in enumerate(pod.get(field) or ()):
                if (name := each.get("name")) in names:
                    path = ("spec", "template", "spec", field, index)
                    raise self._refusal(f"{field} has a {name} already, which segue inject did not make", *path)

    def _server(self, pod: Any, wanted: str | None) -> Any:
        names = {str(each.get("name")): each for each in pod.get("containers") or ()}
        if wanted is None and len(names) == 1:
            return next(iter(names.values()))
        if wanted in names:
            return names[wanted]
        listed = ", ".join(names) or "none"
        problem = "say which container is the server with --container" if wanted is None else f"no container {wanted}"
        raise self._refusal(f"{problem}; there are: {listed}", "spec", "template", "spec", "containers")

    def _uid(self, pod: Any, server: Any) -> int:
        for holder in (server, pod):
            uid = (holder.get("securityContext") or {}).get("runAsUser")
            if uid is not None:
                return int(uid)
        raise self._refusal(
            f"container {server.get('name')} has no securityContext.runAsUser: the sidecar lets workers of one user in",
            *("spec", "template", "spec", "containers"),
        )

    def _name(self) -> str:
        name = (self.document.get("metadata") or {}).get("name")
        if not name:
            raise self._refusal("the workload has no metadata.name", "metadata")
        return str(name)

    def _mapping(self, *path: str) -> Any:
        node = self.document
        for part in path:
            node = node.get(part) if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping):
            raise self._refusal(f"{'.'.join(path)} is missing", *path)
        return node

    def _refusal(self, problem: str, *path: str | int) -> CannotInject:
        line, _ = line_of(self.document, path, first_line=self._chunk.first_line)
        return CannotInject(f"{self._file}:{line}: {problem}")


def _set(metadata: Any, field: str, name: str, value: str) -> None:
    if not metadata.get(field):
        metadata[field] = {}
    metadata[field][name] = value


def _guard(pod: Any) -> None:
    """What a pod with weights in it has, where its owner said nothing."""
    pod.setdefault("automountServiceAccountToken", False)
    pod.setdefault("terminationGracePeriodSeconds", GRACE_S)
    if not pod.get("securityContext"):
        pod["securityContext"] = {}
    pod["securityContext"].setdefault("fsGroup", FS_GROUP)


def _replace(holder: Any, field: str, added: list[Body], *, first: bool = False) -> None:
    """Put these into a list by name, in the stead of what inject made before; all else stays where it is."""
    if not holder.get(field):
        holder[field] = []
    existing = holder[field]
    names = {each["name"] for each in added}
    for index in reversed(range(len(existing))):
        if existing[index].get("name") in names:
            del existing[index]
    for index, each in enumerate(added):
        existing.insert(index if first else len(existing), each)
