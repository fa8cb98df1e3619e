// What is to be seen while no voice is chosen: what is wrong, the pods' memory, and what is asked for most.

import { $, command, draw, h, number, said, size, span, t } from "./dom.js";
import { state } from "./store.js";

const RANKED = 10;
const TROUBLES = 8;

export function drawOverview() {
  const place = $("overview");
  if (!place.childElementCount) place.append(...["alarm", "elsewhere", "trouble", "problems", "pods", "ranking"].map((name) => h("div", { id: `o-${name}` })));
  const rows = [...state.rows.values()];
  const bad = rows.filter((row) => row.level === undefined).length;
  const waits = rows.filter((row) => row.level === 1).length;
  draw($("o-alarm"), [bad, waits, rows.length, state.about !== null], () => state.about === null ? null : alarm(bad, waits, rows.length));
  draw($("o-elsewhere"), state.about, () => elsewhere());
  const first = rows.filter((row) => (row.level ?? 0) <= 1).sort((one, other) => (one.level ?? 0) - (other.level ?? 0) || (one.key < other.key ? -1 : 1)).slice(0, TROUBLES);
  draw($("o-trouble"), first, () => trouble(first));
  draw($("o-problems"), state.problems, () => problems());
  draw($("o-pods"), [state.pods, state.about?.leading], () => pods());
  draw($("o-ranking"), state.ranking, () => ranking());
}

function alarm(bad, waits, count) {
  const kind = bad ? "bad" : waits ? "waits" : "good";
  const text = bad ? t("overview.bad", { count: number(bad) }) : waits ? t("overview.waits", { count: number(waits) }) : t("overview.fine", { count: number(count) });
  return [h("h2", {}, t("overview")), h("p", { class: `banner ${kind}` }, h("span", { class: "dot", "aria-hidden": "true" }), text)];
}

// What is wrong or waits, with the operator's words, so that one need not open it to know.
function trouble(rows) {
  if (!rows.length) return null;
  return h("section", { class: "card" }, h("h3", {}, t("trouble")), h("ul", { class: "troubles" }, rows.map((row) => h("li", { class: row.level ? "waits" : "bad" },
    h("a", { href: `#${row.key}` }, row.key.replace(/^default\//, "")), h("b", {}, t(`code.${row.code}`)), row.message ? said(row.message) : t(`why.${row.code}`)))));
}

// A replica that stands by knows everything but the pods.
export function elsewhere() {
  if (!state.about || state.about.leading) return null;
  const { leader } = state.about;
  if (!leader) return h("p", { class: "banner waits" }, t("where.nobody"));
  const [namespace, pod] = leader.split("/");
  const line = `kubectl -n ${namespace} port-forward pod/${pod} ${state.about.port}`;
  return h("div", { class: "banner waits" }, h("p", {}, t("where.other", { leader: pod })), command(line));
}

function problems() {
  if (!state.problems.length) return null;
  return h("section", { class: "card bad" }, h("h3", {}, t("problems")), h("p", { class: "soft" }, t("problems.about")),
    h("ul", { class: "plain" }, state.problems.map((each) => h("li", {}, said(each.text), each.voices.map((key) => [" ", h("a", { href: `#${key}` }, key)])))));
}

function pods() {
  const { pods: found, omitted } = state.pods;
  if (!found.length) return state.about?.leading ? h("section", { class: "card" }, h("h3", {}, t("pods")), h("p", { class: "empty" }, t("pods.none"))) : null;
  return h("section", { class: "card" }, h("h3", { id: "pods-title" }, t("pods")),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "pods-title" },
      h("table", {}, h("thead", {}, h("tr", {}, ["pod", "pod.fleet", "pod.state", "pod.voices", "pod.pool"].map((key) => h("th", { scope: "col" }, t(key))))),
        h("tbody", {}, found.map(podRow)))),
    omitted ? h("p", { class: "soft" }, t("pods.more", { count: number(omitted) })) : null);
}

function podRow(pod) {
  const state_ = !pod.inReach ? t("pod.away") : !pod.ready ? t("pod.notready") : t("pod.ok");
  const workers = pod.workers ? ` · ${t("pod.workers", { serving: pod.serving, workers: pod.workers })}` : "";
  return h("tr", { class: pod.inReach ? null : "bad" },
    h("th", { scope: "row" }, pod.name), h("td", {}, `${pod.namespace}/${pod.fleet}`), h("td", {}, state_ + (pod.inReach ? workers : "")),
    h("td", { class: "number" }, number(pod.voices)), h("td", {}, pod.budget ? pool(pod) : "–"));
}

export function pool(pod) {
  const text = t("pod.pool.of", { used: size(pod.used), budget: size(pod.budget), peak: size(pod.peak) });
  return [h("meter", { min: "0", max: pod.budget, high: pod.budget * 0.9, low: pod.budget * 0.75, optimum: "0", value: pod.used, "aria-label": text }), h("span", { class: "soft" }, text)];
}

function ranking() {
  const found = state.ranking;
  if (!found) return null;
  const top = Object.entries(found.voices).filter(([, [requests]]) => requests >= 0.5).sort((one, other) => other[1][0] - one[1][0]).slice(0, RANKED);
  const note = found.error ? t("ranking.error", { error: found.error }) : t(`ranking.${found.from || "none"}`);
  const most = Math.max(1, ...top.map(([, [requests]]) => requests));
  return h("section", { class: "card" }, h("h3", {}, t("ranking")), h("p", { class: "soft" }, note),
    top.length ? h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("ranking.voice")), h("th", { scope: "col" }, t("ranking.requests")), h("th", { scope: "col" }, t("ranking.seconds")))),
      h("tbody", {}, top.map(([key, [requests, seconds]]) => h("tr", {},
        h("th", { scope: "row" }, h("a", { href: `#${key}` }, key.replace(/^default\//, ""))),
        h("td", {}, h("meter", { class: "plain", min: "0", max: most, value: requests, "aria-hidden": "true" }), number(Math.round(requests))),
        h("td", { class: "number" }, span(seconds)))))) : found.from ? h("p", { class: "empty" }, t("ranking.empty")) : null);
}
