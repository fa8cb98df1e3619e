"""Where do a command's voices live? Options that say so, and the place that follows from them.

A command declares a parameter `place: Place` and no more; `placed` gives it the options in its stead, other ones for
`segue` (a folder, or a cluster if one is named) than for `kubectl segue` (always a cluster). The same options may stand
before the subcommand; what stands nearer to it wins.
"""

from __future__ import annotations

import functools
import inspect
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from segue_cli.finding import StateOption, VoicesOption
from segue_cli.folder_place import FolderPlace
from segue_cli.place import Place

CONTEXT_VARIABLE = "SEGUE_CONTEXT"

NamespaceOption = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace of the voice.")]
ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context", help=f"Cluster that is meant, by its context in the kubeconfig. [env: {CONTEXT_VARIABLE}]"
    ),
]
KubeconfigOption = Annotated[Path | None, typer.Option("--kubeconfig", help="Kubeconfig file of the cluster.")]
AllNamespacesOption = Annotated[
    bool, typer.Option("--all-namespaces", "-A", help="Voices of all namespaces.", show_default=False)
]


class Program(Enum):
    """How the command line was called."""

    SEGUE = "segue"
    PLUGIN = "kubectl segue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What was said about where voices are; None: nothing."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: Path | None = None
    state: Path | None = None
    voices: Path | None = None

    def or_else(self, outer: Where) -> Where:
        """What is said here, else what was said before the subcommand."""
        return Where(
            namespace=self.namespace or outer.namespace,
            context=self.context or outer.context,
            kubeconfig=self.kubeconfig or outer.kubeconfig,
            state=self.state or outer.state,
            voices=self.voices or outer.voices,
        )


_CLUSTER_OPTIONS = {"namespace": NamespaceOption, "context": ContextOption, "kubeconfig": KubeconfigOption}
_FOLDER_OPTIONS = {"state": StateOption, "voices": VoicesOption}


def placed(command: Callable[..., None], program: Program) -> Callable[..., None]:
    """The command with options in the stead of its parameter `place`; as it is where it has none."""
    signature = inspect.signature(command, eval_str=True)
    if "place" not in signature.parameters:
        return command
    options = _CLUSTER_OPTIONS | (_FOLDER_OPTIONS if program is Program.SEGUE else {})

    @functools.wraps(command)
    def run(ctx: typer.Context, **given: Any) -> None:
        said = Where(**{name: given.pop(name) for name in options})
        with open_place(said.or_else(ctx.obj or Where()), program) as place:
            command(place=place, **given)

    own = [each for name, each in signature.parameters.items() if name != "place"]
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [inspect.Parameter(name, keyword, default=None, annotation=kind) for name, kind in options.items()]
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_ONLY, annotation=typer.Context)
    parameters = [context, *(each.replace(kind=keyword) for each in own), *added]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


@contextmanager
def open_place(where: Where, program: Program) -> Iterator[Place]:
    """The place that is meant: a cluster for the plugin, or where one is named; else a folder.

    `SEGUE_CONTEXT` names a cluster too, unless a folder is named; a namespace names neither, since folders have them.
    """
    environment = os.environ.get(CONTEXT_VARIABLE) or None
    names_folder = where.state is not None or where.voices is not None
    context = where.context or (None if names_folder and where.kubeconfig is None else environment)
    if program is Program.SEGUE and context is None and where.kubeconfig is None:
        yield FolderPlace(namespace=where.namespace, state=where.state, voices=where.voices)
        return
    with _cluster(where, context, program) as place:
        yield place


@contextmanager
def _cluster(where: Where, context: str | None, program: Program) -> Iterator[Place]:
    from segue_cli.cluster.api import VoiceApi
    from segue_cli.cluster.kubeconfig import find_access
    from segue_cli.cluster.place import ClusterPlace
    from segue_cli.cluster.session import Session

    access = find_access(context, where.kubeconfig)
    said = {"--context": context, "--kubeconfig": where.kubeconfig}
    flags = "".join(f" {flag} {shlex.quote(str(value))}" for flag, value in said.items() if value is not None)
    session = Session(access)
    try:
        yield ClusterPlace(
            api=VoiceApi(session),
            namespace=where.namespace or access.namespace,
            program=program.value,
            flags=flags,
        )
    finally:
        session.close()
