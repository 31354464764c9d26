// Keeps a page up to date: asks for it again, and changes only what is different, so that focus,
// scroll position and what is unfolded stay. Nothing is asked while the tab is hidden, and nothing
// is changed while text is selected.
"use strict";

const PAUSE_MS = 5000;
const PATIENCE_MS = 10000;

const main = document.querySelector("main");
const notice = document.getElementById("notice");
let version = "";
let timer = 0;

function later() {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(refresh, PAUSE_MS);
}

async function refresh() {
  clearTimeout(timer);
  if (document.hidden) return;
  if (isSelecting()) {
    tell("Waits while text is selected.");
  } else {
    await ask();
  }
  later();
}

async function ask() {
  let answer, text;
  try {
    answer = await fetch(location.href, {
      headers: { Accept: "text/html", "If-None-Match": version },
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    text = await answer.text();
  } catch {
    return tell("The service does not answer. This is what it said last.");
  }
  if (answer.status === 304) return renewed(answer);
  if (!answer.ok || answer.redirected) {
    return tell(`The service refuses (${answer.status}). Load the page again.`);
  }
  if (isSelecting()) return;
  version = answer.headers.get("ETag") ?? "";
  const page = new DOMParser().parseFromString(text, "text/html");
  document.title = page.title;
  change(main, page.querySelector("main"));
}

// Nothing has changed but the time.
function renewed(answer) {
  const at = document.getElementById("at");
  const now = new Date(answer.headers.get("Date")).toISOString().slice(0, 19);
  at.dateTime = `${now}+00:00`;
  at.textContent = `${now.replace("T", " ")} UTC`;
  tell("");
}

function tell(text) {
  if (notice.textContent !== text) notice.textContent = text;
}

function isSelecting() {
  const selection = getSelection();
  return !selection.isCollapsed && main.contains(selection.anchorNode);
}

// Makes `old` what `wanted` is. An element with an id stays the same element.
function change(old, wanted) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== wanted.data) old.data = wanted.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!wanted.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  let next = old.firstChild;
  for (const child of wanted.childNodes) {
    const same = counterpart(next, child);
    if (!same) {
      old.insertBefore(document.importNode(child, true), next);
      continue;
    }
    while (next !== same) next = removed(next);
    change(same, child);
    next = same.nextSibling;
  }
  while (next) next = removed(next);
}

// Among `next` and what follows it: the element with the id of `child`; or else `next` itself, if
// it is of the same kind.
function counterpart(next, child) {
  if (child.id) {
    while (next && next.id !== child.id) next = next.nextSibling;
    return next;
  }
  return next && !next.id && next.nodeName === child.nodeName ? next : null;
}

function removed(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

document.addEventListener("visibilitychange", refresh);
later();
