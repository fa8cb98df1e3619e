"""The result cache: bounded, least recently used first, by revision forgettable."""

from __future__ import annotations

import random

from segue_server.synthesis.cache import ENTRY_OVERHEAD_BYTES, CachedSpeech, ResultCache

UNIT = 1000 + ENTRY_OVERHEAD_BYTES


def speech(*, revision: str = "r1", size: int = 1000) -> CachedSpeech:
    return CachedSpeech(chunks=(b"x" * size,), revision=revision, phones=1, tokens=1)


def test_what_was_put_is_found() -> None:
    cache = ResultCache(100 * UNIT)
    cache.put(b"a", speech())
    assert cache.get(b"a") == speech()
    assert cache.get(b"b") is None


def test_the_least_recently_used_goes_first() -> None:
    cache = ResultCache(10 * UNIT)
    for number in range(10):
        cache.put(b"%d" % number, speech())
    cache.get(b"0")
    cache.put(b"new", speech())
    assert cache.get(b"0") is not None
    assert cache.get(b"1") is None


def test_no_entry_takes_more_than_an_eighth() -> None:
    cache = ResultCache(8 * UNIT)
    cache.put(b"fits", speech())
    cache.put(b"does not", speech(size=1001))
    assert (len(cache), cache.size_bytes) == (1, UNIT)


def test_a_cache_of_no_bytes_keeps_nothing() -> None:
    cache = ResultCache(0)
    cache.put(b"a", speech(size=0))
    assert cache.get(b"a") is None


def test_purging_drops_one_revision_only() -> None:
    cache = ResultCache(100 * UNIT)
    cache.put(b"a", speech(revision="bad"))
    cache.put(b"b", speech(revision="bad"))
    cache.put(b"c", speech(revision="good"))
    assert cache.purge("bad") == 2
    assert (cache.get(b"a"), cache.size_bytes) == (None, UNIT)
    assert cache.get(b"c") is not None


def test_the_bound_holds_and_the_books_agree_whatever_happens() -> None:
    draw = random.Random(7)
    cache = ResultCache(40 * UNIT)
    for _ in range(3000):
        key = b"%d" % draw.randrange(60)
        match draw.randrange(3):
            case 0:
                cache.put(key, speech(revision=str(draw.randrange(4)), size=draw.randrange(4000)))
            case 1:
                cache.get(key)
            case _:
                if draw.randrange(50) == 0:
                    cache.purge(str(draw.randrange(4)))
        assert cache.size_bytes <= 40 * UNIT
    kept = [cache.get(b"%d" % number) for number in range(60)]
    assert cache.size_bytes == sum(entry.size_bytes for entry in kept if entry is not None)
