"""The `segue` command: finds the subcommand, turns errors into one line, and imports nothing it does not need.

Separate from the commands so that `segue say` does not pay for what `segue up` needs: each subcommand's module is
imported only when it is called (or when the whole list is shown).

Exit codes: 0 done; 1 it did not work, the line on stderr says why; 2 wrong usage; 3 the awaited outcome can no longer
come (rolled back, refused); 4 the time given ran out; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup
from typing_extensions import override

from segue.errors import SegueError
from segue_cli.console import complain
from segue_cli.exits import EXIT_FAILED, EXIT_INTERRUPTED
from segue_cli.where import ContextOption, KubeconfigOption, NamespaceOption, Program, Where, placed

COMMANDS: dict[str, str] = {
    "up": "segue_cli.up.command:up",
    "demo": "segue_cli.demo.command:demo",
    "say": "segue_cli.commands.say:say",
    "get": "segue_cli.commands.get:get",
    "describe": "segue_cli.commands.describe:describe",
    "watch": "segue_cli.commands.watch:watch",
    "wait": "segue_cli.commands.wait:wait",
    "roll": "segue_cli.commands.roll:roll",
    "pause": "segue_cli.commands.intents:pause",
    "resume": "segue_cli.commands.intents:resume",
    "promote": "segue_cli.commands.intents:promote",
    "rollback": "segue_cli.commands.intents:rollback",
    "retry": "segue_cli.commands.intents:retry",
    "calibrate": "segue_cli.commands.calibrate:calibrate",
    "validate": "segue_cli.commands.files:validate",
    "pin": "segue_cli.commands.files:pin",
    "crd": "segue_cli.commands.files:crd",
    "inject": "segue_cli.inject.command:inject",
    "import": "segue_cli.importing.command:import_voices",
    "keygen": "segue_cli.commands.bundle:keygen",
    "pack": "segue_cli.commands.bundle:pack",
    "sign": "segue_cli.commands.bundle:sign",
    "verify": "segue_cli.commands.bundle:verify",
    "version": "segue_cli.commands.version:version",
}


_ONE_MACHINE = ("up", "demo", "say", "calibrate", "import")
"""What makes no sense in a cluster."""


class LazyGroup(TyperGroup):
    """A group whose commands are imported when they are asked for."""

    program: ClassVar[Program] = Program.SEGUE
    table: ClassVar[Mapping[str, str]] = COMMANDS

    @override
    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the table above."""
        return list(self.table)

    @override
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command behind a name, None if there is none."""
        place = self.table.get(cmd_name)
        if place is None:
            return None
        module, _, function = place.partition(":")
        single = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
        command = placed(getattr(import_module(module), function), self.program)
        single.command(name=cmd_name, no_args_is_help=False)(command)
        return typer.main.get_command(single)


class PluginGroup(LazyGroup):
    """The same commands, for voices in a cluster."""

    program: ClassVar[Program] = Program.PLUGIN
    table: ClassVar[Mapping[str, str]] = {name: place for name, place in COMMANDS.items() if name not in _ONE_MACHINE}


def _typer(name: str, group: type[LazyGroup]) -> typer.Typer:
    return typer.Typer(
        name=name,
        cls=group,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


app = _typer("segue", LazyGroup)
plugin = _typer("kubectl-segue", PluginGroup)

DebugOption = typer.Option(False, "--debug", envvar="SEGUE_DEBUG", help="Show the traceback of an error.")


@plugin.callback()
def kubectl_segue(
    ctx: typer.Context,
    debug: bool = DebugOption,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Change the voices of a cluster while they speak: look, follow, pause, promote, roll back.

    Needs the permissions of the ClusterRole segue-user; what is asked for is written into the VoiceModel.
    """
    ctx.obj = Where(namespace=namespace, context=context, kubeconfig=kubeconfig)


@app.callback()
def segue(
    ctx: typer.Context,
    debug: bool = DebugOption,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Change the voice of a running text-to-speech service: no restart, no failed request, and a way back.

    Start with [bold]segue demo[/bold], or with [bold]segue up VOICES[/bold] on a folder of VoiceModel files.
    With --context or --kubeconfig commands are about the voices of a cluster, as with [bold]kubectl segue[/bold].
    """
    ctx.obj = Where(namespace=namespace, context=context, kubeconfig=kubeconfig)


def main() -> None:
    """Run `segue`."""
    _run(app, Program.SEGUE)


def kubectl_main() -> None:
    """Run `kubectl segue`: kubectl finds the program `kubectl-segue` in the PATH."""
    _run(plugin, Program.PLUGIN)


def _run(command_line: typer.Typer, program: Program) -> None:
    """Run a command line; every error that is expected is one line on stderr."""
    debug = "--debug" in sys.argv[1:] or os.environ.get("SEGUE_DEBUG") not in (None, "", "0")
    try:
        command_line(prog_name=program.value, standalone_mode=True)
    except SegueError as error:
        if debug:
            raise
        complain(str(error))
        sys.exit(EXIT_FAILED)
    except BrokenPipeError:
        _leave_quietly()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _leave_quietly() -> None:
    """Whoever read our output has gone (`segue get | head -1`): nothing is wrong, and nothing more can be said."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(EXIT_FAILED)
