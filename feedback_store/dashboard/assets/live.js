// A live page: <main data-live="/dashboard/live/TOPIC">. At every event it fetches itself and takes over the parts
// marked data-region that have changed. Nothing is parsed from text here (the browser reads the page as a document), so
// no script can come in; open details, focus and what somebody is typing stay as they are.

import { charts } from "./charts.js";

const CALM_MS = 250; // events closer than this are one look; a busy page says data-calm="3000"
let taken = 0; // how often parts of the page were taken over

export function live() {
  const main = document.getElementById("main");
  // The answer to an act stands at the act's address, where nothing can be looked at again.
  if (main?.dataset.address) history.replaceState(null, "", main.dataset.address);
  const topic = main?.dataset.live;
  if (!topic && !document.querySelector("[data-again]")) return;
  let source = null;
  let seen = null;
  let timer = null;
  let asking = false;
  let again = false;

  const offline = (is) => {
    document.getElementById("offline").hidden = !is;
  };

  const look = () => {
    timer = null;
    if (asking) {
      again = true;
      return;
    }
    asking = true;
    const before = taken;
    fetchPage().then((page) => {
      offline(false);
      // Somebody searched or acted meanwhile: what was asked for before that must not cover what they see now.
      if (taken === before) takeOver(page, true);
      else again = true;
      lookAgain();
    }).catch((problem) => {
      if (problem === "elsewhere") location.reload(); // signed out, or moved
      else offline(true);
    }).finally(() => {
      asking = false;
      if (again) {
        again = false;
        look();
      }
    });
  };

  // Something on the page is being worked out on the server, and says when to look again.
  const lookAgain = () => {
    const wanted = [...document.querySelectorAll("[data-again]")].map((node) => Number(node.dataset.again));
    if (wanted.length) timer ??= setTimeout(look, Math.min(...wanted));
  };

  const open = () => {
    if (!topic) return;
    source = new EventSource(topic);
    source.onmessage = ({ data }) => {
      offline(false);
      if (data === seen) return;
      const first = seen === null && data === main.dataset.pulse;
      seen = data;
      if (!first) timer ??= setTimeout(look, Number(main.dataset.calm ?? CALM_MS));
    };
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return; // it comes back by itself
      setTimeout(() => { if (!document.hidden && source?.readyState === EventSource.CLOSED) { look(); open(); } }, 5000);
    };
  };

  const close = () => {
    source?.close();
    source = null;
  };

  document.addEventListener("look", look); // for a page's own script: something has changed here
  // A browser keeps few connections to one server: tabs that nobody looks at give theirs back.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else if (!source) open();
  });
  window.addEventListener("pagehide", close);
  if (!document.hidden) open();
  lookAgain();
}

function fetchPage() {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", location.pathname + location.search);
    request.responseType = "document";
    request.onload = () => {
      if (request.status !== 200) reject(request.status === 401 || request.status === 404 ? "elsewhere" : "failed");
      else if (new URL(request.responseURL).pathname !== location.pathname) reject("elsewhere");
      else resolve(request.response);
    };
    request.onerror = () => reject("failed");
    request.send();
  });
}

/** Replace every region that is not as it was. A look leaves alone what answers an act, until the next act. */
export function takeOver(page, looking = false) {
  taken += 1;
  for (const present of document.querySelectorAll("[data-region]")) {
    if (looking && "answer" in present.dataset) continue;
    const fresh = page.querySelector(`[data-region="${CSS.escape(present.dataset.region)}"]`);
    if (!fresh || sameBut(present, fresh) || isTyping(present)) continue;
    const taken = document.importNode(fresh, true);
    keepOpen(present, taken);
    const focus = focusIn(present);
    present.replaceWith(taken);
    charts(taken);
    if (focus) taken.querySelector(focus)?.focus({ preventScroll: true });
  }
}

function sameBut(present, fresh) {
  return present.dataset.digest ? present.dataset.digest === fresh.dataset.digest : plain(present) === plain(fresh);
}

function plain(node) {
  const copy = node.cloneNode(true);
  for (const open of copy.querySelectorAll("details[open]")) open.removeAttribute("open");
  for (const added of copy.querySelectorAll("[data-added]")) added.remove();
  return copy.innerHTML;
}

function isTyping(region) {
  const node = document.activeElement;
  const typed = [...region.querySelectorAll("textarea, input:not([type=hidden])")].some((field) =>
    field.type === "checkbox" || field.type === "radio" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue);
  return typed || (region.contains(node) && /^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName));
}

function keepOpen(present, taken) {
  for (const open of present.querySelectorAll("details[open][id]")) {
    taken.querySelector(`#${CSS.escape(open.id)}`)?.setAttribute("open", "");
  }
}

function focusIn(region) {
  const node = document.activeElement;
  if (!region.contains(node)) return null;
  if (node.id) return `#${CSS.escape(node.id)}`;
  const href = node.getAttribute("href");
  return href ? `a[href="${CSS.escape(href)}"]` : null;
}
