// Search items, build a history and show recommendations. Titles are inserted as text, not HTML.

import { ItemMap } from "./map.js";

const $ = id => document.getElementById(id);
const query = $("query"), found = $("found"), next = $("next"), status = $("status");

let key = sessionStorage.getItem("key") || "";
let history = JSON.parse(sessionStorage.getItem("history") || "[]");  // {item_id, title}
let results = [];
let active = -1;

// Requests

class ProblemError extends Error {
  constructor(problem) {
    super(problem.detail);
    this.status = problem.status;
  }
}

async function fetchJSON(path, body, signal) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, {
    method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body),
  });
  showModel(response.headers.get("X-Model-Version")).catch(handleError);
  const content = await response.json();
  if (!response.ok) throw new ProblemError(content);
  return content;
}

let shownVersion;
/** Name the model that has answered, which may be newer than the page. */
async function showModel(version) {
  if (!version || version === shownVersion) return;
  shownVersion = version;
  const { version: name, trained_at } = await (await fetch("/readyz")).json();
  const label = name.replace(/^[0-9a-f]{64}$/, digest => `bundle ${digest.slice(0, 12)}`)
    .replace(/ (\d+)$/, ", version $1");  // of a bundle folder; of a registered model
  const format = { dateStyle: "medium", timeStyle: "short" };
  const trained = trained_at ? `, trained ${new Date(trained_at).toLocaleString([], format)}` : "";
  $("model").textContent = `Model: ${label}${trained}`;
}

let fadeTimer;
function showStatus(message) {
  status.textContent = message;
  status.classList.add("shown");
  clearTimeout(fadeTimer);
  fadeTimer = setTimeout(() => status.classList.remove("shown"), 3500);
}

function handleError(error) {
  if (error.name === "AbortError") return;
  if (error.status === 401) {
    $("key-form").hidden = false;
    $("key").focus();
  }
  showStatus(error instanceof ProblemError ? error.message : "The server is unavailable.");
}

/** Run `work` one call at a time: a new call aborts the previous one. */
function latest(work) {
  let controller;
  return async (...args) => {
    controller?.abort();
    const current = controller = new AbortController();
    try {
      await work(current.signal, ...args);
    } catch (error) {
      handleError(error);
    }
  };
}

function element(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// Search: a combobox with a list box, https://www.w3.org/WAI/ARIA/apg/patterns/combobox/

const search = latest(async signal => {
  const text = query.value.trim();
  if (!text) return close();
  await new Promise(done => setTimeout(done, 120));  // debounce
  if (signal.aborted) return;
  const parameters = new URLSearchParams({ query: text, k: 8 });
  show((await fetchJSON(`/v1/items?${parameters}`, null, signal)).items);
});

function show(items) {
  results = items;
  found.replaceChildren(...items.map((item, n) => {
    const option = element("li");
    option.id = `option-${n}`;
    option.role = "option";
    option.append(element("span", "", item.title),
      element("span", "genres", (item.genres || "").split("|").slice(0, 3).join(" · ")));
    option.addEventListener("pointerdown", event => {
      event.preventDefault();  // keep the focus
      choose(n);
    });
    return option;
  }));
  if (!items.length) found.append(element("li", "none", "No matching items."));
  found.hidden = false;
  query.setAttribute("aria-expanded", "true");
  activate(items.length ? 0 : -1);
}

function activate(n) {
  active = n;
  [...found.children].forEach((option, m) => option.setAttribute("aria-selected", m === n));
  if (n < 0) return query.removeAttribute("aria-activedescendant");
  query.setAttribute("aria-activedescendant", `option-${n}`);
  found.children[n].scrollIntoView({ block: "nearest" });
}

function close() {
  found.hidden = true;
  results = [];
  active = -1;
  query.setAttribute("aria-expanded", "false");
  query.removeAttribute("aria-activedescendant");
}

function choose(n) {
  const item = results[n];
  query.value = "";
  search();  // closes the list, and aborts a search under way, which would open it again
  add(item);
}

query.addEventListener("input", () => search());
query.addEventListener("blur", close);
query.addEventListener("keydown", event => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    event.preventDefault();
    if (results.length) activate((active + step + results.length) % results.length);
    else search();
  } else if (event.key === "Enter" && active >= 0) {
    event.preventDefault();
    choose(active);
  } else if (event.key === "Escape") {
    if (found.hidden) query.value = "";
    close();
  }
});

// The history

function add({ item_id, title }) {
  if (history.some(item => item.item_id === item_id)) return showStatus(`${title} is already in the list.`);
  history.push({ item_id, title });
  showStatus(`${title} added.`);
  update();
}

function remove(n) {
  const [item] = history.splice(n, 1);
  showStatus(`${item.title} removed.`);
  update();
  // Keep the focus at this position.
  const buttons = $("history").querySelectorAll("button");
  (buttons[Math.min(n, buttons.length - 1)] || query).focus();
}

function update() {
  sessionStorage.setItem("history", JSON.stringify(history));
  $("history").replaceChildren(...history.map(({ title }, n) => {
    const row = element("li");
    const button = element("button", "", "×");
    button.setAttribute("aria-label", `Remove ${title}`);
    button.addEventListener("click", () => remove(n));
    row.append(element("span", "n", n + 1), element("span", "title", title), button);
    return row;
  }));
  $("history-empty").hidden = history.length > 0;
  $("clear").hidden = !history.length;
  recommend();
}

$("clear").addEventListener("click", () => {
  history = [];
  showStatus("History cleared.");
  update();
  query.focus();
});

// Recommendations

const recommend = latest(async signal => {
  const section = next.closest("section");
  section.setAttribute("aria-busy", "true");
  const ids = history.map(item => item.item_id);
  const { items } = await fetchJSON("/v1/next", { history: ids, k: 10 }, signal);
  list(items);
  section.setAttribute("aria-busy", "false");
  const [explanations, points] = await Promise.all([
    explain(ids, items, signal),
    fetchJSON("/v1/map", { items: [...ids, ...items.map(item => item.item_id)] }, signal),
  ]);
  for (const { item_id, sentence } of explanations) showSentence(item_id, sentence);
  drawMap(points.items, items);
});

async function explain(ids, items, signal) {
  if (!ids.length || !items.length) return [];
  const explained = items.map(item => item.item_id);
  return (await fetchJSON("/v1/explain", { history: ids, items: explained, k: 2 }, signal)).items;
}

function list(items) {
  $("next-title").textContent = history.length ? "Recommended" : "Popular";
  const highest = items.length ? items[0].score : 1;
  // After a short history, the order is that of the score, and not of the probabilities.
  const ordered = items.every(item => Math.abs(item.score - item.probability) < 1e-6);
  next.replaceChildren(...items.map(item => {
    const row = element("li");
    row.dataset.id = item.item_id;
    const text = element("div");
    const title = element("span", "title", item.title);
    if (ordered) {
      const share = element("span", "share", ` ${percent(item.probability)}`);
      share.title = "Probability of being next";
      title.append(share);
    }
    const bar = element("meter");
    bar.max = highest || 1;
    bar.value = item.score;
    bar.setAttribute("aria-hidden", "true");
    text.append(title, element("span", "why text"), bar);
    const button = element("button", "", "Add");
    button.setAttribute("aria-label", `Add ${item.title}`);
    button.addEventListener("click", () => {
      add(item);
      query.focus({ preventScroll: true });
    });
    row.append(element("span", "n", item.rank), text, button);
    return row;
  }));
}

function showSentence(id, sentence) {
  const row = [...next.children].find(row => row.dataset.id === String(id));
  if (!row) return;
  const title = row.querySelector(".title").firstChild.textContent;
  // The title is already shown.
  const text = sentence.startsWith(title) ? sentence.slice(title.length).replace(/^[,:]\s*/, "") : sentence;
  row.querySelector(".why").textContent = text.charAt(0).toUpperCase() + text.slice(1);
}

function percent(probability) {
  return probability >= 0.001 ? `${(100 * probability).toFixed(1)} %` : "under 0.1 %";
}

// The map

const map = new ItemMap($("map"), $("map-tip"), add);

function drawMap(points, items) {
  const byId = new Map(points.map(item => [item.item_id, item]));
  const located = items => items.map((item, n) => ({ ...byId.get(item.item_id), n: n + 1 })).filter(item => item.title);
  map.setSession(located(history), located(items));
}

async function start() {
  update();
  try {
    map.setItems((await fetchJSON("/v1/map?k=2000")).items);
  } catch (error) {
    handleError(error);
  }
}

$("key-form").addEventListener("submit", event => {
  event.preventDefault();
  key = $("key").value;
  sessionStorage.setItem("key", key);
  $("key").value = "";
  $("key-form").hidden = true;
  start();
});

start();
