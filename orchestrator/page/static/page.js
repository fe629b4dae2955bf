// What htmx does not do: live updates, changes as JSON, times in the user's zone.
"use strict";

// A region is loaded again while a person types in it or has opened a part of it.
Object.assign(Idiomorph.defaults, { ignoreActiveValue: true });
Object.assign(Idiomorph.defaults.callbacks, {
  beforeAttributeUpdated: (name, node) => !(name === "open" && node.tagName === "DETAILS"),
  beforeNodeMorphed: (node) => !isTouched(node),
});

function isTouched(node) {
  if (!(node instanceof Element)) return false;
  if (node.tagName === "SELECT") return [...node.options].some((o) => o.selected !== o.defaultSelected);
  if (node.type === "checkbox") return node.checked !== node.defaultChecked;
  return /^(INPUT|TEXTAREA)$/.test(node.tagName) && node.value !== node.defaultValue;
}

// --- live: the server tells which parts of the project changed ---

const late = new Set();
let timer = null;

function refresh(parts) {
  for (const element of document.querySelectorAll("[data-shows]")) {
    const shows = element.dataset.shows.split(" ");
    if (!parts || parts.some((part) => shows.includes(part))) late.add(element);
  }
  timer ??= setTimeout(() => {
    timer = null;
    for (const element of late) if (element.isConnected) htmx.trigger(element, "refresh");
    late.clear();
  }, 100);
}

function listen() {
  const events = new EventSource("/api/events");
  const link = document.getElementById("link");
  let wasLost = false;
  events.addEventListener("hello", () => {
    link.hidden = true;
    if (wasLost) refresh(null);
    wasLost = false;
  });
  events.addEventListener("change", (event) => refresh(JSON.parse(event.data).changed));
  events.addEventListener("error", () => {
    wasLost = true;
    link.hidden = false;
  });
}

// --- changes: each is a command, sent as JSON ---

async function change(path, body, done) {
  say("refused", "");
  say("said", "…");
  let answer, value;
  try {
    answer = await fetch(path, { method: "POST", body: JSON.stringify(body) });
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
    return false;
  }
  const warnings = JSON.parse(answer.headers.get("Orchestrator-Warnings") || "[]");
  say("said", [done || "Done.", ...warnings].join("\n"));
  refresh(null);
  return true;
}

const clearing = {};
function say(id, text) {
  document.getElementById(id).textContent = text;
  clearTimeout(clearing[id]);
  if (text) clearing[id] = setTimeout(() => say(id, ""), id === "said" ? 8000 : 20000);
}

// A form's fields are the command's arguments; `data-path` may name a field, as {state}.
function fields(form, submitter) {
  const found = {};
  for (const [name, value] of new FormData(form, submitter)) {
    if (value !== "") found[name] = value;
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
  const path = (button && button.dataset.post) || form.dataset.post;
  const buttons = form.querySelectorAll("button");
  buttons.forEach((each) => (each.disabled = true));
  try {
    const done = (button && button.dataset.done) || form.dataset.done;
    if (await change(path, body, done)) {
      form.reset();
      form.closest("details")?.removeAttribute("open");
      if (form.dataset.next) location.assign(form.dataset.next);
    }
  } finally {
    buttons.forEach((each) => (each.disabled = false));
  }
});

// --- times in the user's zone ---

function showTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    time.title = time.dateTime;
    time.textContent = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  }
}

document.addEventListener("htmx:afterSwap", (event) => showTimes(event.target));
document.addEventListener("DOMContentLoaded", () => {
  showTimes(document);
  listen();
});
