"""The pure rules: fences, throttle, dead-man, sources, configuration."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import ForbiddenSource, StaleFence
from segue.wire import Bucket, Fence, OthersWindow, WatchTerms
from segue_sidecar.config import InvalidConfig, ThrottleSection, load_config
from segue_sidecar.deadman import Heard, judge
from segue_sidecar.fences import Command, require_fresh
from segue_sidecar.sources import Allowed, local_path, require_allowed, require_dialable, sibling
from segue_sidecar.throttle import Baseline, Gathered, Load, next_duty

POLICY = ThrottleSection()


# --- fences ---------------------------------------------------------------------------------------------------------


@given(
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_only_a_lower_fence_is_stale(command: tuple[int, int], highest: tuple[int, int]) -> None:
    given_, seen = Fence(*command), Fence(*highest)
    if command < highest:
        with pytest.raises(StaleFence):
            require_fresh(Command(given_, "u"), highest=seen, uid="u")
    else:
        require_fresh(Command(given_, "u"), highest=seen, uid="u")


def test_another_incarnation_needs_a_higher_fence() -> None:
    with pytest.raises(StaleFence, match="incarnation"):
        require_fresh(Command(Fence(1, 1), "new"), highest=Fence(1, 1), uid="old")
    require_fresh(Command(Fence(1, 2), "new"), highest=Fence(1, 1), uid="old")


# --- throttle -------------------------------------------------------------------------------------------------------


def test_an_idle_machine_is_not_throttled() -> None:
    assert next_duty(0.1, Load(busy=0.2, latency_ratio=9.0), POLICY) == 1.0


def test_at_the_limit_children_do_not_start_and_stop() -> None:
    assert next_duty(0.1, Load(busy=0.45, latency_ratio=1.1), POLICY) == 0.1
    assert next_duty(1.0, Load(busy=0.45), POLICY) == 1.0
    assert next_duty(0.1, Load(busy=0.35), POLICY) == 1.0


def test_a_busy_worker_brings_children_to_a_tenth_at_once() -> None:
    assert next_duty(1.0, Load(busy=0.9), POLICY) == 0.1


def test_children_yield_more_when_listeners_wait_longer_and_take_more_while_they_do_not() -> None:
    assert next_duty(0.1, Load(busy=0.9, latency_ratio=1.5), POLICY) == 0.05
    assert 0.1 < next_duty(0.1, Load(busy=0.9, latency_ratio=1.0), POLICY) < 0.11
    assert next_duty(0.1, Load(busy=0.9, latency_ratio=1.1), POLICY) == 0.1


def test_where_too_little_has_ended_for_a_verdict_children_keep_what_they_have() -> None:
    assert next_duty(0.25, Load(busy=0.9, rounds=0), POLICY) == 0.25
    assert next_duty(1.0, Load(busy=0.9, rounds=0), POLICY) == 0.1
    assert next_duty(0.25, Load(busy=0.2, rounds=0), POLICY) == 1.0
    assert next_duty(0.25, Load(busy=0.9), POLICY) == 0.1


def test_a_verdict_over_many_rounds_raises_the_share_as_much_as_one_in_each() -> None:
    step_by_step = 0.1
    for _ in range(10):
        step_by_step = next_duty(step_by_step, Load(busy=0.9, latency_ratio=1.0), POLICY)
    assert next_duty(0.1, Load(busy=0.9, latency_ratio=1.0, rounds=10), POLICY) == pytest.approx(step_by_step)


def test_one_long_sentence_is_no_verdict() -> None:
    gathered = Gathered()
    for ended, latency_s in ((1, 9.0), (0, 0.0), (3, 3.0), (3, 3.0)):
        gathered.add(ended=ended, latency_s=latency_s)
        assert gathered.verdict() is None
    gathered.add(ended=1, latency_s=1.0)
    assert gathered.verdict() == (2.0, 5)
    assert gathered.verdict() is None


def test_one_short_sentence_is_no_baseline() -> None:
    quiet = Baseline()
    quiet.add(ended=1, latency_s=1.0)
    assert quiet.mean_s is None
    for _ in range(9):
        quiet.add(ended=1, latency_s=3.0)
    assert quiet.mean_s == pytest.approx(2.8)


def test_a_baseline_follows_what_changes() -> None:
    quiet = Baseline()
    quiet.add(ended=1000, latency_s=1000.0)
    quiet.add(ended=100, latency_s=300.0)
    assert quiet.mean_s == pytest.approx(2.0)
    for _ in range(20):
        quiet.add(ended=100, latency_s=300.0)
    assert quiet.mean_s == pytest.approx(3.0, rel=1e-3)


@given(
    st.floats(0.01, 1.0),
    st.floats(0, 1),
    st.one_of(st.none(), st.floats(0, 100)),
    st.integers(0, 1000),
)
def test_a_busy_machine_never_gives_children_more_than_their_most(
    duty: float, busy: float, ratio: float | None, rounds: int
) -> None:
    following = next_duty(min(duty, POLICY.max_duty), Load(busy=busy, latency_ratio=ratio, rounds=rounds), POLICY)
    if busy > POLICY.busy:
        assert following <= POLICY.max_duty
        assert following >= min(duty, POLICY.min_duty)
    elif busy <= POLICY.busy * 0.8:
        assert following == 1.0


# --- dead-man -------------------------------------------------------------------------------------------------------

TERMS = WatchTerms(previous="ab" * 32, max_error_rate=0.01, sustained_for_s=300, min_requests=50, min_errors=3)


def buckets(*, until_s: int, seconds: int, successes: int, errors: int) -> tuple[Bucket, ...]:
    """The same in every bucket."""
    starts = range(until_s - seconds, until_s, 10)
    return tuple(
        Bucket(start_s=start, successes=successes, errors={"exception": errors} if errors else {}) for start in starts
    )


def test_a_rate_that_stays_over_the_limit_goes_back() -> None:
    bad = buckets(until_s=1000, seconds=300, successes=95, errors=5)
    verdict = judge(Heard(bad), TERMS, flipped_s=600, now_s=1000)
    assert verdict is not None
    assert verdict.errors == 150
    assert verdict.blamed
    assert "150 of 3000" in verdict.message


def test_before_sustained_for_only_a_fast_failure_counts() -> None:
    slow = buckets(until_s=1000, seconds=100, successes=95, errors=5)
    assert judge(Heard(slow), TERMS, flipped_s=900, now_s=1000) is None
    fast = buckets(until_s=1000, seconds=30, successes=20, errors=10)
    assert judge(Heard(fast), TERMS, flipped_s=970, now_s=1000) is not None


def test_errors_that_are_over_do_not_go_back() -> None:
    over = buckets(until_s=840, seconds=140, successes=95, errors=5)
    clean = buckets(until_s=1000, seconds=160, successes=100, errors=0)
    assert judge(Heard((*over, *clean)), TERMS, flipped_s=600, now_s=1000) is None


def test_errors_from_before_the_flip_do_not_count() -> None:
    before = buckets(until_s=990, seconds=300, successes=0, errors=100)
    assert judge(Heard(before), TERMS, flipped_s=1000, now_s=1400) is None


def test_too_few_requests_or_errors_prove_nothing() -> None:
    few = buckets(until_s=1000, seconds=300, successes=0, errors=1)
    assert judge(Heard(few), TERMS, flipped_s=600, now_s=1000) is None


def others(*, requests: int, errors: int) -> tuple[OthersWindow, ...]:
    """The same in every bucket of the five minutes before 1000."""
    return tuple(OthersWindow(start_s=start, requests=requests, errors=errors) for start in range(700, 1000, 10))


@pytest.mark.parametrize(
    ("previous", "beside", "blamed"),
    [
        ((), (), True),
        ((), others(requests=100, errors=0), True),
        ((), others(requests=100, errors=2), True),
        ((), others(requests=100, errors=3), False),
        ((), others(requests=1, errors=1), True),
        (buckets(until_s=600, seconds=300, successes=97, errors=3), (), False),
        (buckets(until_s=600, seconds=300, successes=99, errors=1), (), True),
        (buckets(until_s=1000, seconds=300, successes=0, errors=9), (), True),
    ],
    ids=[
        "nobody else is known",
        "the others are well",
        "the others fail less than half as often",
        "the others fail more than half as often",
        "too little is known of the others",
        "the previous one failed as well",
        "the previous one did not",
        "the previous one is heard after the flip",
    ],
)
def test_a_revision_is_blamed_only_where_it_stands_alone(
    previous: tuple[Bucket, ...], beside: tuple[OthersWindow, ...], *, blamed: bool
) -> None:
    bad = buckets(until_s=1000, seconds=300, successes=95, errors=5)
    verdict = judge(Heard(bad, previous, beside), TERMS, flipped_s=600, now_s=1000)
    assert verdict is not None
    assert verdict.blamed is blamed
    assert ("but so did" in verdict.message) is not blamed


# --- sources --------------------------------------------------------------------------------------------------------

ALLOWED = Allowed(prefixes=("s3://voices/team-a", "https://example.org/v/", "file:///srv/voices"))


@pytest.mark.parametrize(
    "uri", ["s3://voices/team-a/x", "https://example.org/v/7.ckpt", "file:///srv/voices/a/b", "s3://voices/team-a"]
)
def test_what_lies_under_a_prefix_is_allowed(uri: str) -> None:
    assert require_allowed(uri, ALLOWED)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://voices/team-ab/x",
        "s3://voices2/team-a/x",
        "https://example.org.evil/v/x",
        "https://example.org:444/v/x",
        "http://example.org/v/x",
        "https://user:secret@example.org/v/x",
        "file:///srv/voices/../etc/passwd",
        "file:///srv/voices/%2e%2e/x",
        "file:///srv/voices\\..\\x",
        "file:///srv/voices/x%00y",
        "gopher://example.org/v/x",
        "https:///v/x",
        "/srv/voices/x",
        "",
        "http://[::1",
    ],
)
def test_everything_else_is_refused(uri: str) -> None:
    with pytest.raises(ForbiddenSource):
        require_allowed(uri, ALLOWED)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "voices"
    root.mkdir()
    (tmp_path / "secret").write_text("x")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "inside").symlink_to(root)
    allowed = Allowed(prefixes=(root.as_uri(),))
    with pytest.raises(ForbiddenSource, match="link"):
        local_path(urlsplit((root / "link").as_uri()), allowed)
    assert local_path(urlsplit((root / "inside").as_uri()), allowed) == root


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "fe80::1%eth0",
        "::ffff:169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "100.100.100.200",
        "fd00:ec2::254",
    ],
)
def test_some_addresses_are_never_dialled(address: str) -> None:
    with pytest.raises(ForbiddenSource, match="never"):
        require_dialable(address, host="h", private_addresses=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "::1", "fc00::1"])
def test_private_addresses_need_leave(address: str) -> None:
    with pytest.raises(ForbiddenSource, match="privateAddresses"):
        require_dialable(address, host="h", private_addresses=False)
    require_dialable(address, host="h", private_addresses=True)


def test_public_addresses_are_dialled() -> None:
    require_dialable("93.184.216.34", host="h", private_addresses=False)


@pytest.mark.parametrize(
    ("uri", "allowed"),
    [
        ("https://cdn.hub.example/a", True),
        ("https://eu.cdn.hub.example/a", True),
        ("https://hub.example/a", False),
        ("https://evilhub.example/a", False),
        ("https://hub.example.evil/a", False),
        ("http://cdn.hub.example/a", False),
    ],
)
def test_a_star_covers_the_hosts_below(uri: str, allowed: bool) -> None:
    rule = Allowed(prefixes=("https://*.hub.example/",))
    if allowed:
        assert require_allowed(uri, rule).geturl() == uri
    else:
        with pytest.raises(ForbiddenSource):
            require_allowed(uri, rule)


def test_the_manifest_lies_beside_the_files() -> None:
    assert sibling("s3://voices/a/7.ckpt", "bundle.json") == "s3://voices/a/bundle.json"


# --- configuration --------------------------------------------------------------------------------------------------

GOOD = """\
pod: {uid: p1}
tls: {directory: /tls}
handoffDirectory: /run/segue
journalDirectory: /journal
cacheDirectory: /cache
pool:
  budgetBytes: 2Gi
controlListen: 0.0.0.0:8443
"""


def test_a_good_file_is_read_with_its_units(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    config = load_config(path)
    assert config.pool.budget_bytes == 2 << 30
    assert (config.control_listen.host, config.control_listen.port) == ("0.0.0.0", 8443)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("budgetBytes: 2Gi", "budgetBytes: much"), r"c\.yaml:7: pool\.budgetBytes"),
        (("budgetBytes: 2Gi", "budget: 2Gi"), r"c\.yaml:7: pool\.budget: Extra"),
        (("pod: {uid: p1}", "pod: {}"), r"c\.yaml:1: pod\.uid: Field required"),
        (("0.0.0.0:8443", "nowhere"), r"c\.yaml:8: controlListen: .*HOST:PORT"),
        (("pool:", "pool: ]"), r"c\.yaml:\d+: "),
        (("pool:", "sharedModels: {x: {}}\npool:"), r"c\.yaml:6: sharedModels\.x: .*one place: directory, or hub"),
        (("pool:", "sharedModels: {x: {directory: m}}\npool:"), r"c\.yaml:6: .*absolute path, not 'm'"),
        (("pool:", "sharedModels: {x: {hub: {repository: a/b, revision: main}}}\npool:"), r"hub\.revision: .*40"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_field(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD.replace(*change))
    with pytest.raises(InvalidConfig, match=message):
        load_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_the_environment_says_which_pod_it_is(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD.replace("pod: {uid: p1}", "pod: {fleet: calm}"))
    told = {"SEGUE_POD_UID": "u-7", "SEGUE_POD_NAME": "speech-0", "SEGUE_POD_NAMESPACE": "voices"}
    pod = load_config(path, environment=told).pod
    assert (pod.uid, pod.name, pod.namespace, pod.fleet) == ("u-7", "speech-0", "voices", "calm")


def test_the_environment_goes_before_the_file_and_an_empty_variable_does_not(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD.replace("pod: {uid: p1}", "pod: {uid: p1, name: n1}"))
    pod = load_config(path, environment={"SEGUE_POD_UID": "u-7", "SEGUE_POD_NAME": ""}).pod
    assert (pod.uid, pod.name) == ("u-7", "n1")


def test_without_a_pod_section_the_environment_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD.replace("pod: {uid: p1}\n", ""))
    assert load_config(path, environment={"SEGUE_POD_UID": "u-7"}).pod.uid == "u-7"
    with pytest.raises(InvalidConfig, match="pod: Field required"):
        load_config(path, environment={})
