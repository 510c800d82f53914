// Keeps an open page up to date. The server tells of changes by events; the page is then fetched
// again, and the parts that differ are put in. Without this script the page is the same, as of when
// it was loaded.
"use strict";

const told = document.querySelector("[data-live-said]");
const parts = () => document.querySelectorAll("[data-live]");
let waiting = false;
let again = false;
let due = 0;

async function refresh() {
  if (waiting) {
    again = true;
    return;
  }
  waiting = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, credentials: "same-origin" });
    if (!answer.ok || answer.redirected) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of parts()) {
      const next = fresh.getElementById(old.id);
      // What somebody is typing into, or has opened, stays as it is.
      const busy = old.contains(document.activeElement) && document.activeElement !== document.body;
      const opened = old.querySelector("details[open]") !== null;
      if (next && !busy && !opened && next.outerHTML !== old.outerHTML) old.replaceWith(document.adoptNode(next));
    }
  } catch {
    // The server is away; its next event brings the page up to date.
  } finally {
    waiting = false;
    if (again) {
      again = false;
      setTimeout(refresh, 1000);
    }
  }
}

for (const stream of document.querySelectorAll("[data-stream]")) {
  const events = new EventSource(stream.dataset.stream);
  events.addEventListener("transition", (event) => {
    const change = JSON.parse(event.data);
    const name = stream.dataset.workflow;
    if (told && change.from !== change.to) {
      told.textContent = `${name}, cycle ${change.cycle}: ${change.from} to ${change.to}`;
    }
    refresh();
  });
  // Tasks may come many a second; once in a few seconds is enough to watch them.
  events.addEventListener("figures", () => {
    if (!due) due = setTimeout(() => { due = 0; refresh(); }, 2000);
  });
}
