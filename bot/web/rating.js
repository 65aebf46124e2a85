// The row under a reply: thumbs, reasons, "write a better answer". A vote shows at once and is taken back if the server
// refuses it, so what is shown is what counts.

import { sendFeedback } from "./api.js";
import { element, fill, icon } from "./dom.js";

// Codes are what is stored, so that reasons can be counted whatever the page's words become.
const REASONS = {
  up: [["correct", "Correct"], ["clear", "Clear"], ["right_length", "Right length"], ["good_tone", "Good tone"]],
  down: [["wrong", "Wrong"], ["missed_the_point", "Missed the point"], ["too_long", "Too long"],
    ["hard_to_read", "Hard to read"], ["harmful", "Harmful"]],
};
const NOTE_LENGTH = 500;
const CORRECTION_LENGTH = 8000;

let hinted = false; // whether this page has said that reasons need consent

/** "too_long,wrong: what else the rater wrote", or null when nothing was said. */
export function reasonText(codes, note) {
  const said = [codes.join(","), note.trim()].filter(Boolean).join(": ");
  return said || null;
}

function readReason(reason) {
  const known = new Set(Object.values(REASONS).flat().map(([code]) => code));
  const [head, ...rest] = (reason ?? "").split(": ");
  const codes = head.split(",").filter((code) => known.has(code));
  return { codes, note: codes.length ? rest.join(": ") : (reason ?? "") };
}

/**
 * Build the row for `reply`. `context` has rater, consented() → bool, changed() (the reply was altered: save it),
 * announce(text) and askConsent(). Returns {node, vote(thumb)}.
 */
export function ratingRow(reply, context) {
  const problem = element("p", { class: "problem", role: "alert", hidden: true });
  const panel = element("div", { class: "panel", hidden: true });
  const corrected = element("div", { class: "corrected", hidden: true });
  const thumbs = Object.fromEntries(["up", "down"].map((thumb) => [thumb, element("button", {
    type: "button", class: `icon-button thumb ${thumb}`, title: `${thumb === "up" ? "Good reply" : "Bad reply"} (Alt+${thumb === "up" ? "↑" : "↓"})`,
    "aria-label": thumb === "up" ? "Good reply" : "Bad reply", "aria-pressed": "false",
    on: { click: () => vote(reply.thumb === thumb ? null : thumb) },
  }, icon(thumb))]));
  const better = element("button", { type: "button", class: "button quiet small", on: { click: () => openCorrection() } },
    icon("pencil"), element("span", {}, "Write a better answer"));

  function reveal() {
    panel.hidden = false;
    panel.scrollIntoView({ block: "nearest" });
  }

  function show() {
    for (const [thumb, button] of Object.entries(thumbs)) button.setAttribute("aria-pressed", String(reply.thumb === thumb));
    better.lastChild.textContent = reply.correction ? "Edit your better answer" : "Write a better answer";
    corrected.hidden = !reply.correction;
    if (reply.correction) {
      fill(corrected, element("span", { class: "label" }, "Your better answer"), element("p", {}, reply.correction));
    }
  }

  async function store(change, act) {
    const before = { thumb: reply.thumb, reason: reply.reason, correction: reply.correction };
    Object.assign(reply, change);
    problem.hidden = true;
    show();
    context.changed();
    try {
      await sendFeedback(context.rater, { reply_id: reply.id, ...act });
      return true;
    } catch (failure) {
      Object.assign(reply, before);
      problem.textContent = `This was not stored. ${failure.message}`;
      problem.hidden = false;
      show();
      context.changed();
      return false;
    }
  }

  async function vote(thumb) {
    if (thumb) askWhy(thumb);
    else panel.hidden = true;
    if (await store({ thumb, reason: null }, { thumb })) {
      context.announce(thumb ? `Rated as a ${thumb === "up" ? "good" : "bad"} reply.` : "Your rating is taken back.");
    } else panel.hidden = true;
  }

  function askWhy(thumb) {
    panel.hidden = true;
    if (context.consented()) openReasons(thumb);
    else if (!hinted) {
      hinted = true; // once is enough: the vote itself counts without it
      offerConsent("Your vote is counted. Why you gave it can be kept, too, if you agree to that.", thumbs[thumb]);
    }
  }

  /** Say what needs consent, with the way to it; `back` gets the focus when the offer is turned down. */
  function offerConsent(text, back) {
    const close = () => {
      panel.hidden = true;
      back.focus();
    };
    fill(panel, element("p", {}, text), element("div", { class: "choices" },
      element("button", { type: "button", class: "button small", on: { click: context.askConsent } }, "Settings and privacy"),
      element("button", { type: "button", class: "button quiet small", on: { click: close } }, "Not now")));
    reveal();
  }

  function openReasons(thumb) {
    const said = readReason(reply.thumb === thumb ? reply.reason : null);
    const chosen = new Set(said.codes);
    const chips = REASONS[thumb].map(([code, label]) => element("button", {
      type: "button", class: "chip", "aria-pressed": String(chosen.has(code)),
      on: { click: (event) => {
        if (!chosen.delete(code)) chosen.add(code);
        event.currentTarget.setAttribute("aria-pressed", String(chosen.has(code)));
        sendReason();
      } },
    }, label));
    const note = element("input", { type: "text", maxLength: NOTE_LENGTH, value: said.note, "aria-label": "A note, if you like",
      placeholder: "A note, if you like" });
    const sendReason = () => {
      const reason = reasonText(REASONS[thumb].map(([code]) => code).filter((code) => chosen.has(code)), note.value);
      return store({ thumb, reason }, { thumb, ...(reason ? { reason } : {}) });
    };
    const form = element("form", { class: "note", on: { submit: async (event) => {
      event.preventDefault();
      if (await sendReason()) {
        panel.hidden = true;
        thumbs[thumb].focus();
        context.announce("Thank you, your reason is stored.");
      }
    } } }, note, element("button", { type: "submit", class: "button small" }, "Done"));
    fill(panel, element("p", { class: "label" }, thumb === "up" ? "What was good?" : "What was wrong?"),
      element("div", { class: "chips" }, chips), form);
    reveal();
  }

  function openCorrection() {
    if (!context.consented()) {
      offerConsent("A better answer is text of yours: it can only be kept and learned from if you agree to that.", better);
      return;
    }
    const box = element("textarea", { rows: 6, maxLength: CORRECTION_LENGTH, value: reply.correction ?? reply.text,
      "aria-label": "Your better answer" });
    const form = element("form", { class: "correction", on: { submit: async (event) => {
      event.preventDefault();
      const text = box.value.trim();
      if (!text) return;
      if (await store({ correction: text }, { correction: text })) {
        panel.hidden = true;
        better.focus();
        context.announce("Thank you, your better answer is stored.");
      }
    } } }, element("p", { class: "label" }, "Write what the reply should have been"), box, element("div", { class: "choices" },
      element("button", { type: "submit", class: "button primary small" }, "Save"),
      element("button", { type: "button", class: "button quiet small", on: { click: () => { panel.hidden = true; better.focus(); } } }, "Cancel")));
    fill(panel, form);
    reveal();
    box.focus();
  }

  const copy = navigator.clipboard && element("button", { type: "button", class: "icon-button", "aria-label": "Copy the reply",
    title: "Copy", on: { click: async () => {
      await navigator.clipboard.writeText(reply.text);
      context.announce("Copied.");
    } } }, icon("copy"));
  const version = reply.version && element("span", { class: "version", title: "The version of the model that wrote this" }, element("span", { class: "long" }, "version "), element("span", { class: "short", "aria-hidden": "true" }, "v"), String(reply.version));
  show();
  const node = element("div", { class: "rating" },
    element("div", { class: "rating-row", role: "group", "aria-label": "Rate this reply" }, thumbs.up, thumbs.down, copy, better, version),
    problem, panel, corrected);
  return { node, vote: (thumb) => vote(reply.thumb === thumb ? null : thumb) };
}
