"""Talking to the API server: who we are, one way to call it, and what its errors mean to us.

Separate because the loop knows four outcomes only: it worked, the object is another one now, it does not exist, or
nothing can be said at the moment. Objects go in and out as plain dicts: the client's models would drop fields that a
newer API server or a newer `VoiceModel` has.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from kubernetes.aio.client import ApiClient, ApiException, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from yaml import YAMLError  # type: ignore[import-untyped]

from segue.errors import SegueError
from segue_operator.ports import WriteConflict

FIELD_MANAGER = "segue-operator"
JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

CONNECT_S = 3.0
ANSWER_S = 15.0
LIST_ANSWER_S = 60.0
PAGE = 500

_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"

Body = dict[str, Any]
"""An object as the API server writes it."""

logger = logging.getLogger(__name__)


class InvalidCredentials(SegueError):
    """No service account, or a kubeconfig that cannot be used."""


class ApiUnavailable(SegueError):
    """The API server gives no answer that means anything: nothing is known, try again."""


class ApiRefused(SegueError):
    """The API server understood and refuses.

    Attributes
    ----------
    status
        The HTTP status: 401 and 403 are for an administrator, 422 is a mistake in what we sent.
    """

    def __init__(self, message: str, *, status: int) -> None:
        self.status = status
        super().__init__(message)


class ObjectNotFound(SegueError):
    """The API server says of this very object that it does not exist."""


class ObjectConflict(WriteConflict):
    """409: another uid or resourceVersion, or it exists already."""


class ListExpired(SegueError):
    """410: the list must be read from its beginning."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the client's errors into ours; `what` begins the message.

    Raises
    ------
    ObjectNotFound, ObjectConflict, ListExpired, ApiRefused, ApiUnavailable
        See there.
    """
    try:
        yield
    except ApiException as error:
        raise _meaning_of(what, error) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ApiUnavailable(f"{what}: {str(error) or type(error).__name__}") from error


def _meaning_of(what: str, error: ApiException) -> SegueError:
    said = _status_of(error)
    message = f"{what}: {error.status} {said.get('message') or error.reason or ''}".rstrip()
    match error.status:
        case 404 if (said.get("details") or {}).get("name"):
            return ObjectNotFound(message)
        case 404:  # a path that is not served: a CRD that is not installed, or not ready after a restart
            return ApiUnavailable(message)
        case 409:
            return ObjectConflict(message)
        case 410:
            return ListExpired(message)
        case 429:
            return ApiUnavailable(message)
        case int(status) if 400 <= status < 500:
            return ApiRefused(message, status=status)
        case _:
            return ApiUnavailable(message)


def _status_of(error: ApiException) -> Mapping[str, Any]:
    """The `Status` object of an error, empty where the answer is none."""
    try:
        said = json.loads(error.body or "")
    except ValueError:
        return {}
    return said if isinstance(said, dict) and said.get("kind") == "Status" else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Everything there is, as of one resourceVersion."""

    items: list[Body]
    resource_version: str


@dataclass(slots=True, kw_only=True)
class Api:
    """The API server.

    Attributes
    ----------
    client
        For the generated API classes; wrap their calls in `translated`.
    renew
        Reads the credentials again.
    requests
        Calls by (verb, HTTP status; 0: no answer), for the metrics.
    """

    client: ApiClient
    renew: Callable[[], Awaitable[None]]
    requests: Counter[tuple[str, int]] = field(default_factory=Counter)

    async def call(
        self,
        verb: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        answer_s: float = ANSWER_S,
    ) -> Body:
        """One request; the object it answers with. Credentials that are refused are read again once.

        Raises
        ------
        ObjectNotFound, ObjectConflict, ListExpired, ApiRefused, ApiUnavailable
            See there.
        """
        headers = {"Accept": accept, "Content-Type": content_type}
        with translated(f"{verb} {path}"):
            try:
                return await self._send(verb, path, body, dict(query or {}), headers, answer_s)
            except ApiException as error:
                if error.status != 401:
                    raise
            await self.renew()
            return await self._send(verb, path, body, dict(query or {}), headers, answer_s)

    async def list_all(self, path: str, *, selector: str = "", metadata_only: bool = False) -> Listing:
        """A collection, page by page.

        Parameters
        ----------
        metadata_only
            Ask for nothing but `metadata`, which costs the API server and us a fraction.
        """
        for _ in range(3):
            try:
                return await self._pages(path, selector, METADATA_ONLY if metadata_only else JSON)
            except ListExpired as error:
                logger.debug("listing again: %s", error)
        raise ApiUnavailable(f"GET {path}: the list expired three times while it was read")

    async def _pages(self, path: str, selector: str, accept: str) -> Listing:
        items: list[Body] = []
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = await self.call("GET", path, query=query, accept=accept, answer_s=LIST_ANSWER_S)
            items += page.get("items") or []
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return Listing(items=items, resource_version=str(metadata.get("resourceVersion", "")))
            query["continue"] = metadata["continue"]

    async def _send(
        self, verb: str, path: str, body: Any, query: dict[str, str], headers: dict[str, str], answer_s: float
    ) -> Body:
        code = 0
        try:
            request = await self.client.param_serialize(
                verb,
                path,
                query_params=list(query.items()),
                header_params=dict(headers),
                body=body,
                auth_settings=["BearerToken"],
            )
            timeout = aiohttp.ClientTimeout(total=answer_s, sock_connect=CONNECT_S)
            response = await self.client.call_api(*request, _request_timeout=timeout)
            code = response.status
            content: bytes = await response.read()  # type: ignore[no-untyped-call]
        finally:
            self.requests[verb, code] += 1
        if not 200 <= code < 300:
            raise ApiException(status=code, reason=response.reason, body=content.decode("utf-8", "replace"))
        try:
            return dict(json.loads(content))
        except (ValueError, TypeError) as error:
            raise ApiUnavailable(f"{verb} {path}: the answer is no object: {content[:80]!r}") from error


def object_path(group: str, version: str, namespace: str | None, *names: str) -> str:
    """The path of a collection or an object; the core group is ''."""
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    scope = ("namespaces", namespace) if namespace is not None else ()
    return "/".join((root, *(quote(part, safe="") for part in (*scope, *names))))


def voice_path(key: str, *subresource: str) -> str:
    """The path of a `VoiceModel` by its key, `namespace/name`."""
    namespace, _, name = key.partition("/")
    return object_path("segue.dev", "v1alpha1", namespace, "voicemodels", name, *subresource)


@asynccontextmanager
async def connected(*, kubeconfig: Path | None, context: str | None) -> AsyncIterator[Api]:
    """A client that is closed at the end.

    Raises
    ------
    InvalidCredentials
        Neither a service account nor a kubeconfig can be used.
    """
    configuration = Configuration()

    async def renew() -> None:
        await _load_credentials(configuration, kubeconfig, context)

    await renew()
    client = ApiClient(configuration)
    client.user_agent = FIELD_MANAGER
    try:
        yield Api(client=client, renew=renew)
    finally:
        await client.close()  # type: ignore[no-untyped-call]


async def _load_credentials(configuration: Configuration, kubeconfig: Path | None, context: str | None) -> None:
    try:
        if kubeconfig is None and context is None and os.environ.get(_IN_CLUSTER):
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            file = str(kubeconfig) if kubeconfig is not None else None
            await load_kube_config(  # type: ignore[no-untyped-call]
                config_file=file, context=context, client_configuration=configuration, persist_config=False
            )
    except (ConfigException, OSError, YAMLError, TypeError, AttributeError, LookupError, ValueError) as error:
        # the loader trusts what it reads: a file of another shape fails anywhere in it
        where = kubeconfig or ("the service account" if os.environ.get(_IN_CLUSTER) else "the default kubeconfig")
        raise InvalidCredentials(f"{where} cannot be used to reach a cluster: {error}") from error
