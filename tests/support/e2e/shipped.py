"""Versions whose files are in the sidecar's image, so that a cluster needs no file server to be tested in.

Separate from `tests/support/pods/versions.py`, whose files lie where processes of this machine read them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import sha256_of
from tests.support.pods.versions import Version
from typing_extensions import override

from segue_cli.examples import examples_dir

IN_IMAGE = "file:///usr/share/segue/examples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped(Version):
    """A folder of examples/; `weights` are the same files here, to compare answers with.

    Attributes
    ----------
    root
        URI below which the sidecars find examples/.
    """

    root: str = IN_IMAGE

    @property
    @override
    def spec(self) -> dict[str, Any]:
        """What of a spec is heard."""
        here = examples_dir()
        weights = {
            name: {"uri": f"{self.root}/{path.relative_to(here)}", "sha256": sha256_of(path)}
            for name, path in self.weights.items()
        }
        return {"engine": "demo", "weights": weights, **copy.deepcopy(dict(self.content))}


def shipped(folder: str, *, root: str = IN_IMAGE) -> Shipped:
    """The version in `examples/FOLDER`."""
    here: Path = examples_dir() / folder
    weights = {name: here / f"{name}.pth" for name in ("prosody", "timbre")}
    return Shipped(label=folder, weights=weights, root=root)


FIRST = "voices/narrator/v1"
LIVELIER = "updates/narrator/v2"
WRONG_WORDS = "updates/narrator/broken"
FAILS_ON_QUESTIONS = "updates/narrator/fails-live"
