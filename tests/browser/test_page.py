"""The page by itself, over voices in every state: keyboards, screen readers, small windows, four hundred voices."""

from __future__ import annotations

import json
import statistics
from functools import partial
from importlib import resources

import pytest
from playwright.sync_api import CDPSession, Page, expect
from tests.browser.conftest import Open
from tests.support.console import FakeSource, rolling, voice_document
from tests.support.served_console import LONG, TOKEN, ServedConsole, troubled

from segue_operator.console.source import Whereabouts

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

VOICES = 400
LONGEST_TASK_MS = 200
FRAME_P95_MS = 50
CPU_PER_FRAME_MS = 12
"""Of the page's main thread: what a machine that does nothing else needs for a frame, of which it has 16.7 ms."""

AXE = resources.files("axe_playwright_python").joinpath("axe.min.js")


def violations(page: Page) -> list[str]:
    """What axe finds serious or critical."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{each['id']}: {[node['html'][:160] for node in each['nodes']]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.fixture
def trouble(served: ServedConsole) -> ServedConsole:
    troubled(served.source)
    return served.start()


# --- what is on top -------------------------------------------------------------------------------------------------


def test_what_goes_wrong_is_on_top_and_everything_says_what_to_do(trouble: ServedConsole, visit: Open) -> None:
    page = visit(trouble.url)
    expect(page.locator("#list li")).to_have_count(10)
    codes = page.locator("#list .code").all_inner_texts()
    assert codes[:3] == ["Cannot be used", "Failed", "Rolling back"]
    assert codes[-1] == "Serving"
    expect(page.locator("#overview .banner.bad")).to_contain_text("not as they should be: 3")
    expect(page.locator("#overview")).to_contain_text("voices/calm.yaml:7: spec.watch: is no duration")
    page.get_by_role("link", name="failed", exact=False).first.click()
    expect(page.locator("#d-state")).to_contain_text("What to do: Look at the figures, mend the weights, or try again.")
    first = page.locator("#d-figures tbody tr").first
    expect(first).to_contain_text("textMatch")
    expect(first).to_contain_text("fails")
    page.get_by_text("The same on the command line").click()
    expect(page.get_by_text("segue retry failed")).to_be_visible()


def test_voices_come_change_and_go_without_a_reload(trouble: ServedConsole, visit: Open) -> None:
    page = visit(f"{trouble.url}#default/calm")
    trouble.change(lambda source: source.put(rolling("Canary", "default/fresh")))
    expect(page.locator("#list [data-key='default/fresh']")).to_contain_text("Canary")
    trouble.change(lambda source: source.voices.pop("default/calm"))
    expect(page.locator("#list [data-key='default/calm']")).to_have_count(0)
    expect(page.locator("#detail")).to_contain_text("There is no voice default/calm any more")


def test_a_lost_connection_is_said_and_mended_with_what_happened_meanwhile(trouble: ServedConsole, visit: Open) -> None:
    page = visit(trouble.url)
    expect(page.locator("#link")).to_have_text("Live")
    trouble.stop()
    expect(page.locator("#link")).to_have_text("Not connected")
    trouble.source.put(rolling("Canary", "default/meanwhile"))
    trouble.start()
    expect(page.locator("#link")).to_have_text("Live")
    expect(page.locator("#list [data-key='default/meanwhile']")).to_be_visible()
    page.complaints.clear()  # type: ignore[attr-defined]  # the browser says that it could not connect


def test_an_empty_operator_says_how_to_begin(served: ServedConsole, visit: Open) -> None:
    page = visit(served.start().url)
    expect(page.locator("#none")).to_contain_text("There are no voices yet")
    expect(page.locator("#overview")).to_contain_text("No pod is known")


def test_a_replica_that_stands_by_says_how_to_reach_the_leader(trouble: ServedConsole, visit: Open) -> None:
    leader = "segue-system/segue-operator-5c8d-x2v"
    trouble.source.where = Whereabouts(adapter="kubernetes", leading=False, leader=leader, command="kubectl segue")
    page = visit(f"{trouble.url}#default/failed")
    expect(page.locator("#d-pods")).to_contain_text("kubectl -n segue-system port-forward pod/segue-operator-5c8d-x2v")
    expect(page.locator("#where")).to_have_text("cluster; this operator stands by")
    page.get_by_text("The same on the command line").click()
    expect(page.get_by_text("kubectl segue retry default/failed")).to_be_visible()


def test_search_and_filters_narrow_the_list(trouble: ServedConsole, visit: Open) -> None:
    page = visit(trouble.url)
    page.locator("#search").fill("watched")
    expect(page.locator("#list li")).to_have_count(1)
    page.locator("#search").fill("nobody of this name")
    expect(page.locator("#none")).to_have_text("No voice fits.")
    page.locator("#search").fill("")
    page.get_by_role("button", name="Wrong 3").click()
    expect(page.locator("#list li")).to_have_count(3)


# --- for everybody --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(trouble: ServedConsole, visit: Open, locale: str, scheme: str) -> None:
    page = visit(trouble.url, locale=locale, color_scheme=scheme)
    expect(page.locator("#list li")).to_have_count(10)
    assert page.locator("html").get_attribute("lang") == locale.replace("en-GB", "en")
    assert violations(page) == []
    for key in ("default/failed", "default/approval", "default/going-back"):
        page.goto(f"{trouble.url}#{key}")
        expect(page.locator("#d-events h3")).to_be_visible()
        assert violations(page) == [], key
    page.locator("#token-button").click()
    assert violations(page) == [], "dialog"


@pytest.mark.parametrize("width", [320, 700, 1000])
def test_a_narrow_window_scrolls_in_one_direction_only(trouble: ServedConsole, visit: Open, width: int) -> None:
    page = visit(trouble.url, width=width, height=700)
    expect(page.locator("#list li")).to_have_count(10)
    for key in ("", "default/failed", "default/tried", f"team-with-a-long-name/{LONG}"):
        page.goto(f"{trouble.url}#{key}")
        expect(page.locator("#d-events h3" if key else "#list li").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, key


def test_the_list_is_one_stop_of_the_tab_key_and_arrows_walk_it(trouble: ServedConsole, visit: Open) -> None:
    page = visit(trouble.url)
    expect(page.locator("#list li")).to_have_count(10)
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    for _ in range(7):
        page.keyboard.press("Tab")  # order, five filters, the list
    rows = page.locator("#list a")
    expect(rows.nth(0)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("End")
    expect(rows.nth(9)).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#live")).to_have_text("failed: Failed")
    expect(page.locator("#voice-title")).to_be_focused()  # and still is, once the voice has come
    page.go_back()
    expect(rows.nth(1)).to_be_focused()


def test_what_a_person_opened_and_where_they_are_stays_while_the_voice_gets_on(
    trouble: ServedConsole, visit: Open
) -> None:
    page = visit(f"{trouble.url}#default/approval")
    commands = page.get_by_text("The same on the command line")
    commands.click()
    expect(commands).to_be_focused()
    trouble.change(lambda source: source.put(rolling("Canary", "default/approval", message="5 of 100 successes")))
    expect(page.locator("#d-state")).to_contain_text("5 of 100 successes")
    expect(page.get_by_text("segue promote approval")).to_be_visible()
    expect(page.get_by_text("The same on the command line")).to_be_focused()


def test_language_and_theme_are_chosen_and_kept(trouble: ServedConsole, visit: Open) -> None:
    page = visit(f"{trouble.url}#default/approval")
    page.locator("#language").select_option("zh")
    expect(page.locator("#d-state h3")).to_have_text("等待批准")
    page.locator("#theme").select_option("dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    expect(page.locator("#d-state h3")).to_have_text("等待批准")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    expect(page.locator("#language")).to_have_value("zh")


# --- acting ---------------------------------------------------------------------------------------------------------


def test_without_the_token_there_is_nothing_to_press(trouble: ServedConsole, visit: Open) -> None:
    page = visit(f"{trouble.url}#default/approval")
    expect(page.locator("#d-state .buttons button")).to_have_text(["Enter the token to act"])
    page.get_by_role("button", name="Enter the token to act").click()
    page.locator("#token").fill("a guess")
    page.keyboard.press("Enter")
    expect(page.locator("#token-error")).to_have_text("This token does not open the console.")
    page.complaints.clear()  # type: ignore[attr-defined]  # the browser notes the 401
    page.keyboard.press("Escape")
    expect(page.locator("#d-state .buttons button")).to_have_text(["Enter the token to act"])
    assert trouble.source.edits == []


def test_without_a_token_file_it_says_that_it_only_shows(served: ServedConsole, visit: Open) -> None:
    troubled(served.source)
    served.config = served.config.model_copy(update={"token_file": None})
    page = visit(f"{served.start().url}#default/approval")
    expect(page.locator("#read-only")).to_be_visible()
    expect(page.locator("#d-state")).to_contain_text("Nobody can act here")


def enter_token(page: Page) -> None:
    page.locator("#token-button").click()
    page.locator("#token").fill(TOKEN)
    page.locator("#token-ok").click()
    expect(page.locator("#token-dialog")).to_be_hidden()


def test_a_wish_is_asked_once_more_and_the_token_is_nowhere_to_be_found(trouble: ServedConsole, visit: Open) -> None:
    page = visit(f"{trouble.url}#default/approval")
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    enter_token(page)
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("#ask-title")).to_have_text("Promote bbbbbbbbbb of approval?")
    page.keyboard.press("Escape")
    assert trouble.source.edits == []
    page.get_by_role("button", name="Approve").click()
    page.locator("#ask-ok").click()
    expect(page.locator("#notices")).to_contain_text("Approve was asked for")
    assert [key for key, _ in trouble.source.edits] == ["default/approval"]
    assert urls
    assert not [url for url in urls if TOKEN in url]
    assert TOKEN not in page.content()
    assert TOKEN not in json.dumps(page.evaluate("({...localStorage})"))


def test_a_conflict_is_told_in_the_operators_words(trouble: ServedConsole, visit: Open) -> None:
    from segue.errors import EditConflict

    page = visit(f"{trouble.url}#default/still")
    enter_token(page)
    trouble.source.fails = EditConflict("still.yaml was changed since it was read; look at it again")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#notices .bad")).to_have_text(
        "Resume was refused: still.yaml was changed since it was read; look at it again×"
    )
    page.complaints.clear()  # type: ignore[attr-defined]  # the browser notes the 409


# --- four hundred voices --------------------------------------------------------------------------------------------

WATCH_FRAMES = """
() => {
  window.frames_ = []; window.tasks_ = [];
  const note_tasks = (list) => tasks_.push(...list.getEntries().map((each) => each.duration));
  new PerformanceObserver(note_tasks).observe({type: "longtask"});
  let before = performance.now();
  const note = (now) => { frames_.push(now - before); before = now; window.noting_ = requestAnimationFrame(note); };
  window.noting_ = requestAnimationFrame(note);
}
"""
SPIN = """
async () => {
  const took = [];
  for (let turn = 0; turn < 20; turn += 1) {
    const before = performance.now();
    for (let count = 0, sum = 0; count < 2e7; count += 1) sum += Math.sqrt(count);
    took.push(performance.now() - before);
    await new Promise(requestAnimationFrame);
  }
  return took;
}
"""
"""The same work again and again: what differs are other processes."""

SCROLL = """
async () => {
  const list = document.getElementById("list");
  const end = list.scrollHeight - list.clientHeight;
  for (let at = 0; at <= 1; at += 0.01) {
    list.scrollTop = end * at;
    await new Promise(requestAnimationFrame);
  }
}
"""


def many(source: FakeSource) -> None:
    source.put(*(voice_document(f"default/voice-{number:03}") for number in range(VOICES)))


def test_four_hundred_voices_scroll_and_change_without_stutter(served: ServedConsole, visit: Open) -> None:
    many(served.source)
    page = visit(served.start().url)
    expect(page.locator("#list li")).to_have_count(VOICES)
    spins = page.evaluate(SPIN)
    crowded = p95(spins) / min(spins)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before_s = busy_s(session)
    page.evaluate(WATCH_FRAMES)

    def churn(turn: int, source: FakeSource) -> None:
        source.put(*(rolling("Canary", f"default/voice-{(turn * 20 + number) % VOICES:03}") for number in range(20)))

    for turn in range(4):
        served.change(partial(churn, turn))
        page.evaluate(SCROLL)
    page.locator("#search").press_sequentially("voice-39")
    expect(page.locator("#list li")).to_have_count(10)
    page.locator("#search").fill("")
    expect(page.locator("#list li")).to_have_count(VOICES)
    expect(page.locator("#list .row.moving")).to_have_count(80)
    frames, tasks = page.evaluate("[frames_, tasks_]")
    cpu_ms = (busy_s(session) - before_s) * 1000 / len(frames)
    print(f"{len(frames)} frames, p95 {p95(frames):.1f} ms, {cpu_ms:.1f} ms of the processor each")
    print(f"long tasks: {sorted(tasks, reverse=True)[:5]} ms; others slow this machine down {crowded:.1f} times")
    assert cpu_ms < CPU_PER_FRAME_MS
    assert p95(frames) < FRAME_P95_MS * crowded
    assert max(tasks, default=0) < LONGEST_TASK_MS * crowded


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def busy_s(session: CDPSession) -> float:
    """Seconds of the processor that the page's main thread has had."""
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"])
