// The page as a whole: language, theme, which voice is chosen, and what is drawn again when something changed.

import { drawToken, prepare as prepareActing } from "./act.js";
import { drawDetail } from "./detail.js";
import { $, announce, speak, t, tick } from "./dom.js";
import { drawList, markSelected, prepare as prepareList } from "./list.js";
import { drawOverview } from "./overview.js";
import { connect, disconnect, listen, readRanking, select, state } from "./store.js";

const RANKING_MS = 15000;
const TICK_MS = 1000;
let wasConnected = false;

function chosen() {
  const key = decodeURIComponent(location.hash.slice(1));
  return key.includes("/") ? key : null;
}

function drawAll() {
  drawTop();
  drawList();
  drawOverview();
  drawDetail();
}

function drawTop() {
  const link = $("link");
  link.dataset.state = state.connected ? "on" : "off";
  $("link-text").textContent = t(state.connected ? "link.on" : "link.off");
  const about = state.about;
  $("where").textContent = about ? t(about.adapter === "folder" ? "where.folder" : about.leading ? "where.leads" : "where.waits") : "";
  drawToken();
}

function onNews(changed) {
  if (changed.has("connected")) {
    if (wasConnected !== state.connected) announce(t(state.connected ? "link.back" : "link.lost"));
    wasConnected = state.connected;
  }
  if (changed.has("connected") || changed.has("about")) drawTop();
  if (changed.has("rows") || changed.has("ranking") || changed.has("about")) drawList();
  drawOverview();
  drawDetail();
}

function onHash() {
  const before = state.selected;
  select(chosen());
  markSelected();
  drawDetail();
  drawOverview();
  if (state.selected) {
    $("main").scrollTop = 0;
    $("voice-title")?.focus({ preventScroll: true });
    if (matchMedia("(max-width: 900px)").matches) scrollTo(0, 0);
  } else if (before) {
    [...document.querySelectorAll("#list a")].find((each) => each.dataset.key === before)?.focus();
  }
}

function look(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("segue-theme", theme);
}

async function start() {
  const preferred = navigator.languages.find((each) => /^(zh|en)\b/i.test(each)) ?? "en";
  const language = localStorage.getItem("segue-language") ?? preferred.slice(0, 2).toLowerCase();
  $("language").value = language === "zh" ? "zh" : "en";
  $("theme").value = localStorage.getItem("segue-theme") ?? "auto";
  look($("theme").value);
  $("language").addEventListener("change", async () => {
    localStorage.setItem("segue-language", $("language").value);
    await speak($("language").value);
    drawAll();
  });
  $("theme").addEventListener("change", () => look($("theme").value));
  await speak($("language").value);
  prepareList();
  prepareActing(drawAll);
  listen(onNews);
  addEventListener("hashchange", onHash);
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  state.selected = chosen();
  drawAll();
  connect();
  readRanking();
  setInterval(() => { if (!document.hidden) readRanking(); }, RANKING_MS);
  setInterval(() => { if (!document.hidden) tick(); }, TICK_MS);
}

start();
