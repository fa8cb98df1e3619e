"""`segue up VOICES`: everything on one machine, from a folder of VoiceModel files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segue.errors import SegueError

if TYPE_CHECKING:
    from segue_cli.up.configs import PrometheusAccess


class NoVoices(SegueError):
    """A folder that cannot be served."""


def up(
    voices: Annotated[Path, typer.Argument(metavar="VOICES", help="Folder with VoiceModel files (*.yaml, *.yml).")],
    host: Annotated[str, typer.Option(help="Address of the speech API.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the speech API; 0 takes a free one.")] = 8000,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Server workers; default: one core less.")] = None,
    state: Annotated[Path | None, typer.Option("--state", help="Where state is kept; default: by the folder.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory for voices, such as 2Gi; default: a quarter.")] = None,
    models: Annotated[
        Path | None,
        typer.Option(
            envvar="SEGUE_MODELS",
            help="Folder of GPT-SoVITS, or its pretrained_models; default: where segue import found them.",
        ),
    ] = None,
    keys: Annotated[Path | None, typer.Option(help="API keys file; without it everybody may speak.")] = None,
    alias: Annotated[list[str] | None, typer.Option(help="Another name of a voice, NAME=VOICE; repeatable.")] = None,
    references: Annotated[
        list[Path] | None, typer.Option(help="Folder whose recordings requests may name; repeatable.")
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="Folder or URI prefix that voices may read beside VOICES; repeatable.")
    ] = None,
    trust: Annotated[list[str] | None, typer.Option(help="Public key that may sign bundles; repeatable.")] = None,
    status_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of /metrics and /readyz; 0: free.")] = 0,
    hooks_token: Annotated[
        Path | None, typer.Option(help="File with the bearer token of Alertmanager; turns its webhook on.")
    ] = None,
    hooks_listen: Annotated[str, typer.Option(help="Where Alertmanager calls, ADDRESS:PORT.")] = "127.0.0.1:9095",
    prometheus: Annotated[str | None, typer.Option(help="URL of the Prometheus that answers watch.queries.")] = None,
    prometheus_token: Annotated[Path | None, typer.Option(help="File with a bearer token for it.")] = None,
    console: Annotated[bool, typer.Option(help="Serve the console, a page to look, listen and act on.")] = True,
    console_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Its port, 0: a free one; default: 8090, or a free one.")
    ] = None,
    console_token: Annotated[
        Path | None, typer.Option(help="File with the tokens that may act on it; default: one is made.")
    ] = None,
) -> None:
    """Serve a folder of voices: sidecar, server and operator as real processes; edits are picked up within a second.

    Ctrl-C stops all of it; requests in flight are finished first. What dies is started again.

    Example: [bold]segue up examples/voices[/bold]
    """
    from segue_cli.up.configs import Hooks
    from segue_cli.up.run import Wishes, run

    folder = _folder(voices)
    wishes = Wishes(
        voices=folder,
        host=host,
        port=port,
        workers=workers,
        state=state,
        memory=memory,
        models=models,
        keys_file=keys,
        aliases=dict(_alias(each) for each in alias or ()),
        references=tuple(_references(each) for each in references or ()),
        allow=tuple(_prefix(each) for each in allow or ()),
        trusted_keys=tuple(trust or ()),
        status_port=status_port,
        hooks=Hooks(_existing(hooks_token), *_address(hooks_listen)) if hooks_token is not None else None,
        prometheus=_prometheus(prometheus, prometheus_token),
        console=console,
        console_port=console_port,
        console_token=_existing(console_token) if console_token is not None else None,
    )
    raise typer.Exit(run(wishes))


def _folder(voices: Path) -> Path:
    if not voices.exists():
        raise NoVoices(f"{voices} does not exist; name a folder with VoiceModel files")
    if not voices.is_dir():
        raise NoVoices(f"{voices} is not a folder; name the folder that holds it: {voices.parent}")
    return voices.resolve()


def _references(folder: Path) -> Path:
    if not folder.is_dir():
        raise NoVoices(f"{folder} is not a folder; name one that holds recordings")
    return folder.resolve()


def _prometheus(url: str | None, token_file: Path | None) -> PrometheusAccess | None:
    from segue_cli.up.configs import PrometheusAccess

    if url is None and token_file is not None:
        raise NoVoices("--prometheus-token needs --prometheus, the URL that it is for")
    return PrometheusAccess(url, _existing(token_file) if token_file is not None else None) if url else None


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise NoVoices(f"{file} does not exist; write the token into it first")
    return file.resolve()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 65536):
        raise NoVoices(f"an address is written ADDRESS:PORT, such as 127.0.0.1:9095, not {text!r}")
    return host.strip("[]"), int(port)


def _alias(text: str) -> tuple[str, str]:
    name, separator, voice = text.partition("=")
    if not (name and separator and voice):
        raise NoVoices(f"an alias is written NAME=VOICE, not {text!r}")
    return name, voice


def _prefix(text: str) -> str:
    return text if "://" in text or text.startswith("file:") else Path(text).expanduser().resolve().as_uri()
