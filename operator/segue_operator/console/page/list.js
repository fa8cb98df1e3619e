// The list of voices: one row each, made once and changed in place; the browser lays out only those in sight.

import { $, h, number, short, t, time } from "./dom.js";
import { state } from "./store.js";

const FILTERS = { all: () => true, bad: (row) => row.level === undefined, waits: (row) => row.level === 1, moving: (row) => row.level === 2 || row.level === 3, quiet: (row) => row.level === 4 };
const PHASES = ["Preloading", "Verifying", "Canary", "Flipping", "Watching"];
const LEVELS = ["bad", "waits", "moving", "watched", "quiet"];

const items = new Map();
let filter = "all";
let language = "";

// A row has no `level` where it is 0: what is empty is not sent.
export const levelOf = (row) => LEVELS[row.level ?? 0];

export function prepare() {
  $("search").addEventListener("input", drawList);
  $("sort").addEventListener("change", drawList);
  $("list").addEventListener("keydown", walk);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, textarea, select, dialog")) {
      event.preventDefault();
      $("search").focus();
    }
  });
}

export function drawList() {
  if (language !== document.documentElement.lang) {
    language = document.documentElement.lang;
    items.clear();
  }
  const shown = ordered();
  for (const [key, item] of items) if (!state.rows.has(key)) { item.element.remove(); items.delete(key); }
  const list = $("list");
  const wanted = shown.map((row) => itemOf(row).element);
  if (list.childElementCount !== wanted.length || wanted.some((each, at) => list.children[at] !== each)) place(list, wanted);
  markSelected();
  drawChips();
  $("none").hidden = shown.length > 0;
  $("none").textContent = state.about === null ? t("list.loading") : state.rows.size ? t("list.nothing") : t("list.empty");
}

function place(list, wanted) {
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  list.replaceChildren(...wanted);
  if (focused?.isConnected) focused.focus({ preventScroll: true });
}

function ordered() {
  const words = $("search").value.trim().toLowerCase();
  const rows = [...state.rows.values()].filter((row) => FILTERS[filter](row) && (!words || fits(row, words)));
  const asked = (row) => state.ranking?.voices[row.key]?.[0] ?? 0;
  const by = $("sort").value;
  return rows.sort((one, other) => {
    if (by === "attention" && (one.level ?? 0) !== (other.level ?? 0)) return (one.level ?? 0) - (other.level ?? 0);
    if (by === "requests" && asked(one) !== asked(other)) return asked(other) - asked(one);
    return one.key < other.key ? -1 : 1;
  });
}

const fits = (row, words) => `${row.key} ${row.active ?? ""} ${row.target ?? ""} ${t(`code.${row.code}`)}`.toLowerCase().includes(words);

function itemOf(row) {
  const requests = state.ranking?.voices[row.key]?.[0] ?? 0;
  const about = JSON.stringify([row, requests]);
  let item = items.get(row.key);
  if (!item) {
    item = { element: h("li"), about: "" };
    items.set(row.key, item);
  }
  if (item.about !== about) {
    const hadFocus = item.element.contains(document.activeElement);
    item.about = about;
    item.element.replaceChildren(content(row, requests));
    if (hadFocus) item.element.firstChild.focus({ preventScroll: true });
  }
  return item;
}

function content(row, requests) {
  const level = levelOf(row);
  const pods = row.pods ?? {};
  return h("a", { href: `#${row.key}`, class: `row ${level}`, tabindex: "-1", data: { key: row.key } },
    h("span", { class: "dot", "aria-hidden": "true" }),
    h("span", { class: "name", title: row.key }, row.namespace === "default" ? row.name : h("span", { class: "soft" }, `${row.namespace}/`), row.namespace === "default" ? null : row.name),
    h("span", { class: "code" }, t(`code.${row.code}`)),
    h("span", { class: "soft line" },
      isChanging(row) ? `${brief(row.active)} → ${brief(row.target)}` : short(row.active),
      pods.total && !isChanging(row) ? ` · ${t("pods.count", { ready: pods.ready || 0, total: pods.total })}` : null,
      requests ? ` · ${t("requests.count", { count: number(requests) })}` : null),
    h("span", { class: "soft when" }, row.since ? time(row.since) : null),
    PHASES.includes(row.phase) ? bar(row.phase) : null);
}

const isChanging = (row) => Boolean(row.target && row.target !== row.active);

// Two of them have to fit beside the time.
const brief = (revision) => (revision ? revision.slice(0, 7) : t("none"));

function bar(phase) {
  const at = PHASES.indexOf(phase);
  return h("span", { class: "phases", "aria-hidden": "true" }, PHASES.map((_, place) => h("i", { class: place < at ? "done" : place === at ? "current" : "" })));
}

function drawChips() {
  const counts = Object.fromEntries(Object.keys(FILTERS).map((name) => [name, 0]));
  for (const row of state.rows.values()) for (const name of Object.keys(FILTERS)) if (FILTERS[name](row)) counts[name] += 1;
  const chips = $("chips");
  if (chips.childElementCount === 0) {
    chips.append(...Object.keys(FILTERS).map((name) => h("button", { type: "button", class: `chip ${name}`, data: { filter: name }, on: { click: () => { filter = name; drawList(); } } })));
  }
  for (const chip of chips.children) {
    const name = chip.dataset.filter;
    const text = `${t(`filter.${name}`)} ${number(counts[name])}`;
    if (chip.textContent !== text) chip.textContent = text;
    chip.setAttribute("aria-pressed", String(name === filter));
  }
}

export function markSelected() {
  const list = $("list");
  let stop = null;
  for (const link of list.querySelectorAll("a[aria-current], a[tabindex='0']")) {
    link.removeAttribute("aria-current");
    link.tabIndex = -1;
  }
  const selected = items.get(state.selected)?.element;
  if (selected?.isConnected) {
    stop = selected.firstChild;
    stop.setAttribute("aria-current", "page");
  }
  stop ??= list.contains(document.activeElement) ? document.activeElement.closest("a") : list.querySelector("a");
  if (stop) stop.tabIndex = 0;
}

// One stop for the Tab key; arrows go from row to row.
function walk(event) {
  const here = event.target.closest("li");
  const steps = { ArrowDown: here?.nextElementSibling, ArrowUp: here?.previousElementSibling, Home: $("list").firstElementChild, End: $("list").lastElementChild };
  const to = steps[event.key]?.firstChild;
  if (!to) return;
  event.preventDefault();
  for (const link of $("list").querySelectorAll("a[tabindex='0']")) link.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}
