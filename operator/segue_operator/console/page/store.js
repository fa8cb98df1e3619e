// What the operator says, kept fresh by one stream while the page can be seen, and by none while it cannot.

export const state = {
  rows: new Map(),
  about: null,
  problems: [],
  pods: { pods: [], omitted: 0 },
  voice: null,
  selected: null,
  ranking: null,
  connected: false,
};

const RETRY_MS = 2000;
const listeners = [];
let source = null;
let version = null;
let epoch = "";
let again = 0;
let changed = new Set();
let due = false;

// Called with the names of what changed, once a frame at most.
export const listen = (listener) => listeners.push(listener);

function tell(name) {
  changed.add(name);
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    const now = changed;
    changed = new Set();
    due = false;
    for (const listener of listeners) listener(now);
  });
}

export function select(key) {
  if (key === state.selected) return;
  state.selected = key;
  state.voice = null;
  tell("voice");
  connect();
}

export function connect() {
  source?.close();
  clearTimeout(again);
  const query = new URLSearchParams();
  if (state.selected) query.set("voice", state.selected);
  if (version !== null) {
    query.set("since", version);
    query.set("epoch", epoch);
  }
  const mine = new EventSource(`api/stream?${query}`);
  source = mine;
  mine.onopen = () => online(true);
  mine.onmessage = (event) => { if (mine === source) take(JSON.parse(event.data)); };
  mine.onerror = () => {
    if (mine !== source) return;
    online(false);
    mine.close();
    again = setTimeout(connect, RETRY_MS);  // anew, so that it asks for what came since
  };
}

export function disconnect() {
  source?.close();
  source = null;
  clearTimeout(again);
}

function online(is) {
  if (state.connected === is) return;
  state.connected = is;
  tell("connected");
}

function take(news) {
  if (news.list) takeList(news.list);
  for (const name of ["about", "problems", "pods"]) {
    if (name in news) {
      state[name] = news[name];
      tell(name);
    }
  }
  if ("voice" in news) {
    state.voice = news.voice ?? { key: state.selected, gone: true };
    tell("voice");
  }
}

function takeList(list) {
  if (list.whole) state.rows.clear();
  for (const key of list.gone) state.rows.delete(key);
  for (const row of list.rows) state.rows.set(row.key, row);
  ({ version, epoch } = list);
  tell("rows");
}

export async function readRanking() {
  const response = await fetch("api/ranking").catch(() => null);
  if (!response?.ok) return;
  state.ranking = await response.json();
  tell("ranking");
}

// A request that only this page can make; throws an Error with the operator's words.
export async function post(path, body, headers = {}) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "Segue-Console": "1", ...headers },
    body: JSON.stringify(body),
    credentials: "omit",
    redirect: "error",
  });
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  const error = new Error(said?.error?.message ?? `HTTP ${response.status}`);
  error.status = response.status;
  throw error;
}
