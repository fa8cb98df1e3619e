"""The `VoiceModel`: types, YAML, revision hash, CRD.

Start at `voice.py` (the object), `spec.py` (what a person asks for) and `status.py` (what Segue answers).
"""

from segue.model.revision import missing_digests, revision_of, short, source_of, with_digests
from segue.model.spec import VoiceSpec
from segue.model.status import Condition, ConditionStatus, Phase, RevisionSource, Status
from segue.model.voice import (
    PROMOTE_ANNOTATION,
    RETRY_ANNOTATION,
    ROLLBACK_ANNOTATION,
    Metadata,
    VoiceModel,
    defaulted,
)

__all__ = [
    "PROMOTE_ANNOTATION",
    "RETRY_ANNOTATION",
    "ROLLBACK_ANNOTATION",
    "Condition",
    "ConditionStatus",
    "Metadata",
    "Phase",
    "RevisionSource",
    "Status",
    "VoiceModel",
    "VoiceSpec",
    "defaulted",
    "missing_digests",
    "revision_of",
    "short",
    "source_of",
    "with_digests",
]
