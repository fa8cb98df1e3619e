"""Which running `segue up` does a command mean, and which YAML file does a voice come from?

Separate because every command but `up` asks it, in the same order: what was said on the command line, what belongs to
the current folder, then the only one that runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from segue.errors import SegueError
from segue_cli.client import OperatorClient
from segue_cli.layout import Layout, default_state, registered
from segue_cli.up.lock import is_running, read_up_file

StateOption = Annotated[
    Path | None,
    typer.Option("--state", envvar="SEGUE_STATE", help="State directory of the segue up that is meant."),
]
VoicesOption = Annotated[
    Path | None,
    typer.Option("--voices", envvar="SEGUE_VOICES", help="Folder of the VoiceModel files that are meant."),
]
NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the voice.")]
VoiceArgument = Annotated[str, typer.Argument(metavar="VOICE", help="Name of the voice, or namespace/name.")]


class NotRunning(SegueError):
    """No `segue up` that could be meant."""


@dataclass(frozen=True, slots=True)
class Running:
    """A `segue up` that runs."""

    layout: Layout
    up: dict[str, Any]

    @property
    def client(self) -> OperatorClient:
        """Its operator."""
        return OperatorClient(Path(self.up.get("operator") or self.layout.operator_socket))

    @property
    def voices(self) -> Path:
        """Its folder."""
        return Path(self.up["voices"])

    @property
    def server(self) -> str:
        """URL of its speech API."""
        return str(self.up["server"])


RESOURCE_NAMES = ("voicemodel.segue.dev", "voicemodels.segue.dev", "voicemodel", "voicemodels", "vmodel")
"""What kubectl calls a voice: `get -o name` writes the first."""


def key_of(voice: str, *, namespace: str = "default") -> str:
    """`namespace/name` of what was typed: a name, `namespace/name`, or kubectl's `voicemodel/name`."""
    before, _, name = voice.rpartition("/")
    return f"{namespace}/{name}" if not before or before in RESOURCE_NAMES else voice


def find_running(state: Path | None = None, voices: Path | None = None) -> Running:
    """The `segue up` that is meant.

    Raises
    ------
    NotRunning
        None, or several and nothing says which.
    """
    found = find_running_or_none(state, voices)
    if found is not None:
        return found
    where = f" on {state or voices}" if state or voices else ""
    raise NotRunning(f"no segue up runs{where}; start one with: segue up {voices or 'VOICES'}")


def find_running_or_none(state: Path | None = None, voices: Path | None = None) -> Running | None:
    """As `find_running`, with None where none runs; several that could be meant are still an error."""
    if state is not None:
        return _running(Layout(state.absolute()))
    if voices is not None:
        return next((each for each in _all_running() if each.voices == voices.resolve()), None)
    for folder in usual_folders():
        if (here := _running(Layout(default_state(folder)))) is not None:
            return here
    everything = _all_running()
    if len(everything) > 1:
        listed = ", ".join(str(each.voices) for each in everything)
        raise NotRunning(f"more than one segue up runs ({listed}); say which with --voices or --state")
    return everything[0] if everything else None


def find_folder(state: Path | None = None, voices: Path | None = None) -> Path:
    """The folder of VoiceModel files that is meant, whether or not anything runs on it.

    Raises
    ------
    NotRunning
        None can be found.
    """
    running = find_running_or_none(state, voices)
    if running is not None:
        return running.voices
    if voices is not None and voices.is_dir():
        return voices.resolve()
    for folder in usual_folders():
        if folder.is_dir() and any(folder.glob("*.y*ml")):
            return folder.resolve()
    raise NotRunning("no segue up runs and no folder of voices is here; name one with --voices")


def usual_folders() -> tuple[Path, ...]:
    """Where voices are looked for when nobody says where."""
    here = Path.cwd()
    return (here, here / "voices", here / "examples" / "voices")


def _all_running() -> list[Running]:
    found = (_running(layout) for layout in registered())
    return [each for each in found if each is not None]


def _running(layout: Layout) -> Running | None:
    if not is_running(layout):
        return None
    up = read_up_file(layout)
    return Running(layout, up) if up.get("voices") and up.get("server") else None
