"""A real `segue up` before a real browser: a rollout is watched live, heard, approved and taken back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import Open
from tests.support.browser import shoot
from tests.support.running import Running, eventually

pytestmark = [pytest.mark.browser, pytest.mark.process, pytest.mark.timeout(240)]

LIVE_MS = 60_000
AUDIBLE = 0.01
"""Root mean square of a sentence at ordinary loudness is five times this at least; of silence it is nothing."""

KEEP_SOUNDS = """
  window.sounds_ = new Map();
  const make = URL.createObjectURL;
  URL.createObjectURL = (blob) => { const url = make.call(URL, blob); sounds_.set(url, blob); return url; };
"""
MEASURE = """
async (audio) => {
  if (!(audio.duration > 0)) await new Promise((resolve) => audio.addEventListener("loadedmetadata", resolve));
  const bytes = await sounds_.get(audio.src).arrayBuffer();
  const sound = await new OfflineAudioContext(1, 1, 24000).decodeAudioData(bytes);
  const samples = sound.getChannelData(0);
  let power = 0;
  for (const sample of samples) power += sample * sample;
  const first = Array.from(samples.slice(4000, 8000));
  return {seconds: sound.duration, rms: Math.sqrt(power / samples.length), first, played: audio.duration};
}
"""
"""Of the very bytes that a player was given."""

PLAY = """
async (audio) => {
  await audio.play();
  while (audio.currentTime < 0.2) await new Promise((resolve) => audio.addEventListener("timeupdate", resolve));
  audio.pause();
  return audio.currentTime;
}
"""

LOUD = re.compile(r"^(0\.[1-9]|1)")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running.prepare(tmp_path_factory.mktemp("up"))
    file = made.voices / "narrator.yaml"
    text = file.read_text(encoding="utf-8").replace("  rollout:\n", "  rollout:\n    approval: Manual\n")
    text = text.replace("watch: {duration: 1s,", "watch: {duration: 4s,")
    file.write_text(text, encoding="utf-8")
    for name in ("aria", "bert"):
        copy = text.replace("name: narrator", f"name: {name}").replace("approval: Manual", "approval: Automatic")
        version = f"examples/{name}/v1"
        copy = copy.replace("examples/narrator/v1", version)
        (made.voices / f"{name}.yaml").write_text(copy, encoding="utf-8")
    try:
        made.start("--console-port", "0", until="console: ")
        yield made
    finally:
        made.stop()


def enter_token(page: Page, running: Running) -> None:
    page.locator("#token-button").click()
    page.locator("#token").fill((running.layout.root / "console-token").read_text(encoding="ascii").strip())
    page.locator("#token-ok").click()
    expect(page.locator("#token-dialog")).to_be_hidden()


def wish(page: Page, button: str) -> None:
    page.get_by_role("button", name=button).click()
    page.locator("#ask-ok").click()


def roll(running: Running, version: str) -> None:
    files = (f"updates/narrator/{version}/prosody.pth", f"updates/narrator/{version}/timbre.pth")
    running.run("roll", "narrator", "--prosody", files[0], "--timbre", files[1])


def test_a_rollout_is_watched_heard_approved_and_taken_back(running: Running, visit: Open) -> None:
    """One story, in the order in which somebody on call would live it; each step needs the one before."""
    page = visit(f"{running.up['console']}#default/narrator", script=KEEP_SOUNDS)
    state = page.locator("#d-state h3")
    expect(state).to_have_text("Waits for approval", timeout=LIVE_MS)
    assert page.locator("#d-state .buttons button").all_inner_texts() == ["Enter the token to act"]
    enter_token(page, running)
    wish(page, "Approve")
    expect(state).to_have_text("Serving", timeout=LIVE_MS)
    first = running.voice()["status"]["activeRevision"]

    phases = watch_phases(page)
    roll(running, "v2")
    expect(state).to_have_text("Waits for approval", timeout=LIVE_MS)
    seen = phases()
    assert seen.index("Loading") < seen.index("Verifying") < seen.index("Waits for approval")
    expect(page.locator("#d-rollout .timeline .current")).to_contain_text("Verify")
    expect(page.locator("#d-figures")).to_contain_text("similarity")
    second = running.voice()["status"]["targetRevision"]

    listen_blind(page, first, second)
    page.evaluate("scrollTo(0, 0)")
    shoot(page, "console-approval")
    page.locator("#d-listen").evaluate("(section) => section.scrollIntoView({block: 'center'})")
    shoot(page, "console-listen")
    both_orders_come_up(page)

    wish(page, "Approve")
    expect(state).to_have_text("Watched", timeout=LIVE_MS)
    page.locator("#notices .close").click()
    page.evaluate("scrollTo(0, 0)")
    shoot(page, "console-watching")
    expect(state).to_have_text("Serving", timeout=LIVE_MS)
    assert running.voice()["status"]["activeRevision"] == second

    wish(page, "Roll back")
    expect(page.locator("#notices")).to_contain_text("Roll back was asked for")
    expect(page.locator("#d-versions li").filter(has_text=first[:10])).to_contain_text("served now", timeout=LIVE_MS)
    expect(page.locator("#d-events")).to_contain_text("rollback was asked for in the console")
    eventually(
        lambda: running.voice()["status"]["activeRevision"] == first, within_s=30, what="the first version again"
    )
    assert "segue.dev/rollback" in (running.voices / "narrator.yaml").read_text(encoding="utf-8")


def test_a_version_that_is_refused_shows_the_figures_that_speak_against_it(running: Running, visit: Open) -> None:
    page = visit(f"{running.up['console']}#default/narrator", locale="zh-CN", color_scheme="dark")
    expect(page.locator("#d-state h3")).to_be_visible(timeout=LIVE_MS)
    roll(running, "broken")
    failing = page.locator("#d-figures tbody tr.fail")
    expect(failing.filter(has_text="textMatch").first).to_contain_text("未通过", timeout=LIVE_MS)
    expect(page.locator("#d-state h3")).to_have_text("已撤回", timeout=LIVE_MS)
    expect(page.locator("#d-versions li.bad").first).to_contain_text("VerificationFailed")
    expect(page.locator("#d-figures tbody tr").first).to_have_class("fail")
    page.evaluate("scrollTo(0, 0)")
    shoot(page, "console-refused")


def watch_phases(page: Page) -> Any:
    """Note every state that the page shows from now on."""
    page.evaluate(
        """() => {
          const at = () => document.querySelector("#d-state h3")?.textContent;
          window.seen_ = [at()];
          new MutationObserver(() => { if (at() && at() !== seen_.at(-1)) seen_.push(at()); })
            .observe(document.getElementById("d-state"), {childList: true, subtree: true, characterData: true});
        }"""
    )
    return lambda: page.evaluate("seen_")


def listen_blind(page: Page, first: str, second: str) -> None:
    page.get_by_role("button", name="Compare blind").click()
    players = page.locator("#d-listen audio")
    expect(players).to_have_count(2, timeout=LIVE_MS)
    sounds = [players.nth(number).evaluate(MEASURE) for number in range(2)]
    for sound in sounds:
        assert sound["seconds"] > 0.5
        assert sound["rms"] > AUDIBLE
        assert sound["played"] == pytest.approx(sound["seconds"], abs=0.05)
    assert sounds[0]["first"] != sounds[1]["first"]
    assert players.nth(0).evaluate(PLAY) > 0.2
    expect(page.locator("#d-listen canvas").first).to_have_attribute("data-peak", LOUD)

    hidden = page.locator("#d-listen .result").inner_html()
    assert first[:10] not in hidden
    assert second[:10] not in hidden
    page.get_by_role("button", name="The first").click()
    expect(page.locator("#d-listen .verdict")).to_contain_text("The first was")
    expect(page.locator("#d-listen [data-tally]")).to_contain_text(" 1,")
    votes = page.evaluate("({...localStorage})")
    assert [json.loads(text) for name, text in votes.items() if name.startswith("segue-votes")] in (
        [{first: 1}],
        [{second: 1}],
    )


def both_orders_come_up(page: Page) -> None:
    """Else the first player would always be the first version, and nothing would be blind."""
    firsts = {page.locator("#d-listen figcaption code").first.inner_text()}
    for _ in range(20):
        page.get_by_role("button", name="Another round").click()
        page.locator("#d-listen .vote button").first.click()
        firsts.add(page.locator("#d-listen figcaption code").first.inner_text())
        if len(firsts) == 2:
            return
    raise AssertionError("twenty draws by lot, and always the same order: once in a million")


def test_the_overview_shows_the_pool_and_who_is_asked_for(running: Running, visit: Open) -> None:
    running.run("say", "Hello.", "--voice", "narrator", "-o", str(running.home / "hello.wav"))
    page = visit(str(running.up["console"]))
    expect(page.locator("#overview meter").first).to_be_visible(timeout=LIVE_MS)
    expect(page.locator("#overview")).to_contain_text("1 of 1 workers serve")
    expect(page.locator("#o-ranking tbody tr").first).to_contain_text("narrator", timeout=LIVE_MS)
    expect(page.locator("#o-trouble")).to_contain_text("verification on pod local refused it")
    shoot(page, "console-overview")


def test_what_up_prints_leads_to_the_page_and_to_the_token(running: Running) -> None:
    lines = running.said()
    assert f"console:    {running.up['console']}" in lines
    file = Path(next(line for line in lines.splitlines() if "give it the token in" in line).rpartition(" in ")[2])
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text(encoding="ascii").strip() not in lines
