"""The `VoiceModel`: types, YAML, revision hash, CRD.

Start at `voice.py` (the object), `spec.py` (what a person asks for) and `status.py` (what Segue answers).
"""

from segue.model.documents import DocumentSet, LocatedVoice, load_documents, read_documents, read_folder
from segue.model.edit import REMOVE, edit_yaml, file_digest
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
    "REMOVE",
    "RETRY_ANNOTATION",
    "ROLLBACK_ANNOTATION",
    "Condition",
    "ConditionStatus",
    "DocumentSet",
    "LocatedVoice",
    "Metadata",
    "Phase",
    "RevisionSource",
    "Status",
    "VoiceModel",
    "VoiceSpec",
    "defaulted",
    "edit_yaml",
    "file_digest",
    "load_documents",
    "missing_digests",
    "read_documents",
    "read_folder",
    "revision_of",
    "short",
    "source_of",
    "with_digests",
]
