// Saying a sentence with any resident version, and comparing two by ear: blind, the order is drawn by lot and shown only
// after the vote. Votes are counted in this browser.

import { announce, h, rev, short, t } from "./dom.js";
import { post, state } from "./store.js";

const KEY = "segue-speech-key";
const SAME_SEED = 7;
const WAVE_POINTS = 240;
let place = null;
let drawnFor = "";
let parts = null;
let pair = null;
let opened = [];

export function drawListen(container, voice) {
  place = container;
  const revisions = Object.keys(voice.resident);
  const about = JSON.stringify([document.documentElement.lang, voice.key, revisions, voice.active, voice.target, state.about?.canListen]);
  if (about === drawnFor && container.childElementCount) return;
  const same = container.childElementCount > 0 && parts?.key === voice.key;
  drawnFor = about;
  if (!state.about?.canListen || !revisions.length) {
    parts = null;
    container.replaceChildren(h("section", { class: "card" }, h("h3", {}, t("listen")), h("p", { class: "empty" }, t(state.about?.canListen === false ? "listen.off" : "listen.none"))));
    return;
  }
  build(container, voice, revisions, same ? parts : null);
}

// `before` is what a person has typed, chosen and heard already: it stays when versions come and go.
function build(container, voice, revisions, before) {
  const newest = voice.target && revisions.includes(voice.target) ? voice.target : revisions.find((each) => each !== voice.active) ?? revisions[0];
  const oldest = revisions.includes(voice.stable) && voice.stable !== newest ? voice.stable : revisions.find((each) => each !== newest) ?? revisions[0];
  const options = (chosen) => revisions.map((each) => h("option", { value: each, selected: each === chosen }, `${short(each)}${each === voice.active ? ` (${t("listen.active")})` : each === voice.target ? ` (${t("listen.new")})` : ""}`));
  const choice = (name, fallback) => (before?.two && revisions.includes(before[name].value) ? before[name].value : fallback);
  const focused = container.contains(document.activeElement) ? document.activeElement : null;
  const [a, b] = [choice("a", oldest), choice("b", newest)];
  const two = revisions.length > 1;
  parts = {
    key: voice.key,
    two,
    text: before?.text ?? h("textarea", { id: "say-text", rows: "2", maxlength: "500", lang: "en" }),
    a: h("select", { id: "say-a" }, options(a)),
    b: h("select", { id: "say-b" }, options(b)),
    apiKey: before?.apiKey ?? h("input", { id: "say-key", type: "password", autocomplete: "off", spellcheck: "false" }),
    result: before?.result ?? h("div", { class: "result", "aria-live": "polite" }),
  };
  if (!before) {
    const { text, apiKey } = parts;
    text.value = voice.policy.verification.cases?.[0]?.text ?? t("listen.default");
    apiKey.value = sessionStorage.getItem(KEY) ?? "";
    apiKey.addEventListener("change", () => sessionStorage.setItem(KEY, apiKey.value));
  }
  container.replaceChildren(h("section", { class: "card listen", "aria-labelledby": "listen-title" },
    h("h3", { id: "listen-title" }, t("listen")), h("p", { class: "soft" }, t("listen.about")),
    h("label", { class: "field" }, h("span", {}, t("listen.text")), parts.text),
    h("div", { class: "pair" }, h("label", { class: "field" }, h("span", {}, t("listen.a")), parts.a), two ? h("label", { class: "field" }, h("span", {}, t("listen.b")), parts.b) : null),
    h("div", { class: "buttons" },
      two ? h("button", { type: "button", class: "main", data: { say: "blind" }, on: { click: () => compare(voice, true) } }, t("listen.blind")) : null,
      h("button", { type: "button", data: { say: "open" }, on: { click: () => compare(voice, false) } }, t(two ? "listen.one" : "listen.single"))),
    h("details", { open: Boolean(parts.apiKey.value) }, h("summary", {}, t("listen.key")), h("label", { class: "field" }, h("span", { class: "unseen" }, t("listen.key")), parts.apiKey)),
    parts.result));
  if (focused?.isConnected) focused.focus();
}

async function compare(voice, blind) {
  const chosen = [parts.a.value, ...(parts.b.isConnected ? [parts.b.value] : [])];
  const mine = { voice, blind, revisions: [...new Set(chosen)], voted: false };
  pair = mine;
  if (blind && mine.revisions.length < 2) {
    show(h("p", { class: "bad", role: "alert" }, t("listen.same")));
    return;
  }
  if (blind && crypto.getRandomValues(new Uint8Array(1))[0] & 1) mine.revisions.reverse();
  show(h("p", { class: "soft" }, t("listen.working")));
  try {
    mine.clips = await Promise.all(mine.revisions.map((revision) => say(voice, revision)));
  } catch (error) {
    if (pair === mine) show(h("p", { class: "bad", role: "alert" }, t("listen.failed", { why: error.message })));
    return;
  }
  if (pair === mine) players();
}

async function say(voice, revision) {
  const own = parts.apiKey.value.trim();
  const answer = await post(`api/voices/${voice.key}/speech`, { revision, text: parts.text.value, seed: SAME_SEED }, own ? { "Segue-Speech-Key": own } : {});
  const spoke = answer.headers.get("Segue-Revision");
  if (spoke && !revision.startsWith(spoke) && !spoke.startsWith(revision)) throw new Error(`${short(spoke)} ≠ ${short(revision)}`);
  return answer.blob();
}

// Put something in the place of what was there, whose sounds are let go.
function show(...content) {
  for (const url of opened) URL.revokeObjectURL(url);
  opened = [];
  parts.result.replaceChildren(...content.flat(Infinity).filter(Boolean));
}

function players() {
  const names = pair.blind ? ["listen.first", "listen.second"].map((key) => t(key)) : pair.revisions.map(short);
  show();
  parts.result.append(h("div", { class: "players" }, pair.clips.map((clip, at) => player(clip, names[at]))), ...(pair.blind ? [vote()] : []));
  announce(t("listen.ready"));
}

function player(clip, name) {
  const url = URL.createObjectURL(clip);
  opened.push(url);
  const wave = h("canvas", { class: "wave", width: String(WAVE_POINTS * 2), height: "64", role: "img" });
  wave.setAttribute("aria-label", name);
  const audio = h("audio", { controls: true, src: url, preload: "auto", "aria-label": name });
  audio.addEventListener("play", () => { for (const other of parts.result.querySelectorAll("audio")) if (other !== audio) other.pause(); });
  drawWave(clip, wave, name);
  return h("figure", {}, h("figcaption", {}, name), wave, audio);
}

async function drawWave(clip, canvas, name) {
  const context = new OfflineAudioContext(1, 1, 24000);
  const sound = await context.decodeAudioData(await clip.arrayBuffer()).catch(() => null);
  if (!sound) return;
  const samples = sound.getChannelData(0);
  const step = Math.max(1, Math.floor(samples.length / WAVE_POINTS));
  const brush = canvas.getContext("2d");
  brush.fillStyle = getComputedStyle(canvas).color;
  let loudest = 0;
  for (let at = 0; at < WAVE_POINTS; at += 1) {
    let peak = 0;
    for (let place_ = at * step; place_ < (at + 1) * step; place_ += 1) peak = Math.max(peak, Math.abs(samples[place_] ?? 0));
    loudest = Math.max(loudest, peak);
    brush.fillRect(at * 2, 32 - peak * 31, 1.4, Math.max(1, peak * 62));
  }
  canvas.dataset.peak = loudest.toFixed(3);
  canvas.setAttribute("aria-label", t("listen.player", { name, seconds: sound.duration.toFixed(1) }));
}

// --- blind -----------------------------------------------------------------------------------------------------------

function vote() {
  const choose = (choice) => h("button", { type: "button", data: { vote: choice }, on: { click: () => count(choice) } }, t(`listen.vote.${choice}`));
  return h("fieldset", { class: "vote" }, h("legend", {}, t("listen.vote")), h("div", { class: "buttons" }, ["first", "same", "second"].map(choose)));
}

const ballot = () => `segue-votes ${pair.voice.key} ${[...pair.revisions].sort().map(short).join(" ")}`;

function votes() {
  try {
    return JSON.parse(localStorage.getItem(ballot())) ?? {};
  } catch {
    return {};
  }
}

function count(choice) {
  if (pair.voted) return;
  pair.voted = true;
  const [first, second] = pair.revisions;
  const winner = choice === "same" ? "same" : choice === "first" ? first : second;
  const counted = votes();
  counted[winner] = (counted[winner] ?? 0) + 1;
  localStorage.setItem(ballot(), JSON.stringify(counted));
  const captions = parts.result.querySelectorAll("figcaption");
  [first, second].forEach((revision, at) => captions[at].append(" = ", rev(revision)));
  parts.result.querySelector(".vote").replaceWith(verdict());
  parts.result.querySelector("[data-again]").focus();
}

function verdict() {
  const [first, second] = pair.revisions;
  const [a, b] = [first, second].sort();
  const counted = votes();
  const tally = t("listen.tally", { a: short(a), na: counted[a] ?? 0, b: short(b), nb: counted[b] ?? 0, same: counted.same ?? 0 });
  const forget = () => { localStorage.removeItem(ballot()); parts.result.replaceChildren(); };
  return h("div", { class: "verdict", role: "status" }, h("p", {}, t("listen.reveal", { first: short(first), second: short(second) })), h("p", { data: { tally: "" } }, tally),
    h("div", { class: "buttons" }, h("button", { type: "button", class: "main", data: { again: "" }, on: { click: () => compare(pair.voice, true) } }, t("listen.again")), h("button", { type: "button", on: { click: forget } }, t("listen.forget"))));
}
