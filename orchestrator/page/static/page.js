// What htmx does not do: live updates, changes as JSON, times in the user's zone.
"use strict";

// A region is loaded again while a person types in it or has opened a part of it.
// Idiomorph's own ignoreActiveValue also keeps the old text of a button that has the focus.
Object.assign(Idiomorph.defaults.callbacks, {
  beforeAttributeUpdated: (name, node) => !(name === "open" && node.tagName === "DETAILS"),
  beforeNodeMorphed: (node) => !isTouched(node),
  beforeNodeRemoved: (node) => !keepsWords(node),
});

function isTouched(node) {
  if (!(node instanceof Element)) return false;
  if (node === document.activeElement && /^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName)) return true;
  if (node.tagName === "SELECT") {
    const usual = [...node.options].findIndex((option) => option.defaultSelected);
    return node.selectedIndex !== Math.max(usual, 0);
  }
  if (node.type === "checkbox") return node.checked !== node.defaultChecked;
  return /^(INPUT|TEXTAREA)$/.test(node.tagName) && node.value !== node.defaultValue;
}

// An item may go, settled by somebody else, while a person writes about it: the words stay.
function keepsWords(node) {
  if (!(node instanceof Element)) return false;
  const fields = [node, ...node.querySelectorAll("textarea, input")];
  if (!fields.some((each) => /^(TEXTAREA|INPUT)$/.test(each.tagName) && isWritten(each))) return false;
  if (!node.querySelector(".gone") && !node.matches("textarea, input")) {
    const note = document.createElement("p");
    note.className = "gone warn";
    note.textContent = "This was settled or removed meanwhile. Your words stay here until you clear the field.";
    node.prepend(note);
  }
  return true;
}

function isWritten(field) {
  return field.type !== "hidden" && field.type !== "checkbox" && field.value !== field.defaultValue;
}

// --- live: the server tells which parts of the project changed ---

const late = new Set();
let timer = null;
// Regions that read the whole history rest between two loads: while agents work, something changes
// every second.
const loadedAt = new WeakMap();
let resting = null;
// The card that is being dragged.
let dragged = null;

function refresh(parts) {
  for (const element of document.querySelectorAll("[data-shows]")) {
    const shows = element.dataset.shows.split(" ");
    if (!parts || parts.some((part) => shows.includes(part))) late.add(element);
  }
  timer ??= setTimeout(load, 100);
}

function load() {
  timer = null;
  if (dragged) return; // a card that is replaced while it is dragged is dropped nowhere
  let wait = Infinity;
  for (const element of late) {
    const left = (loadedAt.get(element) || 0) + 1000 * (element.dataset.rest || 0) - Date.now();
    if (left > 0) {
      wait = Math.min(wait, left);
      continue;
    }
    late.delete(element);
    loadedAt.set(element, Date.now());
    if (element.isConnected) htmx.trigger(element, "refresh");
  }
  if (late.size) {
    resting ??= setTimeout(() => {
      resting = null;
      load();
    }, wait);
  }
}

document.addEventListener("htmx:beforeSwap", (event) => {
  if (!dragged) return;
  event.detail.shouldSwap = false;
  late.add(event.detail.target);
});

// A browser opens at most six connections to a server: of a project's tabs one listens, and tells
// the others. When it is closed, the next tab gets the lock.
const tabs = new BroadcastChannel("changes");
// What this tab has heard of: a digest of the project's files.
let seen = null;
// What the listening tab last heard; null in the other tabs.
let latest = null;

function hear({ changed, now, problem }) {
  const link = document.getElementById("link");
  link.hidden = !problem;
  link.textContent = problem;
  if (changed) refresh(changed);
  else if (now && now !== seen) refresh(null);
  seen = now || seen;
}

function tell(heard) {
  latest = { now: heard.now || seen, problem: heard.problem };
  hear(heard);
  tabs.postMessage(heard);
}

tabs.addEventListener("message", ({ data }) => {
  if (data !== "new tab") hear(data);
  else if (latest) tabs.postMessage(latest);
});

// The server was started again.
const UNKNOWN_PAGE = "open the address that `orchestrator dashboard` printed";

function listen() {
  const events = new EventSource("/api/events");
  events.addEventListener("hello", (event) => tell({ now: event.lastEventId, problem: "" }));
  events.addEventListener("change", (event) =>
    tell({ changed: JSON.parse(event.data).changed, now: event.lastEventId, problem: "" }),
  );
  events.addEventListener("error", () => {
    // A server that was started again does not know this page's cookie: the browser gives up.
    if (events.readyState === EventSource.CLOSED) {
      tell({ problem: `not connected: ${UNKNOWN_PAGE}` });
      setTimeout(listen, 3000);
    } else tell({ problem: "not connected" });
  });
}

function live() {
  seen = document.body.dataset.seen;
  tabs.postMessage("new tab");
  navigator.locks.request("listening", () => {
    listen();
    return new Promise(() => {}); // held until the tab is closed
  });
}

// --- changes: each is a command, sent as JSON ---

async function change(path, body, done, forced = null) {
  say("refused", "");
  say("said", "Working …");
  let answer, value;
  try {
    answer = await fetch(path, { method: "POST", body: JSON.stringify(body) });
    if (answer.status === 401) {
      say("said", "");
      say("refused", UNKNOWN_PAGE);
      return false;
    }
    value = await answer.json();
  } catch {
    say("said", "");
    say("refused", "The page's server does not answer. Start it again: orchestrator dashboard");
    return false;
  }
  const error = value && value.error;
  if (!answer.ok) {
    say("said", "");
    say("refused", error ? [error.message, error.hint].filter(Boolean).join("\n") : answer.statusText);
    if (forced) forced.hidden = !(error && error.hint && error.hint.includes("--force"));
    return false;
  }
  const warnings = JSON.parse(answer.headers.get("Orchestrator-Warnings") || "[]");
  say("said", [done || "Done.", ...warnings].join("\n"));
  if (forced) forced.hidden = true;
  refresh(null);
  return true;
}

const clearing = {};
function say(id, text) {
  document.getElementById(id).textContent = text;
  clearTimeout(clearing[id]);
  // A merge can take minutes: its checks run.
  if (text && !text.endsWith("…")) clearing[id] = setTimeout(() => say(id, ""), id === "said" ? 8000 : 20000);
}

// A message hides cards: a click, or Escape, takes it away.
document.addEventListener("click", (event) => event.target.classList?.contains("said") && say(event.target.id, ""));
document.addEventListener("keydown", (event) => event.key === "Escape" && ["said", "refused"].forEach((id) => say(id, "")));

// A form's fields are the command's arguments; its `data-post` may name a field, as {name}.
function fields(form, submitter) {
  const found = {};
  const changed = form.dataset.changed;
  for (const [name, value] of new FormData(form, submitter)) {
    if (changed === undefined) {
      if (value !== "") found[name] = value;
    } else if (value !== form.elements[name].defaultValue) {
      // Only what was changed; `data-changed` says what an empty field means.
      found[name] = value === "" && changed === "null" ? null : value;
    }
  }
  return found;
}

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-post]");
  if (!form) return;
  event.preventDefault();
  const button = event.submitter;
  const asked = (button && button.dataset.confirm) || form.dataset.confirm;
  if (asked && !confirm(asked)) return;
  const body = { ...JSON.parse(form.dataset.body || "{}"), ...fields(form, button) };
  const path = form.dataset.post.replace(/\{(\w+)\}/g, (_, name) => {
    const value = body[name];
    delete body[name];
    return encodeURIComponent(value);
  });
  const buttons = [...form.elements].filter((each) => each.tagName === "BUTTON");
  buttons.forEach((each) => (each.disabled = true));
  try {
    const done = (button && button.dataset.done) || form.dataset.done;
    if (await change(path, body, done, form.querySelector("button[name=force]"))) {
      form.reset();
      const details = form.closest("details");
      if (details) {
        details.open = false;
        details.querySelector("summary").focus();
      }
      if (form.dataset.next) location.assign(form.dataset.next);
    }
  } finally {
    buttons.forEach((each) => (each.disabled = false));
  }
});

document.addEventListener("keydown", (event) => {
  const isSend = event.key === "Enter" && (event.ctrlKey || event.metaKey);
  if (isSend && event.target.tagName === "TEXTAREA") event.target.form?.requestSubmit();
});

// --- the board: a card is dragged to another state or priority; its menu does the same ---

// The browser looks for what is dragged after the first move: the page may have scrolled by then.
let pressed = null;

document.addEventListener("pointerdown", (event) => {
  pressed = event.target.closest?.("[data-task]");
});

document.addEventListener("dragstart", (event) => {
  const card = event.target.closest?.("[data-task]") && pressed;
  if (!card) return;
  dragged = { ...card.dataset };
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", card.dataset.task);
});

function target(event) {
  if (!dragged) return null;
  const column = event.target.closest?.("[data-drop-state]");
  if (!column) return null;
  const lane = event.target.closest("[data-drop-priority]");
  return { column, lane, element: lane || column };
}

function unmark() {
  document.querySelectorAll(".over").forEach((each) => each.classList.remove("over"));
}

document.addEventListener("dragover", (event) => {
  const found = target(event);
  if (!found) return;
  event.preventDefault();
  unmark();
  found.element.classList.add("over");
});

document.addEventListener("dragend", () => {
  unmark();
  dragged = null;
  load();
});

document.addEventListener("drop", async (event) => {
  const found = target(event);
  if (!found) return;
  event.preventDefault();
  const { task, state, priority } = dragged;
  const path = `/api/tasks/${encodeURIComponent(task)}`;
  const to = found.column.dataset.dropState;
  const rank = found.lane?.dataset.dropPriority;
  dragged = null;
  unmark();
  if (to !== state && !(await change(`${path}/move`, { state: to }, `${task} is in ${to}.`))) return;
  if (rank && rank !== priority) {
    await change(`${path}/set`, { priority: rank }, `${task} has the priority ${rank}.`);
  }
});

// --- small things ---

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy], button[data-set]");
  if (!button) return;
  if (button.dataset.copy) {
    await navigator.clipboard.writeText(button.dataset.copy);
    say("said", "Copied.");
    return;
  }
  const tools = document.getElementById("board-tools");
  tools.elements[button.dataset.set].value = button.dataset.value;
  htmx.trigger(tools, "refilter");
});

// A new search begins with the newest tasks.
document.addEventListener("input", (event) => {
  const tools = event.target.closest("#board-tools");
  if (!tools) return;
  for (const name of ["done_after", "failed_after"]) tools.elements[name].value = "";
});

// --- a run's transcript: the end first, then what is added; earlier pages on request ---

const MOST_LINES = 3000;

function transcript(list) {
  const path = list.dataset.transcript;
  const earlier = document.getElementById("earlier");
  const follow = document.getElementById("follow");
  const state = document.getElementById("transcript-state");
  // What is shown, oldest first: where each part begins in the stream, and its number of lines.
  const parts = [];
  let end = 0;
  // The run is not kept, or on another host: nothing is added here.
  let isElsewhere = false;

  async function read(query) {
    const answer = await fetch(path + query);
    isElsewhere = [404, 409].includes(answer.status);
    if (!answer.ok) return null;
    const [from, to, size] = ["Begin", "End", "Size"].map((n) => Number(answer.headers.get(`Orchestrator-${n}`)));
    const holder = document.createElement("template");
    holder.innerHTML = await answer.text();
    return { from, to, size, lines: holder.content, count: holder.content.children.length };
  }

  function show(size) {
    earlier.hidden = !parts.length || parts[0].from === 0;
    state.textContent = size < 1e5 ? `${Math.ceil(size / 1e3)} kB` : `${(size / 1e6).toFixed(1)} MB`;
  }

  async function more() {
    const part = await read(end ? `?after=${end}` : "").catch(() => null);
    if (!part) return false;
    end = part.to;
    if (part.count) {
      parts.push({ from: part.from, count: part.count });
      list.append(part.lines);
      if (follow.checked) {
        let lines = list.children.length;
        while (lines > MOST_LINES && parts.length > 1) {
          for (let n = parts.shift().count; n > 0; n--, lines--) list.firstElementChild.remove();
        }
        list.scrollTop = list.scrollHeight;
      }
    }
    show(part.size);
    return end < part.size && part.count > 0;
  }

  // An ended run is looked at again only when something in the project changes.
  let isWatching = false;
  async function watch() {
    isWatching = true;
    const isMore = await more();
    const active = document.getElementById("run-active")?.dataset.active !== "no";
    isWatching = isMore || (active && !isElsewhere);
    if (isWatching) setTimeout(watch, isMore ? 50 : 1000);
  }
  document.addEventListener("htmx:afterSwap", () => isWatching || watch());

  earlier.addEventListener("click", async () => {
    follow.checked = false;
    const part = await read(`?before=${parts[0].from}`);
    if (!part) return;
    const height = list.scrollHeight;
    parts.unshift({ from: part.from, count: part.count });
    list.prepend(part.lines);
    list.scrollTop += list.scrollHeight - height;
    show(part.size);
  });
  watch();
}

// --- times in the user's zone ---

function shownTime(at) {
  const now = new Date();
  const time = { hour: "2-digit", minute: "2-digit" };
  if (at.toDateString() === now.toDateString()) return at.toLocaleTimeString(undefined, time);
  const day = { month: "short", day: "numeric", ...time };
  if (at.getFullYear() !== now.getFullYear()) day.year = "numeric";
  return at.toLocaleString(undefined, day);
}

function showTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    time.title = at.toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
    time.textContent = shownTime(at);
  }
}

// The newest runs are at the right end of the swim lanes: a narrow page begins there.
const begun = new WeakSet();
function showNewest() {
  const lanes = document.querySelector(".lanes .wide");
  if (!lanes || begun.has(lanes)) return;
  begun.add(lanes);
  lanes.scrollLeft = lanes.scrollWidth;
}

// The navigation says how much is in some regions.
function showTallies() {
  for (const tally of document.querySelectorAll("[data-tally]")) {
    const { tally: name, number, mood } = tally.dataset;
    const place = document.querySelector(`[data-tally-of="${name}"]`);
    if (!place) continue;
    place.hidden = number === "0";
    place.textContent = number;
    place.className = `number-of ${mood}`;
  }
}

// The tab says how many things wait for a person.
const title = document.title;
function showWaiting() {
  const waiting = document.querySelectorAll("#inbox-content .item:not(:has(.gone))").length;
  document.title = waiting ? `(${waiting}) ${title}` : title;
}

document.addEventListener("htmx:afterSwap", (event) => {
  showTimes(event.target);
  showTallies();
  showWaiting();
  showNewest();
});
document.addEventListener("DOMContentLoaded", () => {
  showTimes(document);
  setInterval(() => showTimes(document), 60_000); // what was today is yesterday after midnight
  live();
  const list = document.querySelector("[data-transcript]");
  if (list) transcript(list);
});
