"""Every part of the sidecar, made once and tied together; nothing runs yet.

The only place that knows all of them. Parts lower down are told what they need; what they have to tell upwards goes
through the callbacks that `_tie` sets.
"""

from __future__ import annotations

from dataclasses import dataclass

from segue.certificate_expiry import CertificateExpiry
from segue.memory.handoff import HandoffListener
from segue.memory.interface import WeightMemory
from segue.memory.pool import Background
from segue_sidecar.api.services import Services
from segue_sidecar.books import Books
from segue_sidecar.child import Nursery
from segue_sidecar.commands import Commands
from segue_sidecar.config import Config
from segue_sidecar.contact import Contact
from segue_sidecar.desired.following import Following
from segue_sidecar.entries import RevisionEntry, VoiceEntry
from segue_sidecar.evidence import Evidence
from segue_sidecar.feed import StateFeed
from segue_sidecar.handover import Handover
from segue_sidecar.journal import Journal
from segue_sidecar.memory import make_memory
from segue_sidecar.metrics import BooksCollector, Metrics
from segue_sidecar.models import SharedModels
from segue_sidecar.probing import Probing
from segue_sidecar.reception import Reception
from segue_sidecar.recovery import Recovery, reconcile
from segue_sidecar.residency import Residency
from segue_sidecar.rounds import Pacing, Upkeep
from segue_sidecar.switchboard import Switchboard
from segue_sidecar.throttle import Pacer
from segue_sidecar.tiers.rising import Rising, Told
from segue_sidecar.tiers.room import Room
from segue_sidecar.tiers.store import PreparedStore
from segue_sidecar.voice_metrics import VoicesCollector
from segue_sidecar.workers import Roster


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What nearly everything else needs."""

    config: Config
    books: Books
    roster: Roster
    memory: WeightMemory
    pacer: Pacer
    nursery: Nursery
    switchboard: Switchboard
    handover: Handover
    evidence: Evidence
    shared: SharedModels
    room: Room
    store: PreparedStore
    rising: Rising
    residency: Residency


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the sidecar starts and stops."""

    core: Core
    recovery: Recovery
    reception: Reception
    services: Services
    upkeep: Upkeep
    pacing: Pacing
    following: Following


def assemble(
    config: Config,
    *,
    books: Books,
    journals: tuple[Journal, Journal],
    listener: HandoffListener,
    metrics: Metrics,
    background: Background,
) -> Parts:
    """Make everything. `books` are filled already; the second of `journals` is the evidence's, not open yet."""
    core = _core(config, books=books, windows=journals[1], metrics=metrics, background=background)
    contact = Contact(term=max((voice.fence.term for voice in books.voices.values()), default=0))
    commands = _commands(core)
    following = Following(
        config=config,
        books=books,
        commands=commands,
        residency=core.residency,
        roster=core.roster,
        silent_s=contact.silent_s,
    )
    services = _services(core, metrics, commands=commands, contact=contact, following=following)
    recovery = Recovery(
        books=books,
        memory=core.memory,
        switchboard=core.switchboard,
        handover=core.handover,
        residency=core.residency,
        nursery=core.nursery,
        shared=core.shared,
    )
    reception = Reception(
        listener=listener,
        books=books,
        handover=core.handover,
        roster=core.roster,
        evidence=core.evidence,
        recovery=recovery,
        rising=core.rising,
        on_change=core.residency.advance,
    )
    _tie(core, services, following)
    metrics.registry.register(_collector(core, services.contact))
    metrics.registry.register(VoicesCollector(books=books, in_a_row=core.evidence.in_a_row))
    return Parts(
        core=core,
        recovery=recovery,
        reception=reception,
        services=services,
        upkeep=_upkeep(core, services, reception, journals),
        pacing=Pacing(config=config, pacer=core.pacer, roster=core.roster, evidence=core.evidence),
        following=following,
    )


def _core(config: Config, *, books: Books, windows: Journal, metrics: Metrics, background: Background) -> Core:
    roster, pacer = Roster(), Pacer()
    memory = make_memory(config, background=background)
    nursery = Nursery(pacer=pacer, memory_bytes=config.limits.child_memory_bytes, on_end=metrics.child_ended)
    switchboard = Switchboard(books=books, roster=roster)
    handover = Handover(books=books, memory=memory, roster=roster, switchboard=switchboard, pod_uid=config.pod.uid)
    evidence = Evidence(owner_of=books.handles.get, journal=windows)
    evidence.restore(windows.open().records)
    shared = SharedModels(config=config, books=books, memory=memory, nursery=nursery)
    room = Room(
        books=books,
        memory=memory,
        handover=handover,
        switchboard=switchboard,
        shared=shared,
        uses=evidence.uses,
        refresh=lambda: evidence.look(roster),
        idle_s=config.tiers.idle_s,
        on_left=metrics.left,
    )
    shared.make_room = room.make_for_models
    store = PreparedStore(config=config, books=books, memory=memory, nursery=nursery)
    rising = Rising(
        policy=config.tiers,
        books=books,
        memory=memory,
        roster=roster,
        switchboard=switchboard,
        handover=handover,
        room=room,
        store=store,
        told=Told(rose=metrics.rose, stayed_down=metrics.stayed_down),
    )
    residency = Residency(
        config=config,
        books=books,
        memory=memory,
        handover=handover,
        nursery=nursery,
        shared=shared,
        room=room,
        rising=rising,
    )
    return Core(
        config=config,
        books=books,
        roster=roster,
        memory=memory,
        pacer=pacer,
        nursery=nursery,
        switchboard=switchboard,
        handover=handover,
        evidence=evidence,
        shared=shared,
        room=room,
        store=store,
        rising=rising,
        residency=residency,
    )


def _commands(core: Core) -> Commands:
    return Commands(
        books=core.books,
        switchboard=core.switchboard,
        handover=core.handover,
        residency=core.residency,
        rising=core.rising,
        extra_engines=core.config.engines,
    )


def _services(core: Core, metrics: Metrics, *, commands: Commands, contact: Contact, following: Following) -> Services:
    config, books = core.config, core.books
    probing = Probing(
        config=config,
        books=books,
        commands=commands,
        memory=core.memory,
        residency=core.residency,
        nursery=core.nursery,
    )
    feed = StateFeed(
        pod=config.pod,
        books=books,
        switchboard=core.switchboard,
        roster=core.roster,
        memory=core.memory,
        desired=following.state,
    )
    return Services(
        pod_uid=config.pod.uid,
        commands=commands,
        probing=probing,
        feed=feed,
        evidence=core.evidence,
        contact=contact,
        metrics=metrics,
    )


def _tie(core: Core, services: Services, following: Following) -> None:
    """Who is told what: the parts themselves do not know each other."""

    def ready(entry: RevisionEntry) -> None:
        core.rising.ready(entry)
        reconcile(core.books.voices[str(entry.voice)], core.switchboard, core.books)
        following.ready(entry)

    def deaths(voice: VoiceEntry, count: int) -> None:
        services.commands.mute_candidate(voice, why=f"{count} workers died with requests of the candidate open")

    core.handover.on_ready = ready
    core.handover.on_failed = core.residency.fail
    core.rising.advance = core.residency.advance
    core.handover.on_deaths = deaths
    services.commands.on_let_go = services.probing.let_go


def _collector(core: Core, contact: Contact) -> BooksCollector:
    return BooksCollector(
        books=core.books,
        memory=core.memory,
        roster=core.roster,
        pacer=core.pacer,
        silent_s=contact.silent_s,
        certificate_ends_s=CertificateExpiry(core.config.tls.files.cert).at_s,
        prepared_bytes=lambda: core.store.size_bytes,
    )


def _upkeep(core: Core, services: Services, reception: Reception, journals: tuple[Journal, ...]) -> Upkeep:
    return Upkeep(
        config=core.config,
        books=core.books,
        journals=journals,
        memory=core.memory,
        switchboard=core.switchboard,
        handover=core.handover,
        roster=core.roster,
        reception=reception,
        residency=core.residency,
        room=core.room,
        commands=services.commands,
        evidence=core.evidence,
        contact=services.contact,
    )
