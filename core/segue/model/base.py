"""What all `VoiceModel` types share: camelCase outside, frozen inside, unknown fields refused in a spec.

CEL rules stand beside the Python validators that say the same, so that `segue validate` and the API server refuse the
same documents with the same words; the CRD generator picks them up from the JSON schema.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class SpecModel(BaseModel):
    """Base of everything a person writes: a field we do not know is a mistake, not an extension."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid", use_attribute_docstrings=False
    )


class StatusModel(BaseModel):
    """Base of everything Segue writes: a field we do not know comes from a newer operator and is ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


def cel(*pairs: tuple[str, str]) -> dict[str, Any]:
    """Schema entry with CEL rules: (rule, message) pairs that the API server enforces."""
    return {"x-kubernetes-validations": [{"rule": each, "message": text} for each, text in pairs]}
