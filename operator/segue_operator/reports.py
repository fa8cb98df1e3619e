"""Figures of full verifications, kept after the pods let the revision go.

Separate from the status, which holds intent: "why was it refused last night?" must be answered in the morning, when the
revision is on no pod any more.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from segue.wire import ProbeKind, ProbePhase, ProbeReport, StateDocument
from segue_operator.files import write_atomically

KEPT = 8
_FINISHED = frozenset({ProbePhase.PASSED, ProbePhase.FAILED})

logger = logging.getLogger(__name__)


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    reports: dict[str, ProbeReport] = {}


@dataclass(slots=True)
class ReportBook:
    """The latest full report of each revision, `KEPT` revisions a voice, in one file a voice."""

    directory: Path
    _known: dict[str, dict[str, ProbeReport]] = field(default_factory=dict)

    def note(self, state: StateDocument) -> None:
        """Keep what is new in a pod's state."""
        for key, voice in state.voices.items():
            known = self._of(key)
            fresh = {
                name: revision.report
                for name, revision in voice.revisions.items()
                if revision.report is not None and _is_verdict(revision.report) and known.get(name) != revision.report
            }
            if fresh:
                self._keep(key, fresh)

    def of(self, key: str) -> Mapping[str, ProbeReport]:
        """By revision, the latest first."""
        return self._of(key)

    def forget(self, key: str) -> None:
        """The voice is gone."""
        self._known.pop(key, None)
        self._path(key).unlink(missing_ok=True)

    def _keep(self, key: str, fresh: Mapping[str, ProbeReport]) -> None:
        others = {name: report for name, report in self._of(key).items() if name not in fresh}
        kept = dict(list({**fresh, **others}.items())[:KEPT])
        self._known[key] = kept
        content = {name: report.model_dump(mode="json", by_alias=True) for name, report in kept.items()}
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self._path(key), json.dumps({"reports": content}, ensure_ascii=False))
        except OSError as error:
            logger.warning("%s: its figures could not be kept: %s", key, error, extra={"voice": key})

    def _of(self, key: str) -> dict[str, ProbeReport]:
        if key not in self._known:
            self._known[key] = _read(self._path(key))
        return self._known[key]

    def _path(self, key: str) -> Path:
        namespace, _, name = key.partition("/")
        return self.directory / f"{namespace}.{name}.json"


def _is_verdict(report: ProbeReport) -> bool:
    return report.kind is ProbeKind.FULL and report.phase in _FINISHED


def _read(path: Path) -> dict[str, ProbeReport]:
    try:
        return dict(_Kept.model_validate_json(path.read_bytes()).reports)
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        logger.warning("figures in %s are left out: %s", path, error)
        return {}
