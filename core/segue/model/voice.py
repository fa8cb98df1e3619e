"""The `VoiceModel` object as a whole, as it stands in a YAML file or comes from the API server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError

from segue.errors import InvalidVoiceModel
from segue.model.base import SpecModel, StatusModel
from segue.model.explain import explain
from segue.model.scalars import Time
from segue.model.spec import Name, VoiceSpec
from segue.model.status import Status

API_VERSION: Literal["segue.dev/v1alpha1"] = "segue.dev/v1alpha1"
KIND: Literal["VoiceModel"] = "VoiceModel"

RETRY_ANNOTATION = "segue.dev/retry"
PROMOTE_ANNOTATION = "segue.dev/promote"
ROLLBACK_ANNOTATION = "segue.dev/rollback"


class Metadata(StatusModel):
    """What Segue reads of Kubernetes' ObjectMeta; the rest is ignored."""

    name: Name = Field(description="Name of the voice: what a client puts into `voice`.")
    namespace: Name = Field(default="default", description="Namespace.")
    uid: str = Field(default="", description="Set by the API server, or by the folder adapter.")
    generation: int = Field(default=0, description="Rises with every change of the spec.", ge=0)
    resource_version: str = Field(default="", description="Rises with every change.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations; tokens are here.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels.")
    creation_timestamp: Time | None = Field(default=None, description="When it was made.")
    deletion_timestamp: Time | None = Field(default=None, description="When its deletion was asked for.")
    managed_fields: tuple[dict[str, Any], ...] = Field(default=(), description="Who owns which field.")


class VoiceModel(SpecModel):
    """A voice: what it should be, and what Segue says about it."""

    model_config = ConfigDict(title=KIND)

    api_version: Literal["segue.dev/v1alpha1"] = Field(default=API_VERSION, description="segue.dev/v1alpha1")
    kind: Literal["VoiceModel"] = Field(default=KIND, description="VoiceModel")
    metadata: Metadata = Field(description="Standard object metadata.")
    spec: VoiceSpec = Field(description="What a person asks for.")
    status: Status = Field(default=Status(), description="What Segue says about it.")

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @classmethod
    def parse(cls, document: Mapping[str, Any], *, file: str | None = None) -> Self:
        """Read a plain document (from JSON or the API server).

        Raises
        ------
        InvalidVoiceModel
            With the first mistake's field and how many more there are.
        """
        try:
            return cls.model_validate(document, by_alias=True, by_name=False)
        except ValidationError as error:
            first, *rest = explain(error)
            more = f" (and {len(rest)} more)" if rest else ""
            raise InvalidVoiceModel(first.message + more, file=file, field=first.field) from error

    def dump(self) -> dict[str, Any]:
        """Plain JSON values with the outside names, absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def defaulted(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with every default written out, as the API server would store it (status left out).

    Raises
    ------
    InvalidVoiceModel
        See `VoiceModel.parse`.
    """
    dumped = VoiceModel.parse(document).dump()
    dumped.pop("status", None)
    return dumped
