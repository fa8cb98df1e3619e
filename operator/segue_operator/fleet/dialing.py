"""How a pod is reached: one TLS context for all pods of a fleet, one client for each pod.

Separate because contexts are what is expensive (keys, the authority's certificate) and what checks the name that a
sidecar must show: `FLEET.NAMESPACE.sidecar.segue.dev`, whatever its address.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from weakref import WeakSet

from segue.control import SidecarClient
from segue.tls import KeyPairFiles, client_context, sidecar_name
from segue_operator.fleet.link import Link
from segue_operator.fleet.lull import Lull
from segue_operator.fleet.records import FleetKey, PodRecord

MANY_PODS = 500
"""More than so many get one connection each: an open one costs 34 KiB."""


@dataclass(frozen=True, slots=True)
class Dialer:
    """Makes clients.

    Parameters
    ----------
    files
        The operator's own pair and the authority; None: plain HTTP, for tests.
    lull
        That of the fleet whose pods are dialled.
    """

    files: KeyPairFiles | None
    lull: Lull = field(default_factory=Lull)
    _links: WeakSet[Link] = field(default_factory=WeakSet)
    _contexts: dict[FleetKey, ssl.SSLContext] = field(default_factory=dict)

    def connect(self, record: PodRecord) -> SidecarClient:
        """A client for the pod; nothing is dialled before its first call.

        Raises
        ------
        CertificateError
            The operator's own files cannot be used.
        """
        kept = 1 if len(self._links) >= MANY_PODS else 2
        link = Link(record.url, self._context(record.fleet), kept=kept, lull=self.lull)
        self._links.add(link)
        return SidecarClient(record.url, pod_uid=record.facts.uid, line=link)

    def _context(self, fleet: FleetKey) -> ssl.SSLContext | None:
        if self.files is None:
            return None
        if fleet not in self._contexts:
            name = sidecar_name(fleet=fleet.name, namespace=fleet.namespace)
            self._contexts[fleet] = client_context(self.files, server_name=name)
        return self._contexts[fleet]
