"""The operator's process in a cluster: every part made once, and what a leader does made anew for each tenure.

A replica that does not lead watches all the same, so that it knows everything when its turn comes; it commands nothing
and asks no pod anything. What it takes to lead (the fleet, the loops) belongs to a `Tenure` and is gone with it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import uuid
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from segue.certificate_expiry import CertificateExpiry
from segue.rollout import Event
from segue.tls import KeyPairFiles
from segue.tracing import make_tracing
from segue_operator.api import serve_on
from segue_operator.clock import SystemClock
from segue_operator.config import KubernetesConfig
from segue_operator.console.app import build_console
from segue_operator.console.news import News
from segue_operator.console.ranking import Ranking
from segue_operator.console.serving import ServedConsole, open_console
from segue_operator.controller import Controller
from segue_operator.files import write_atomically
from segue_operator.fleet.dialing import Dialer
from segue_operator.fleet.listening import Nobody
from segue_operator.fleet.records import Holding
from segue_operator.fleet.sidecars import SidecarFleet
from segue_operator.kubernetes.api import Api, connected
from segue_operator.kubernetes.console import ClusterConsole, EventRing
from segue_operator.kubernetes.desired import DesiredSets
from segue_operator.kubernetes.events import ClusterEvents
from segue_operator.kubernetes.fleets import Fleets
from segue_operator.kubernetes.lease import Election, LeaseTerms
from segue_operator.kubernetes.lease_fences import LeaseFences
from segue_operator.kubernetes.lease_record import LeaseName
from segue_operator.kubernetes.listing import Lister
from segue_operator.kubernetes.metrics import ClusterCollector, Counted
from segue_operator.kubernetes.own_account import owner_references
from segue_operator.kubernetes.pods import PodBook
from segue_operator.kubernetes.scope import watches_of
from segue_operator.kubernetes.voices import KubernetesCluster
from segue_operator.kubernetes.wiring import Watching
from segue_operator.leader import NotLeading
from segue_operator.listener import address_of, bind_address, make_plain_app, make_plain_server
from segue_operator.metrics import Overview, overview_registry
from segue_operator.rollout_traces import RolloutTraces
from segue_operator.slots import SlotBook
from segue_operator.tallies import Tallies
from segue_operator.triggers.wiring import ExternalTriggers, build_triggers
from segue_operator.voice_figures import figures_of_body

logger = logging.getLogger(__name__)


async def run(config: KubernetesConfig) -> None:
    """Watch, and lead when it is our turn, until SIGTERM or SIGINT.

    Raises
    ------
    InvalidCredentials
        No cluster can be reached with what is configured.
    CannotListen
        `listen` is taken.
    """
    async with connected(kubeconfig=config.kubeconfig, context=config.context) as api:
        try:
            await Operator(config, api).run()
        except ExceptionGroup as failed:
            raise _first_of(failed) from failed


@dataclass(slots=True)
class Tenure:
    """What is there only while this operator leads."""

    fleet: SidecarFleet
    desired: DesiredSets
    controller: Controller


class Operator:
    """One replica."""

    def __init__(self, config: KubernetesConfig, api: Api) -> None:
        self._config = config
        self._api = api
        self._clock = SystemClock()
        self._tenure: Tenure | None = None
        self._tallies = Tallies()
        self._tracing = make_tracing("segue-operator")
        self._stop = asyncio.Event()
        identity = config.lease.identity or f"{socket.gethostname()}_{uuid.uuid4()}"
        self._fleets = Fleets(config.fleets)
        self._cluster = KubernetesCluster(api=api, require_allowed=self._fleets.require_allowed, tell=self._publish)
        self._pods = PodBook(
            fleet_of=self._fleets.of_pod,
            control_port=config.control_port,
            scheme="http" if config.tls is None else "https",
        )
        self._events = ClusterEvents(
            api=api,
            regarding=self._cluster.reference_to,
            identity=identity,
            now=self._clock.now,
            revision_of=self._cluster.revision_of,
            may_post=self._may_write,
        )
        self._news = News()
        self._lister = Lister(
            api=api, cluster=self._cluster, pods=self._pods, watches=watches_of(config), held=self._held
        )
        self._watching = Watching(
            api=api, watches=watches_of(config), deliver=self._lister.take, on_gap=self._lister.request
        )
        self._election = Election(
            api=api,
            lease=LeaseName(namespace=config.lease.namespace, name=config.lease.name),
            identity=identity,
            owners=lambda: owner_references(config.lease.namespace),
            terms=LeaseTerms(
                duration_s=config.lease.duration_s,
                renew_deadline_s=config.lease.renew_deadline_s,
                retry_s=config.lease.retry_s,
            ),
        )

    async def run(self) -> None:
        """Until told to stop; the Lease is given back before anything else ends."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        triggers = self._triggers()
        listening = bind_address(self._config.listen)
        server = make_plain_server(self._app(triggers))
        console = self._console(triggers)
        try:
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(serve_on(server, [listening]), name="listener")
                pages = (
                    [group.create_task(serve_on(console.server, [console.socket]), name="console")] if console else []
                )
                others = [
                    group.create_task(self._events.run(), name="events"),
                    group.create_task(triggers.run(), name="triggers"),
                ]
                if await self._unless_stopped(self._lister.first()):
                    others.append(group.create_task(self._watching.run(), name="watches"))
                    others.append(group.create_task(self._lister.run(), name="lists"))
                    self._say_ready(address_of(listening), console)
                    await self._election.run(lambda fences: self._lead(fences, triggers))
                logger.info("stopping")
                server.should_exit = True
                if console is not None:
                    console.close()
                for task in others:
                    task.cancel()
                await asyncio.wait({serving, *pages})
        finally:
            listening.close()
            if console is not None:
                console.socket.close()
            if self._tracing is not None:
                self._tracing.close()

    def _told_to_stop(self) -> None:
        self._stop.set()
        self._election.stop()

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do something that may take for ever; whether it was done before we were told to stop."""
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
            return working.done() and not self._stop.is_set()
        finally:
            working.cancel()
            stopping.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)

    # --- leading --------------------------------------------------------------------------------------------------

    async def _lead(self, fences: LeaseFences, triggers: ExternalTriggers) -> None:
        """Everything that commands, for one tenure."""
        tenure = self._new_tenure(fences, triggers)
        self._tenure = tenure
        self._pods.tell(tenure.fleet.update)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(tenure.fleet.run(), name="fleet")
                group.create_task(tenure.desired.run(), name="desired sets")
                group.create_task(tenure.controller.run(), name="controller")
        finally:
            self._pods.tell(None)
            self._tenure = None

    def _new_tenure(self, fences: LeaseFences, triggers: ExternalTriggers) -> Tenure:
        config = self._config
        files = KeyPairFiles(cert=config.tls.cert, key=config.tls.key, ca=config.tls.ca) if config.tls else None
        dialer = Dialer(files)
        fleet = SidecarFleet(
            select=self._fleets.of_voice,
            connect=dialer.connect,
            lull=dialer.lull,
            term=lambda: fences.term,
            on_change=self._pods_changed,
            report=self._events.publish,
            idle_poll_s=config.idle_poll_s,
            listener=self._news if config.console is not None else Nobody(),
        )
        desired = DesiredSets(
            api=self._api,
            fences=fences,
            select=self._fleets.of_voice,
            read_voice=self._cluster.read,
            tell=self._events.publish,
            fleets=self._pods.fleets,
            config_map_of=self._pods.config_map,
        )
        controller = Controller(
            cluster=self._cluster,
            fleet=fleet,
            clock=self._clock,
            events=self._events,
            fences=fences,
            slots=SlotBook(config.max_concurrent_rollouts),
            triggers=triggers,
            desired=desired,
            fleet_of=self._fleets.of_voice,
            tallies=self._tallies,
            traces=RolloutTraces(self._tracing) if self._tracing is not None else None,
        )
        return Tenure(fleet, desired, controller)

    def _pods_changed(self, keys: frozenset[str] | None) -> None:
        self._lister.pods_changed(keys)
        self._wake(keys)

    def _may_write(self) -> bool:
        """Whether nobody else can be leading by now."""
        if self._tenure is None:
            return False
        try:
            self._tenure.controller.fences.check()
        except NotLeading:
            return False
        return True

    def _wake(self, keys: frozenset[str] | None) -> None:
        if self._tenure is not None:
            self._tenure.controller.wake(keys)

    def _held(self) -> Iterable[Holding]:
        return self._tenure.fleet.held() if self._tenure is not None else ()

    # --- what is shown --------------------------------------------------------------------------------------------

    def _publish(self, voice: str, event: Event) -> None:
        """Only the leader tells: a standby sees the same mistakes."""
        if self._tenure is not None:
            self._events.publish(voice, event)

    def _triggers(self) -> ExternalTriggers:
        return build_triggers(
            hooks=self._config.hooks,
            prometheus=self._config.prometheus,
            voice_exists=lambda key: key in self._cluster.seen.bodies,
            wake=self._wake,
            now=self._clock.now,
            is_ready=lambda: self._tenure is not None,
        )

    def _app(self, triggers: ExternalTriggers) -> Any:
        registry = overview_registry(self._overview())
        registry.register(ClusterCollector(Counted(api=self._api, events=self._events, watching=self._watching)))
        registry.register(triggers.calls)
        return make_plain_app(
            waiting_for=lambda: () if self._cluster.complete.is_set() else ("the first list of voices and pods",),
            registry=registry,
            routes=triggers.routes,
        )

    def _overview(self) -> Overview:
        tls = self._config.tls
        return Overview(
            leading=lambda: self._tenure is not None,
            voices=lambda: (figures_of_body(key, body) for key, body in self._cluster.seen.bodies.items()),
            unusable=lambda: len(self._cluster.problems()),
            pods=lambda: len(self._pods.records()),
            unreachable=lambda: self._tenure.fleet.unreachable() if self._tenure is not None else None,
            tallies=self._tallies,
            certificate_ends_s=CertificateExpiry(tls.cert).at_s if tls is not None else lambda: None,
        )

    def _console(self, triggers: ExternalTriggers) -> ServedConsole | None:
        config = self._config.console
        if config is None:
            return None
        ring = EventRing(self._clock.now)
        self._events.note = ring.note
        source = ClusterConsole(
            api=self._api,
            cluster=self._cluster,
            fleet=lambda: self._tenure.fleet if self._tenure is not None else None,
            leader=self._leader,
            select=self._fleets.of_voice,
            ring=ring,
            publish=self._publish,
        )
        ranking = Ranking(prometheus=triggers.client.vector if triggers.client is not None else None)
        console = build_console(config, source=source, editor=source, news=self._news, ranking=ranking)
        return open_console(console, config)

    def _leader(self) -> str:
        """NAMESPACE/POD of whoever leads; empty where that is not known. An identity begins with its pod's name."""
        pod = self._election.holder.partition("_")[0]
        return f"{self._config.lease.namespace}/{pod}" if pod else ""

    def _say_ready(self, address: str, console: ServedConsole | None) -> None:
        if self._config.ready_file is not None:
            addresses = {"http": address} | ({"console": console.address} if console is not None else {})
            content = {"pid": os.getpid(), "addresses": addresses}
            write_atomically(self._config.ready_file, json.dumps(content))
        where = ", ".join(self._config.namespaces) or "the whole cluster"
        logger.info("operator of %s, serves on %s", where, address)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first, out of however many groups."""
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
