"""From what a person wrote to what a sidecar can fetch: absolute URIs, and digests of local files.

Separate because it is where a folder differs from a cluster: there a spec is complete, here `uri: v2/timbre.bin` means
the file beside the YAML, with whatever is in it now.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from segue.errors import InvalidVoiceModel
from segue.model import RevisionSource, VoiceModel, VoiceSpec, missing_digests, with_digests
from segue.model.spec import Reference, Source
from segue_operator.folder.digests import DigestCache, Unreadable

AnySource = TypeVar("AnySource", bound=Source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A voice with nothing left open.

    Attributes
    ----------
    origins
        Fields whose digest was computed (`weights.NAME`, `reference`): they are not in the YAML.
    spellings
        Absolute URI to how it was written.
    """

    voice: VoiceModel
    origins: tuple[str, ...]
    spellings: dict[str, str]


def resolve(voice: VoiceModel, *, folder: Path, digests: DigestCache) -> Resolved:
    """Make URIs absolute and fill in digests.

    Raises
    ------
    InvalidVoiceModel
        A file that is missing, or a remote one without a digest; the message names the field.
    NotSettled
        A file that is still being written.
    """
    absolute = voice.model_copy(update={"spec": _absolute(voice.spec, folder)})
    spellings = {absolute_uri(each.uri, folder): each.uri for each in _sources(voice.spec)}
    computed: dict[str, str] = {}
    for field, uri in missing_digests(absolute.spec).items():
        path = local_path(uri)
        if path is None:
            raise InvalidVoiceModel(
                f"is required for {uri}: only local files are hashed here; write the file's sha256",
                field=f"spec.{field}.sha256",
            )
        try:
            computed[field] = digests.digest(path)
        except Unreadable as error:
            raise InvalidVoiceModel(str(error), field=f"spec.{field}.uri") from error
    return Resolved(voice=with_digests(absolute, computed), origins=tuple(sorted(computed)), spellings=spellings)


def local_path(uri: str) -> Path | None:
    """The file that a `file:` URI names, None for any other."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None


def absolute_uri(uri: str, folder: Path) -> str:
    """A relative path, or an absolute one, as a `file:` URI; other URIs as they are."""
    if urlsplit(uri).scheme:
        return uri
    return Path(posixpath.normpath(folder / uri)).as_uri()


def relative_uri(uri: str, folder: Path) -> str:
    """As a person would write it in a YAML of this folder: a path beside or below it, else the URI."""
    path = local_path(uri)
    if path is None or not path.is_relative_to(folder):
        return uri
    return path.relative_to(folder).as_posix()


def subtrees_of(
    source: RevisionSource, *, folder: Path, digests: DigestCache, spellings: Mapping[str, str]
) -> dict[str, Any]:
    """`weights`, `reference` and `options` as they are written back into a YAML; None for what it lacks.

    A digest is written where the file it names is not local, or holds something else by now: otherwise the folder
    computes the same one, and the YAML stays as people write it.
    """
    weights = {name: _written(each, folder, digests, spellings) for name, each in source.weights.items()}
    reference = _written(source.reference, folder, digests, spellings) if source.reference is not None else None
    return {"weights": weights, "reference": reference, "options": dict(source.options) or None}


def _written(source: Source, folder: Path, digests: DigestCache, spellings: Mapping[str, str]) -> dict[str, Any]:
    written = source.model_dump(mode="json", by_alias=True, exclude_none=True)
    written["uri"] = spellings.get(source.uri) or relative_uri(source.uri, folder)
    if source.sha256 is not None and _holds(source, digests):
        del written["sha256"]
    return written


def _holds(source: Source, digests: DigestCache) -> bool:
    path = local_path(source.uri)
    if path is None:
        return False
    try:
        return digests.digest(path) == source.sha256
    except Unreadable:
        return False


def _sources(spec: VoiceSpec) -> list[Source]:
    return [*spec.weights.values(), *([spec.reference] if spec.reference is not None else [])]


def _absolute(spec: VoiceSpec, folder: Path) -> VoiceSpec:
    weights = {name: _moved(source, folder) for name, source in spec.weights.items()}
    reference: Reference | None = _moved(spec.reference, folder) if spec.reference is not None else None
    signature = spec.verification.signature
    if signature.uri is not None:
        signature = signature.model_copy(update={"uri": absolute_uri(signature.uri, folder)})
    verification = spec.verification.model_copy(update={"signature": signature})
    return spec.model_copy(update={"weights": weights, "reference": reference, "verification": verification})


def _moved(source: AnySource, folder: Path) -> AnySource:
    return source.model_copy(update={"uri": absolute_uri(source.uri, folder)})
