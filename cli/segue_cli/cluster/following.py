"""Every change of one voice, or of all, as long as it takes: list, watch, watch again, list when it was too long ago.

Separate from the calls, because this is the only part that outlives one of them. A watch is asked for in short periods:
at the end of each, whoever follows looks after what no watch of VoiceModels tells (Events, the time), and a connection
that died without a word is found out.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator

from segue_cli.cluster.api import Change, Kind, VoiceApi
from segue_cli.cluster.errors import Answered, ApiServerUnreachable, Expired

BUSY_S, QUIET_S = 1, 20
"""Length of a watch after a period in which something happened, and of any other."""

FIRST_RETRY_S, LONGEST_RETRY_S = 0.2, 5.0


def follow(
    api: VoiceApi, namespace: str | None, *, name: str | None = None, deadline: float | None = None
) -> Iterator[Change | None]:
    """The voices that are there as ADDED, then every change; a BOOKMARK at the end of each period.

    With a name, a DELETED without an object says that there is no such voice any more. None: nobody answers, and it is
    tried again. Ends at the deadline (monotonic seconds), to a second.

    Raises
    ------
    ApiServerUnreachable
        Nobody answered the first time.
    Answered
        The API server refuses.
    """
    since: str | None = None
    period_s, failures, has_answered = BUSY_S, 0, False
    while (left_s := _left_s(deadline)) > 0:
        try:
            if since is None:
                found = api.voices(namespace, name=name)
                since, has_answered = found.version, True
                yield from (Change(Kind.ADDED, voice) for voice in found.voices)
                if name is not None and not found.voices:
                    yield Change(Kind.DELETED, {})
            changes = 0
            for change in api.watch(namespace, since=since, name=name, period_s=min(period_s, math.ceil(left_s))):
                since = change.version or since
                changes += change.kind is not Kind.BOOKMARK
                yield change
            yield Change(Kind.BOOKMARK, {})
            period_s, failures = BUSY_S if changes else QUIET_S, 0
        except Expired:
            since = None
        except (ApiServerUnreachable, Answered) as error:
            if not has_answered or not _may_pass(error):
                raise
            yield None
            failures += 1
            time.sleep(min(_retry_s(failures), max(0.0, _left_s(deadline))))


def _left_s(deadline: float | None) -> float:
    return float(QUIET_S) if deadline is None else deadline - time.monotonic()


def _may_pass(error: ApiServerUnreachable | Answered) -> bool:
    """Whether the same request can succeed later: an outage, an overload; not a missing permission."""
    return isinstance(error, ApiServerUnreachable) or error.code == 429 or error.code >= 500


def _retry_s(failures: int) -> float:
    ceiling = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0**failures)
    return random.uniform(ceiling / 2, ceiling)
