// The pieces that every view is made of.

import { element, fill } from "./dom.js";

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const UNITS = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]];

const TICK_MS = 10_000;

/** A time as "3 minutes ago", exact on hover; it goes on counting by itself. */
export function when(iso) {
  if (!iso) return element("span", { class: "soft" }, "–");
  return element("time", { dateTime: iso, title: new Date(iso).toLocaleString() }, ago(iso));
}

function ago(iso) {
  const seconds = (new Date(iso) - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? UNITS.at(-1);
  return RELATIVE.format(Math.round(seconds / size), unit);
}

setInterval(() => {
  for (const time of document.querySelectorAll("time")) time.textContent = ago(time.dateTime);
}, TICK_MS);

/** A name of ours as a person writes it: "kl_live" → "KL live", "grad_norm" → "Grad norm". */
export function sentence(name) {
  const words = String(name).replaceAll("_", " ").replace(/\bkl\b/g, "KL").replace(/\bauc\b/g, "AUC").replace(/ nats$/, " (nats)").replace(/ per s$/, " per second");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/**
 * Make a function (part, value, draw) that draws only what has changed since it was last asked about that part: focus
 * and selection in the rest of a page survive the next look at the server.
 */
export function onlyChanges() {
  const seen = new Map();
  return (part, value, draw) => {
    const text = JSON.stringify(value ?? null);
    if (seen.get(part) === text) return;
    seen.set(part, text);
    draw();
  };
}

const TONES = {
  live: "good", published: "good", pass: "good", up: "good",
  rejected: "bad", failed: "bad", fail: "bad", down: "bad",
  requested: "busy", selecting: "busy", training: "busy", gating: "busy", candidate: "busy", canary: "busy", inconclusive: "warn",
};

/** A state as a word in a frame; the colour only repeats what the word says. */
export function badge(state, words = state) {
  return element("span", { class: `badge ${TONES[state] ?? "calm"}` }, words);
}

/** A table that scrolls sideways by itself. `rows` are arrays of cells (nodes or text). */
export function table(caption, heads, rows, nothing) {
  if (!rows.length) return element("p", { class: "nothing" }, nothing);
  return element("div", { class: "scroller", tabIndex: 0, role: "region", "aria-label": caption },
    element("table", {}, element("caption", { class: "only-read" }, caption),
      element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, rows.map((cells) => element("tr", {}, cells.map((cell) => element("td", {}, cell)))))));
}

/** "12 of 200 thumbs" with a bar. */
export function progress(name, value, wanted, spoken) {
  const share = wanted > 0 ? Math.min(1, value / wanted) : 1;
  const met = value >= wanted;
  const bar = element("progress", { max: 1, value: share, "aria-label": `${name}: ${spoken}` });
  return element("div", { class: `requirement${met ? " met" : ""}` }, element("span", {}, spoken), bar,
    element("span", { class: "soft" }, met ? "enough" : ""));
}

export function card(title, ...content) {
  return element("section", { class: "card" }, element("h2", {}, title), content);
}

export function figure(name, value, note) {
  return element("div", { class: "figure" }, element("span", { class: "soft" }, name), element("strong", {}, value),
    note && element("span", { class: "soft" }, note));
}

export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/**
 * Ask before an act. With `reasonLabel` a reason has to be typed. `act(reason, force)` does it; what it throws is shown
 * in the dialog, which stays open. `forceLabel` adds a checkbox.
 */
export function ask({ title, text, button, danger = false, reasonLabel = null, forceLabel = null, act }) {
  const dialog = document.getElementById("ask");
  const reason = reasonLabel && element("textarea", { rows: 2, maxLength: 500, required: true, id: "ask-reason" });
  const force = forceLabel && element("input", { type: "checkbox", id: "ask-force" });
  const problem = element("p", { class: "problem", role: "alert", hidden: true });
  const go = element("button", { type: "submit", class: `button ${danger ? "danger" : "primary"}` }, button);
  const form = element("form", { on: { submit: async (event) => {
    event.preventDefault();
    if (reason && !reason.value.trim()) return;
    go.disabled = true;
    try {
      await act(reason?.value.trim() ?? null, force?.checked ?? false);
      dialog.close();
    } catch (failure) {
      problem.textContent = failure.message;
      problem.hidden = false;
    } finally {
      go.disabled = false;
    }
  } } }, element("h2", { id: "ask-title" }, title), element("p", { class: "soft" }, text),
  reason && element("label", { htmlFor: "ask-reason" }, reasonLabel, reason),
  force && element("label", { class: "check", htmlFor: "ask-force" }, force, forceLabel), problem,
  element("div", { class: "buttons" }, element("button", { type: "button", class: "button quiet", on: { click: () => dialog.close() } }, "Cancel"), go));
  fill(dialog, form);
  dialog.showModal();
  (reason ?? go).focus();
}
