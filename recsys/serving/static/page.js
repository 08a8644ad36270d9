// Search a film, build a history, see what comes next and why. Titles go into the page as text.

import { FilmMap } from "./map.js";

const $ = id => document.getElementById(id);
const query = $("query"), found = $("found"), next = $("next"), status = $("status");

let key = sessionStorage.getItem("key") || "";
let history = JSON.parse(sessionStorage.getItem("history") || "[]");  // {item_id, title}
let options = [];
let active = -1;

// Asking the server

class Refused extends Error {
  constructor(problem) {
    super(problem.detail);
    this.status = problem.status;
  }
}

async function ask(path, body, signal) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  const answered = await fetch(path, {
    method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body),
  });
  const content = await answered.json();
  if (!answered.ok) throw new Refused(content);
  return content;
}

let fading;
function tell(message) {
  status.textContent = message;
  status.classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => status.classList.remove("shown"), 3500);
}

function failed(error) {
  if (error.name === "AbortError") return;
  if (error.status === 401) {
    $("key-form").hidden = false;
    $("key").focus();
  }
  tell(error instanceof Refused ? error.message : "The server cannot be reached.");
}

/** One question at a time: a newer one takes the place of an older that is not answered yet. */
function latest(work) {
  let going;
  return async (...given) => {
    going?.abort();
    const mine = going = new AbortController();
    try {
      await work(mine.signal, ...given);
    } catch (error) {
      failed(error);
    }
  };
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// The search, as a combobox with a list box: https://www.w3.org/WAI/ARIA/apg/patterns/combobox/

const search = latest(async signal => {
  const wanted = query.value.trim();
  if (!wanted) return close();
  await new Promise(done => setTimeout(done, 120));  // until typing pauses
  if (signal.aborted) return;
  const parameters = new URLSearchParams({ query: wanted, k: 8 });
  show((await ask(`/v1/items?${parameters}`, null, signal)).items);
});

function show(items) {
  options = items;
  found.replaceChildren(...items.map((item, n) => {
    const option = element("li");
    option.id = `option-${n}`;
    option.role = "option";
    option.append(element("span", "", item.title),
      element("span", "genres", (item.genres || "").split("|").slice(0, 3).join(" · ")));
    option.addEventListener("pointerdown", event => {
      event.preventDefault();  // the box keeps the focus
      choose(n);
    });
    return option;
  }));
  if (!items.length) found.append(element("li", "none", "No film is called like this."));
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
  options = [];
  active = -1;
  query.setAttribute("aria-expanded", "false");
  query.removeAttribute("aria-activedescendant");
}

function choose(n) {
  const film = options[n];
  close();
  query.value = "";
  add(film);
}

query.addEventListener("input", () => search());
query.addEventListener("blur", close);
query.addEventListener("keydown", event => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    event.preventDefault();
    if (options.length) activate((active + step + options.length) % options.length);
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
  if (history.some(film => film.item_id === item_id)) return tell(`${title} is there already.`);
  history.push({ item_id, title });
  tell(`${title} added.`);
  changed();
}

function remove(n) {
  const [film] = history.splice(n, 1);
  tell(`${film.title} removed.`);
  changed();
  // The focus stays where the button was.
  const buttons = $("history").querySelectorAll("button");
  (buttons[Math.min(n, buttons.length - 1)] || query).focus();
}

function changed() {
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
  tell("The history is empty.");
  changed();
  query.focus();
});

// What comes next

const recommend = latest(async signal => {
  const section = next.closest("section");
  section.setAttribute("aria-busy", "true");
  const watched = history.map(film => film.item_id);
  const { items } = await ask("/v1/next", { history: watched, k: 10 }, signal);
  list(items);
  section.setAttribute("aria-busy", "false");
  const [reasons, places] = await Promise.all([
    explain(watched, items, signal),
    ask("/v1/map", { items: [...watched, ...items.map(item => item.item_id)] }, signal),
  ]);
  for (const { item_id, sentence } of reasons) tellWhy(item_id, sentence);
  draw(places.items, items);
});

async function explain(watched, items, signal) {
  if (!watched.length || !items.length) return [];
  const chosen = items.map(item => item.item_id);
  return (await ask("/v1/explain", { history: watched, items: chosen, k: 2 }, signal)).items;
}

function list(items) {
  $("next-title").textContent = history.length ? "Watch next" : "Popular now";
  const highest = items.length ? items[0].probability : 1;
  next.replaceChildren(...items.map(item => {
    const row = element("li");
    row.dataset.id = item.item_id;
    const text = element("div");
    const share = element("span", "share", ` ${percent(item.probability)}`);
    share.title = "Probability that this is watched next";
    const title = element("span", "title", item.title);
    title.append(share);
    const bar = element("meter");
    bar.max = highest || 1;
    bar.value = item.probability;
    bar.setAttribute("aria-hidden", "true");
    text.append(title, element("span", "why text"), bar);
    const button = element("button", "", "Watched");
    button.setAttribute("aria-label", `I have watched ${item.title}`);
    button.addEventListener("click", () => {
      add(item);
      query.focus({ preventScroll: true });
    });
    row.append(element("span", "n", item.rank), text, button);
    return row;
  }));
}

function tellWhy(id, sentence) {
  const row = [...next.children].find(row => row.dataset.id === String(id));
  if (!row) return;
  const title = row.querySelector(".title").firstChild.textContent;
  // The title stands above already.
  const short = sentence.startsWith(title) ? sentence.slice(title.length).replace(/^[,:]\s*/, "") : sentence;
  row.querySelector(".why").textContent = short.charAt(0).toUpperCase() + short.slice(1);
}

function percent(share) {
  return share >= 0.001 ? `${(100 * share).toFixed(1)} %` : "under 0.1 %";
}

// The map

const map = new FilmMap($("map"), $("map-tip"), add);

function draw(places, items) {
  const place = new Map(places.map(film => [film.item_id, film]));
  const there = films => films.map((film, n) => ({ ...place.get(film.item_id), n: n + 1 })).filter(film => film.title);
  map.session(there(history), there(items));
}

async function begin() {
  changed();
  try {
    map.show((await ask("/v1/map?k=2000")).items);
  } catch (error) {
    failed(error);
  }
}

$("key-form").addEventListener("submit", event => {
  event.preventDefault();
  key = $("key").value;
  sessionStorage.setItem("key", key);
  $("key").value = "";
  $("key-form").hidden = true;
  begin();
});

begin();
