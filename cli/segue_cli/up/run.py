"""What `segue up` does between its first line and its last one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from segue_cli.console import say_line
from segue_cli.layout import Layout, default_state, register, unregister
from segue_cli.shared_models import ENGINE, VARIABLE, Models, models_of, require_engine, voices_of_engine
from segue_cli.up import lock
from segue_cli.up.certificates import ensure_certificates
from segue_cli.up.configs import Hooks, Plan, PrometheusAccess, ready_file, write_configs
from segue_cli.up.console import console_lines, plan_console
from segue_cli.up.memory import default_budget_bytes, parse_bytes
from segue_cli.up.ports import free_port, require_free
from segue_cli.up.report import Reporter, curl_line
from segue_cli.up.service import Service
from segue_cli.up.supervisor import Supervisor

LEFTOVER_PATIENCE_S = 60.0
START_WITHIN_S = 60.0
VOICES_WITHIN_S = 20.0
RENEW_EVERY_S = 12 * 3600.0
SERVER_STOPS_WITHIN_S = 40.0
OTHERS_STOP_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What was asked for on the command line."""

    voices: Path
    host: str
    port: int
    workers: int | None
    state: Path | None
    memory: str | None
    models: Path | None
    keys_file: Path | None
    aliases: Mapping[str, str]
    allow: Sequence[str]
    trusted_keys: Sequence[str]
    status_port: int
    references: Sequence[Path] = ()
    hooks: Hooks | None = None
    prometheus: PrometheusAccess | None = None
    console: bool = True
    console_port: int | None = None
    console_token: Path | None = None


def run(wishes: Wishes) -> int:
    """Run until told to stop; the exit code."""
    layout = Layout(wishes.state.absolute() if wishes.state else default_state(wishes.voices))
    layout.create()
    lock_fd = lock.acquire(layout, patience_s=LEFTOVER_PATIENCE_S, say=_say)
    try:
        plan = _plan(wishes, layout)
        register(layout)
        try:
            return asyncio.run(_run(plan, lock_fd))
        finally:
            unregister(layout)
            with suppress(FileNotFoundError):
                layout.up_file.unlink()
    finally:
        os.close(lock_fd)


def _say(line: str) -> None:
    say_line(f"{datetime.now().astimezone():%H:%M:%S}  {line}")


def _plan(wishes: Wishes, layout: Layout) -> Plan:
    budget_bytes = parse_bytes(wishes.memory) if wishes.memory else default_budget_bytes()
    models = _models(wishes)
    return Plan(
        layout=layout,
        voices=wishes.voices,
        host=wishes.host,
        port=require_free(wishes.host, wishes.port),
        status_port=require_free("127.0.0.1", wishes.status_port),
        control_port=free_port(),
        sidecar_status_port=free_port(),
        operator_status_port=free_port(),
        pod_uid=_pod_uid(layout),
        budget_bytes=budget_bytes + (models.memory_bytes if models is not None else 0),
        models=models.directory if models is not None else None,
        workers=wishes.workers,
        keys_file=wishes.keys_file,
        aliases=wishes.aliases,
        references=wishes.references,
        allow=wishes.allow,
        trusted_keys=wishes.trusted_keys,
        hooks=_hooks(wishes.hooks) if wishes.hooks is not None else None,
        prometheus=wishes.prometheus,
        console=plan_console(wishes, layout) if wishes.console else None,
    )


def _models(wishes: Wishes) -> Models | None:
    """The shared models, where there is or may be somebody who needs them; says which there are."""
    names = voices_of_engine(wishes.voices)
    require_engine(names)
    models = models_of(wishes.voices, named=wishes.models)
    if models is not None:
        for line in models.lines:
            _say(line)
    elif names:
        _say(
            f"{names[0]}{' and others' if names[1:] else ''}: voices of {ENGINE} are prepared with shared models, and "
            f"nobody says where they are: name their folder with --models or {VARIABLE}, or import with segue import"
        )
    return models


def _hooks(wished: Hooks) -> Hooks:
    return replace(wished, port=require_free(wished.host, wished.port, option="--hooks-listen"))


def _pod_uid(layout: Layout) -> str:
    """The same for as long as the state directory lives: the sidecar's journal belongs to this pod."""
    file = layout.root / "pod-uid"
    with suppress(FileNotFoundError):
        if found := file.read_text(encoding="ascii").strip():
            return found
    made = str(uuid.uuid4())
    file.write_text(made + "\n", encoding="ascii")
    return made


async def _run(plan: Plan, lock_fd: int) -> int:
    operator_tls, sidecar_tls = ensure_certificates(plan.layout.tls)
    write_configs(plan, operator_tls=operator_tls, sidecar_tls=sidecar_tls)
    services = _services(plan, lock_fd)
    supervisor = Supervisor(services=services, say=_say)
    for service in services:
        service.changed = lambda: _write_up_file(plan, services)
    _say(f"serving {plan.voices} (state: {plan.layout.root})")
    reporter = Reporter(plan.layout.operator_socket, _say)
    async with supervisor.running():
        background = [
            asyncio.create_task(reporter.run()),
            asyncio.create_task(_renew_certificates(plan)),
            asyncio.create_task(_announce(plan, services, reporter)),
        ]
        await supervisor.stopping.wait()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
    _say("stopped")
    return 0


def _services(plan: Plan, lock_fd: int) -> tuple[Service, ...]:
    """In the order in which they stop."""
    configs = {
        "operator": (plan.operator_config, OTHERS_STOP_WITHIN_S),
        "server": (plan.server_config, SERVER_STOPS_WITHIN_S),
        "sidecar": (plan.sidecar_config, OTHERS_STOP_WITHIN_S),
    }
    return tuple(
        Service(
            name=name,
            argv=(sys.executable, "-m", f"segue_{name}", "--config", str(config)),
            ready_file=ready_file(plan.layout, name),
            log_file=plan.layout.logs / f"{name}.log",
            stop_within_s=stop_within_s,
            keep_fd=lock_fd,
            say=_say,
        )
        for name, (config, stop_within_s) in configs.items()
    )


async def _announce(plan: Plan, services: Sequence[Service], reporter: Reporter) -> None:
    """Say once what can be reached where, when it really can."""
    try:
        async with asyncio.timeout(START_WITHIN_S):
            await asyncio.gather(*(service.wait_ready() for service in services))
    except TimeoutError:
        slow = ", ".join(service.name for service in services if service.ready() is None)
        _say(f"still waiting for {slow}; logs are in {plan.layout.logs}")
        await asyncio.gather(*(service.wait_ready() for service in services))
    _say(f"speech API: {plan.url}/v1/audio/speech")
    for name, address in plan.metrics.items():
        _say(f"metrics:    {address} ({name})")
    if plan.hooks is not None:
        _say(f"alerts:     http://{plan.hooks.listen}/v1/hooks/alertmanager")
    for line in console_lines(plan, services):
        _say(line)
    reporter.serving.set()
    with suppress(TimeoutError):
        async with asyncio.timeout(VOICES_WITHIN_S):
            await reporter.settled.wait()
    if reporter.ready:
        voice = reporter.ready[0].removeprefix("default/")
        _say(f"try it:\n    {curl_line(plan.url, voice)}\n    segue get, segue describe {voice}, segue watch")
    else:
        _say(f"no voice is ready yet; segue get says why (folder: {plan.voices})")


async def _renew_certificates(plan: Plan) -> None:
    while True:
        await asyncio.sleep(RENEW_EVERY_S)
        ensure_certificates(plan.layout.tls)


def _write_up_file(plan: Plan, services: Sequence[Service]) -> None:
    content: dict[str, Any] = {
        "pid": os.getpid(),
        "voices": str(plan.voices),
        "server": plan.url,
        "status": f"http://127.0.0.1:{plan.status_port}",
        "sidecar": f"https://127.0.0.1:{plan.control_port}",
        "sidecarStatus": f"http://127.0.0.1:{plan.sidecar_status_port}",
        "operator": str(plan.layout.operator_socket),
        "metrics": dict(plan.metrics),
        "console": plan.console.url if plan.console is not None else None,
        "podUid": plan.pod_uid,
        "tls": str(plan.layout.tls),
        "children": {service.name: service.pid for service in services if service.pid is not None},
    }
    temporary = plan.layout.up_file.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    temporary.replace(plan.layout.up_file)
