// The row under a reply: thumbs, reasons, "write a better answer". A vote shows at once and is taken back if the server
// refuses it, so what is shown is what counts.

import { sendFeedback } from "./api.js";
import { element, fill, icon } from "./dom.js";
import { say } from "./words.js";

// Codes are what is stored, so that reasons can be counted whatever the page's words become.
const REASONS = {
  up: [["correct", say("Correct")], ["clear", say("Clear")], ["right_length", say("Right length")], ["good_tone", say("Good tone")]],
  down: [["wrong", say("Wrong")], ["missed_the_point", say("Missed the point")], ["too_long", say("Too long")],
    ["hard_to_read", say("Hard to read")], ["harmful", say("Harmful")]],
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
    type: "button", class: `icon-button thumb ${thumb}`, title: `${thumb === "up" ? say("Good reply") : say("Bad reply")} (Alt+${thumb === "up" ? "↑" : "↓"})`,
    "aria-label": thumb === "up" ? say("Good reply") : say("Bad reply"), "aria-pressed": "false",
    on: { click: () => vote(reply.thumb === thumb ? null : thumb) },
  }, icon(thumb))]));
  const better = element("button", { type: "button", class: "button quiet small", on: { click: () => openCorrection() } },
    icon("pencil"), element("span", {}, say("Write a better answer")));

  function reveal() {
    panel.hidden = false;
    panel.scrollIntoView({ block: "nearest" });
  }

  function show() {
    for (const [thumb, button] of Object.entries(thumbs)) button.setAttribute("aria-pressed", String(reply.thumb === thumb));
    better.lastChild.textContent = reply.correction ? say("Edit your better answer") : say("Write a better answer");
    corrected.hidden = !reply.correction;
    if (reply.correction) {
      fill(corrected, element("span", { class: "label" }, say("Your better answer")), element("p", {}, reply.correction));
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
      problem.textContent = say("This was not stored. %(why)s", { why: failure.message });
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
      context.announce(thumb ? thumb === "up" ? say("Rated as a good reply.") : say("Rated as a bad reply.") : say("Your rating is taken back."));
    } else panel.hidden = true;
  }

  function askWhy(thumb) {
    panel.hidden = true;
    if (context.consented()) openReasons(thumb);
    else if (!hinted) {
      hinted = true; // once is enough: the vote itself counts without it
      offerConsent(say("Your vote is counted. Why you gave it can be kept, too, if you agree to that."), thumbs[thumb]);
    }
  }

  /** Say what needs consent, with the way to it; `back` gets the focus when the offer is turned down. */
  function offerConsent(text, back) {
    const close = () => {
      panel.hidden = true;
      back.focus();
    };
    fill(panel, element("p", {}, text), element("div", { class: "choices" },
      element("button", { type: "button", class: "button small", on: { click: context.askConsent } }, say("Settings and privacy")),
      element("button", { type: "button", class: "button quiet small", on: { click: close } }, say("Not now"))));
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
    const note = element("input", { type: "text", maxLength: NOTE_LENGTH, value: said.note, "aria-label": say("A note, if you like"),
      placeholder: say("A note, if you like") });
    const sendReason = () => {
      const reason = reasonText(REASONS[thumb].map(([code]) => code).filter((code) => chosen.has(code)), note.value);
      return store({ thumb, reason }, { thumb, ...(reason ? { reason } : {}) });
    };
    const form = element("form", { class: "note", on: { submit: async (event) => {
      event.preventDefault();
      if (await sendReason()) {
        panel.hidden = true;
        thumbs[thumb].focus();
        context.announce(say("Thank you, your reason is stored."));
      }
    } } }, note, element("button", { type: "submit", class: "button small" }, say("Done")));
    fill(panel, element("p", { class: "label" }, thumb === "up" ? say("What was good?") : say("What was wrong?")),
      element("div", { class: "chips" }, chips), form);
    reveal();
  }

  function openCorrection() {
    if (!context.consented()) {
      offerConsent("A better answer is text of yours: it can only be kept and learned from if you agree to that.", better);
      return;
    }
    const box = element("textarea", { rows: 6, maxLength: CORRECTION_LENGTH, value: reply.correction ?? reply.text,
      "aria-label": say("Your better answer") });
    const form = element("form", { class: "correction", on: { submit: async (event) => {
      event.preventDefault();
      const text = box.value.trim();
      if (!text) return;
      if (await store({ correction: text }, { correction: text })) {
        panel.hidden = true;
        better.focus();
        context.announce(say("Thank you, your better answer is stored."));
      }
    } } }, element("p", { class: "label" }, say("Write what the reply should have been")), box, element("div", { class: "choices" },
      element("button", { type: "submit", class: "button primary small" }, say("Save")),
      element("button", { type: "button", class: "button quiet small", on: { click: () => { panel.hidden = true; better.focus(); } } }, say("Cancel"))));
    fill(panel, form);
    reveal();
    box.focus();
  }

  const copy = navigator.clipboard && element("button", { type: "button", class: "icon-button", "aria-label": say("Copy the reply"),
    title: say("Copy"), on: { click: async () => {
      await navigator.clipboard.writeText(reply.text);
      context.announce(say("Copied."));
    } } }, icon("copy"));
  const version = reply.version && element("span", { class: "version", title: say("The version of the model that wrote this") }, element("span", { class: "long" }, say("version ")), element("span", { class: "short", "aria-hidden": "true" }, "v"), String(reply.version));
  show();
  const node = element("div", { class: "rating" },
    element("div", { class: "rating-row", role: "group", "aria-label": say("Rate this reply") }, thumbs.up, thumbs.down, copy, better, version),
    problem, panel, corrected);
  return { node, vote: (thumb) => vote(reply.thumb === thumb ? null : thumb) };
}
