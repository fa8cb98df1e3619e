// Small things that every part of the page needs: elements, words in two languages, times, sizes.

const words = { en: null, zh: null };
let language = "en";
let wished = "en";

export const $ = (id) => document.getElementById(id);

// An element. `on` holds listeners, `data` data attributes; null and false attributes are left out; text is never markup.
export function h(tag, attributes = {}, ...children) {
  const made = tag === "svg" || tag === "path" ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    else if (name === "data") Object.assign(made.dataset, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false));
  return made;
}

// Take a language, once its words are here; of two wishes the later one counts.
export async function speak(wish) {
  const mine = wish === "zh" ? "zh" : "en";
  wished = mine;
  words[mine] ??= await (await fetch(`strings.${mine}.json`)).json();
  if (wished !== mine) return;
  language = mine;
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = t("title");
  for (const each of document.querySelectorAll("[data-t]")) each.textContent = t(each.dataset.t);
  for (const each of document.querySelectorAll("[data-t-label]")) each.setAttribute("aria-label", t(each.dataset.tLabel));
  for (const each of document.querySelectorAll("[data-t-placeholder]")) each.placeholder = t(each.dataset.tPlaceholder);
}

export function t(key, values = {}) {
  const text = words[language]?.[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

export const has = (key) => key in (words[language] ?? {});

// What the operator said: its words are English whatever the page speaks.
export const said = (text, attributes = {}) => h("span", { lang: "en", ...attributes }, text);

export const short = (revision) => (revision ? revision.slice(0, 10) : t("none"));

export const rev = (revision) => h("code", { class: "rev", title: revision ?? null }, short(revision));

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function relative(at, now) {
  const seconds = Math.round((at - now) / 1000);
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
  return new Intl.RelativeTimeFormat(language === "zh" ? "zh-CN" : "en", { numeric: "auto" }).format(Math.trunc(seconds / size), unit);
}

// A time in relative words, with the absolute one in its title; `key` names a phrase that takes it as {time}.
export function time(iso, key = "") {
  if (!iso) return null;
  const at = Date.parse(iso);
  const absolute = new Date(at).toLocaleString(language === "zh" ? "zh-CN" : "en-GB", { dateStyle: "medium", timeStyle: "medium" });
  return h("time", { datetime: iso, title: absolute, data: { at: String(at), key } }, phrase(at, key));
}

const phrase = (at, key) => (key ? t(key, { time: relative(at, Date.now()) }) : relative(at, Date.now()));

export function tick() {
  for (const each of document.querySelectorAll("time[data-at]")) {
    const text = phrase(Number(each.dataset.at), each.dataset.key);
    if (each.textContent !== text) each.textContent = text;
  }
}

export function span(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export function size(bytes) {
  const mib = bytes / 1048576;
  return mib >= 1024 ? `${(mib / 1024).toFixed(1)} GiB` : `${mib.toFixed(mib < 10 ? 1 : 0)} MiB`;
}

export const number = (value) => new Intl.NumberFormat(language === "zh" ? "zh-CN" : "en").format(value);

// A line to copy.
export function command(text) {
  const button = h("button", { type: "button", class: "copy", "aria-label": `${t("copy")}: ${text}`, data: { keep: `copy ${text}` } }, t("copy"));
  button.addEventListener("click", async () => {
    await navigator.clipboard?.writeText(text).catch(() => {});
    button.textContent = t("copied");
    setTimeout(() => { button.textContent = t("copy"); }, 1500);
  });
  return h("div", { class: "command" }, h("code", { lang: "en" }, text), button);
}

// Put new content into a place only where it is about something new. The focus stays on what has the same `data-keep`,
// or near it; what a person opened or closed stays so.
const drawn = new WeakMap();
export function draw(place, about, make) {
  const text = JSON.stringify([language, about]);
  if (drawn.get(place) === text) return;
  drawn.set(place, text);
  const keep = place.contains(document.activeElement) ? document.activeElement.dataset.keep : null;
  const folds = new Map([...place.querySelectorAll("details")].map((each) => [each.firstChild.dataset.keep, each.open]));
  place.replaceChildren(...[make()].flat(Infinity).filter(Boolean));
  for (const each of place.querySelectorAll("details")) each.open = folds.get(each.firstChild.dataset.keep) ?? each.open;
  if (keep) ([...place.querySelectorAll("[data-keep]")].find((each) => each.dataset.keep === keep) ?? place.querySelector("button, summary"))?.focus({ preventScroll: true });
}

// Say something to whoever cannot see it change.
export function announce(text) {
  $("live").textContent = text;
}

// Say something to everybody: what was done, or why it was not.
export function notice(text, kind = "good") {
  const close = h("button", { type: "button", class: "close", "aria-label": "×" }, "×");
  const made = h("p", { class: `notice ${kind}` }, h("span", {}, text), close);
  close.addEventListener("click", () => made.remove());
  $("notices").replaceChildren(made);
  if (kind === "good") setTimeout(() => made.remove(), 8000);
}
