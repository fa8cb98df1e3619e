// One voice: how it stands and what to do, its rollout in time, figures, pods, versions, and what happened.

import { buttons } from "./act.js";
import { $, announce, command, draw, h, has, number, rev, said, short, span, t, time } from "./dom.js";
import { drawListen } from "./listen.js";
import { levelOf } from "./list.js";
import { elsewhere } from "./overview.js";
import { state } from "./store.js";

const SECTIONS = ["head", "state", "rollout", "figures", "listen", "pods", "versions", "events"];
const ENDS = { Watching: "rollout.ends", Canary: "rollout.decides" };
let announced = "";

export const nameOf = (key) => key.replace(/^default\//, "");
const commandKey = (key) => (state.about?.command === "segue" ? nameOf(key) : key);
export const line = (words, key) => `${state.about?.command ?? "segue"} ${words} ${commandKey(key)}`;

export function drawDetail() {
  const voice = state.voice;
  const article = $("detail");
  article.hidden = !state.selected;
  $("overview").hidden = Boolean(state.selected);
  $("panes").classList.toggle("chosen", Boolean(state.selected));
  if (!state.selected) return;
  if (article.dataset.key !== state.selected) {
    article.dataset.key = state.selected;
    article.replaceChildren(...SECTIONS.map((name) => h("div", { id: `d-${name}` })));
    announced = "";
  }
  draw($("d-head"), [state.selected, voice?.engine, voice?.weights], () => head(voice));
  if (!voice) return;
  if (voice.gone) {
    for (const name of SECTIONS.slice(1)) $(`d-${name}`).replaceChildren();
    $("d-state").append(h("p", { class: "banner bad" }, t("gone", { key: voice.key })));
    return;
  }
  draw($("d-state"), [voice.code, voice.message, voice.level, voice.problems, voice.refused, voice.target, voice.active, voice.generation, state.about, sessionStorage.getItem("segue-token") !== null], () => standing(voice));
  draw($("d-rollout"), [voice.timeline, voice.phase, voice.deadline, voice.active, voice.target, voice.stable, voice.rollout, progressOf(voice), voice.counts, state.about], () => rollout(voice));
  draw($("d-figures"), [voice.reports, voice.code === "Serving"], () => figures(voice));
  drawListen($("d-listen"), voice);
  draw($("d-pods"), [voice.podsOfVoice, voice.podsOmitted, state.about], () => pods(voice));
  draw($("d-versions"), [voice.history, voice.failed, voice.active], () => versions(voice));
  draw($("d-events"), voice.events, () => events(voice));
  const text = `${nameOf(voice.key)}: ${t(`code.${voice.code}`)}`;
  if (announced !== text) {
    announced = text;
    announce(text);
  }
}

function head(voice) {
  const name = nameOf(state.selected);
  return [
    h("a", { href: "#", class: "back", data: { keep: "back" } }, `← ${t("back")}`),
    h("h2", { class: "title", tabindex: "-1", id: "voice-title", data: { keep: "title" } }, name),
    voice?.weights ? h("p", { class: "soft files" }, `${voice.engine} · `, Object.entries(voice.weights).map(([part, uri], at) => [at ? " · " : "", `${part} `, h("code", { title: uri }, uri.split("/").slice(-2).join("/"))])) : null,
  ];
}

// --- how it stands ---------------------------------------------------------------------------------------------------

function standing(voice) {
  const level = levelOf(voice);
  return h("section", { class: `card standing ${level}`, "aria-labelledby": "standing-title" },
    h("h3", { id: "standing-title" }, h("span", { class: "dot", "aria-hidden": "true" }), t(`code.${voice.code}`)),
    h("p", {}, t(`why.${voice.code}`)),
    voice.problems.map((text) => h("p", { class: "said" }, said(text))),
    voice.message ? h("p", { class: "said" }, h("span", { class: "soft" }, `${t("says")}: `), said(voice.message)) : null,
    has(`next.${voice.code}`) ? h("p", {}, h("strong", {}, `${t("next")}: `), t(`next.${voice.code}`)) : null,
    buttons(voice),
    h("details", {}, h("summary", { data: { keep: "commands" } }, t("commands")), commands(voice).map(command)));
}

function commands(voice) {
  const wishes = ["promote", "rollback", "retry", "resume"].filter((wish) => voice.refused[wish] === null);
  return [...["describe", "watch", ...wishes].map((words) => line(words, voice.key)), ...(state.about?.adapter === "kubernetes" ? [`kubectl -n ${voice.namespace} describe vmodel ${voice.name}`] : [])];
}

// --- its rollout -----------------------------------------------------------------------------------------------------

function rollout(voice) {
  if (!voice.timeline.length) {
    return h("section", { class: "card" }, h("h3", {}, t("rollout")), h("p", { class: "soft" }, t("rollout.none")), command(`${line("roll", voice.key)} ${Object.keys(voice.weights).map((part) => state.about?.command === "segue" ? `--${part} FILE` : `-w ${part}=URI@SHA256`).join(" ")}`));
  }
  const from = voice.phase === "RollingBack" ? voice.target : voice.stable;
  const to = voice.phase === "RollingBack" ? voice.active : voice.target;
  return h("section", { class: "card" },
    h("h3", {}, t("rollout"), " ", h("small", { class: "soft" }, rev(from), " → ", rev(to), " · ", t("rollout.attempt", { number: voice.attempt }))),
    h("ol", { class: "timeline" }, voice.timeline.map((step, at) => stepItem(step, voice.timeline.slice(at + 1).find((each) => each.at)?.at))),
    voice.phase === "Canary" && voice.rollout ? h("p", {}, t("rollout.step", { step: (voice.rollout.step ?? 0) + 1, share: voice.policy.rollout.canary?.steps?.[voice.rollout.step ?? 0] ?? "" })) : null,
    voice.deadline ? h("p", { class: "soft" }, time(voice.deadline, ENDS[voice.phase] ?? "rollout.deadline")) : null,
    progress(voice), counts(voice));
}

function stepItem(step, next) {
  const took = step.state === "done" && step.at && next ? span((Date.parse(next) - Date.parse(step.at)) / 1000) : null;
  const note = took ?? (step.state === "current" && step.at ? time(step.at) : t(`step.${step.state}`));
  return h("li", { class: step.state, "aria-current": step.state === "current" ? "step" : null },
    h("span", { class: "mark", "aria-hidden": "true" }), h("b", {}, t(`phase.${step.phase}`)), h("span", { class: "soft" }, note, step.state === "skipped" || took || step.state !== "done" ? null : ""), h("span", { class: "unseen" }, ` (${t(`step.${step.state}`)})`));
}

function progressOf(voice) {
  if (!["Preloading", "Verifying"].includes(voice.phase)) return [];
  return voice.podsOfVoice.flatMap((pod) => pod.revisions.filter((each) => each.revision === voice.target).map((each) => ({ pod: pod.name, ...each })));
}

function progress(voice) {
  const found = progressOf(voice);
  if (!found.length) return null;
  return h("div", { class: "progress" }, h("h4", {}, t("progress")), found.map((each) => {
    const fraction = each.probe ? each.probe.done / Math.max(1, each.probe.total) : each.phase === "Ready" ? 1 : each.fraction;
    const text = each.probe ? t(each.probe.total ? "probe.sentences" : "probe.begins", each.probe) : [each.phase, each.message || each.reason].filter(Boolean).join(": ");
    return h("div", {}, h("span", {}, each.pod), h("progress", { max: "1", value: fraction, "aria-label": `${each.pod}: ${text}` }), each.probe ? h("span", { class: "soft" }, text) : said(text, { class: "soft" }));
  }));
}

function counts(voice) {
  const found = Object.entries(voice.counts);
  if (!found.length) return ["Canary", "Watching"].includes(voice.phase) ? h("p", { class: "soft" }, t("counts.none")) : null;
  return h("div", {}, h("h4", {}, t("counts")), h("table", { class: "narrow" },
    h("thead", {}, h("tr", {}, ["figures.version", "counts.good", "counts.bad", "counts.shielded"].map((key) => h("th", { scope: "col" }, t(key))))),
    h("tbody", {}, found.map(([revision, each]) => h("tr", {}, h("th", { scope: "row" }, rev(revision)), [each.successes, each.errors, each.shielded].map((count, at) => h("td", { class: at === 1 && count ? "number bad" : "number" }, number(count))))))));
}

// --- figures ---------------------------------------------------------------------------------------------------------

function figures(voice) {
  const found = Object.entries(voice.reports).sort(([one], [other]) => rank(voice, one) - rank(voice, other));
  return h("section", { class: "card" }, h("h3", {}, t("figures")),
    found.length ? found.map(([revision, report], at) => h("details", { open: at === 0 && (voice.code !== "Serving" || report.phase !== "Passed") },
      h("summary", { data: { keep: `figures ${revision}` } }, report.pod ? t("figures.of", { revision: short(revision), pod: report.pod, phase: report.phase }) : t("figures.kept", { revision: short(revision), phase: report.phase })),
      report.phase === "Running" ? h("p", { class: "soft" }, t(report.total ? "probe.sentences" : "probe.begins", report)) : gates(report), report.reasons.map((text) => h("p", { class: "said" }, said(text))))) : h("p", { class: "empty" }, t("figures.none")));
}

const rank = (voice, revision) => (revision === voice.target ? 0 : revision === voice.failed[0]?.revision ? 1 : revision === voice.active ? 2 : 3);

// A table that may be wider than the window scrolls by itself, by keyboard too.
const scrolled = (name, table) => h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t(name) }, table);

function gates(report) {
  const rows = [...report.gates.map((gate) => [gate, gate.passed === false ? "fail" : "pass"]), ...report.continuity.map((gate) => [gate, gate.passed === false ? "hold" : "pass"])];
  rows.sort(([one], [other]) => order(one) - order(other));
  return scrolled("figures", h("table", { class: "gates" }, h("thead", {}, h("tr", {}, ["figures.gate", "figures.figure", "figures.limit", "figures.result"].map((key) => h("th", { scope: "col" }, t(key))))),
    h("tbody", {}, rows.map(([gate, result]) => {
      const outcome = gate.passed !== null ? result : gate.figure === null ? "unmeasured" : "reported";
      return h("tr", { class: outcome }, h("th", { scope: "row", lang: "en" }, gate.name), h("td", { class: "number" }, measured(gate.figure, gate.unit)), h("td", { class: "number" }, measured(gate.limit, gate.unit)),
        h("td", {}, h("span", { class: `outcome ${outcome}` }, t(`figures.${outcome}`)), gate.message ? [" ", said(gate.message, { class: "soft" })] : null));
    }))));
}

// What fails is on top, what was not measured at the end.
const order = (gate) => (gate.passed === false ? 0 : gate.passed === null ? 2 : 1);

const measured = (value, unit) => (value === null || value === undefined ? "–" : `${Number(value.toPrecision(4))}${unit ? ` ${unit}` : ""}`);

// --- pods, versions, events ------------------------------------------------------------------------------------------

function pods(voice) {
  if (state.about && !state.about.leading) return h("section", { class: "card" }, h("h3", {}, t("pods.here")), elsewhere());
  const found = voice.podsOfVoice;
  return h("section", { class: "card" }, h("h3", {}, t("pods.here")),
    found.length ? scrolled("pods.here", h("table", {},
      h("thead", {}, h("tr", {}, ["pod", "pods.here.active", "pods.here.candidate", "pods.here.resident"].map((key) => h("th", { scope: "col" }, t(key))))),
      h("tbody", {}, found.map((pod) => h("tr", { class: pod.inReach ? null : "bad" }, h("th", { scope: "row" }, pod.name),
        pod.inReach ? [h("td", {}, pod.active ? rev(pod.active) : "–"), h("td", {}, pod.candidate ? [rev(pod.candidate), ` ${pod.weight / 100} %`] : "–"),
          h("td", {}, pod.revisions.map((each) => h("div", {}, rev(each.revision), " ", said(each.phase, { class: each.phase === "Failed" ? "bad" : "soft" }), each.phase === "Failed" ? [" ", said(each.message || each.reason, { class: "soft" })] : null)))]
          : h("td", { colspan: "3" }, t("pod.away"))))))) : h("p", { class: "empty" }, t("pods.here.none")),
    voice.podsOmitted ? h("p", { class: "soft" }, t("pods.more", { count: number(voice.podsOmitted) })) : null);
}

const filesOf = (entry) => Object.values(entry.weights ?? {}).map((source) => source.uri.split("/").slice(-2).join("/")).join(", ");

function versions(voice) {
  const good = voice.history.map((entry) => h("li", {}, rev(entry.revision), " ", time(entry.since, "versions.confirmed"), entry.revision === voice.active ? h("span", { class: "outcome pass" }, t("versions.now")) : null, h("span", { class: "soft" }, filesOf(entry))));
  const bad = voice.failed.map((entry) => h("li", { class: "bad" }, rev(entry.revision), " ", time(entry.at, "versions.failed"), h("span", { class: "soft" }, filesOf(entry)), h("p", { class: "said" }, said(`${entry.reason}: ${entry.message ?? ""}`))));
  return h("section", { class: "card" }, h("h3", {}, t("versions")), good.length || bad.length ? h("ul", { class: "versions" }, good, bad) : h("p", { class: "empty" }, t("versions.none")));
}

function events(voice) {
  return h("section", { class: "card" }, h("h3", {}, t("events")),
    voice.events.length ? h("ol", { class: "events" }, [...voice.events].reverse().map((each) => h("li", { class: each.kind === "Warning" ? "bad" : null }, time(each.at), h("b", { lang: "en" }, each.reason), said(each.message)))) : h("p", { class: "empty" }, t("events.none")));
}
