// What a person may do: with a token, asked once more where it matters, and answered in words.

import { $, h, has, notice, short, t } from "./dom.js";
import { post, state } from "./store.js";

const TOKEN = "segue-token";
const ASKED = ["promote", "rollback", "retry"];
let changed = () => {};

export const token = () => sessionStorage.getItem(TOKEN);

export function prepare(onChange) {
  changed = onChange;
  $("token-button").addEventListener("click", () => {
    if (!token()) return enter();
    sessionStorage.removeItem(TOKEN);
    changed();
  });
  $("token-cancel").addEventListener("click", () => $("token-dialog").close());
  $("token-ok").addEventListener("click", use);
  $("token").addEventListener("keydown", (event) => { if (event.key === "Enter") use(); });
  $("token-dialog").addEventListener("close", () => { $("token").value = ""; });
}

export function drawToken() {
  const can = state.about?.canAct ?? false;
  $("token-button").hidden = !can;
  $("token-button").textContent = t(token() ? "token.leave" : "token.enter");
  $("token-button").classList.toggle("acting", Boolean(token()));
  $("read-only").hidden = can || state.about === null;
}

function enter() {
  $("token-error").textContent = "";
  $("token-dialog").showModal();
  $("token").focus();
}

async function use() {
  const entered = $("token").value.trim();
  try {
    await post("api/token", {}, { Authorization: `Bearer ${entered}` });
  } catch (error) {
    $("token-error").textContent = error.status === 401 ? t("token.wrong") : error.message;
    $("token").select();
    return;
  }
  sessionStorage.setItem(TOKEN, entered);
  $("token-dialog").close();
  changed();
}

export function buttons(voice) {
  if (!state.about?.canAct) return h("p", { class: "soft" }, t("act.readonly"));
  if (!token()) return h("div", { class: "buttons" }, h("button", { type: "button", data: { keep: "enter" }, on: { click: enter } }, t("act.token")));
  const possible = ["promote", "rollback", "retry", "resume", "pause"].filter((action) => voice.refused[action] === null);
  return h("div", { class: "buttons", role: "group", "aria-label": t("act") }, possible.map((action) =>
    h("button", { type: "button", class: action === "promote" || action === "resume" ? "main" : action === "rollback" ? "danger" : null, data: { keep: action, action }, on: { click: () => wish(action, voice) } }, labelOf(action, voice))));
}

const labelOf = (action, voice) => (has(`act.${action}.${voice.code}`) ? t(`act.${action}.${voice.code}`) : t(`act.${action}`));

async function wish(action, voice) {
  if (ASKED.includes(action) && !(await ask(action, voice))) return;
  const label = labelOf(action, voice);
  const body = { action, uid: voice.uid, generation: voice.generation ?? 0, target: voice.target ?? voice.active ?? null };
  try {
    const answer = await post(`api/voices/${voice.key}/actions`, body, { Authorization: `Bearer ${token()}` });
    notice(t("act.done", { action: label, where: (await answer.json()).where }));
  } catch (error) {
    notice(t("act.failed", { action: label, why: error.message }), "bad");
    if (error.status === 401) {
      sessionStorage.removeItem(TOKEN);
      changed();
    }
  }
}

function ask(action, voice) {
  const dialog = $("ask-dialog");
  const back = voice.rollout ? voice.history[0]?.revision : voice.history[1]?.revision;
  const values = { voice: voice.name, target: short(voice.target ?? voice.active), from: short(voice.target ?? voice.active), to: short(back) };
  $("ask-title").textContent = t(`ask.${action}`, values);
  $("ask-text").textContent = t(`ask.${action}.text`, values);
  $("ask-ok").textContent = labelOf(action, voice);
  $("ask-ok").className = action === "rollback" ? "danger" : "main";
  return new Promise((resolve) => {
    const done = (answer) => () => { dialog.close(answer); };
    $("ask-ok").onclick = done("yes");
    $("ask-cancel").onclick = done("no");
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
    dialog.returnValue = "no";
    dialog.showModal();
    $("ask-cancel").focus();
  });
}
