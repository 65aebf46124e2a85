// The gate's report as a table, and the replies that it drew from both versions, side by side.

import { get } from "./admin.js";
import { spoken } from "./chart.js";
import { element } from "./dom.js";
import { render } from "./markdown.js";
import { badge, card, sentence, table } from "./parts.js";
import { percent } from "./statistics.js";

const WORDS = { pass: "pass", fail: "fail", inconclusive: "too little evidence" };

export function gateCard(report, state) {
  if (!report) {
    const nothing = state === "gating" ? "The candidate is being judged." : "The gate has not judged this round.";
    return card("The gate", element("p", { class: "nothing" }, nothing));
  }
  const rows = report.checks.map((check) => [
    element("span", {}, sentence(check.name), !check.hard && element("span", { class: "soft" }, " (warns only)")),
    badge(check.outcome, WORDS[check.outcome]), valueWithInterval(check), threshold(check.threshold),
    element("span", { class: "wide" }, check.reason),
  ]);
  return card("The gate", element("p", {}, badge(report.outcome, WORDS[report.outcome]), " ", report.summary), sampleLine(report),
    table("The gate's checks", ["Measure", "Verdict", "Value (interval)", "Threshold", "Reason"], rows, "The report holds no checks."),
    textsTable(report.texts));
}

function valueWithInterval({ value, interval }) {
  return element("span", { class: "number" }, spoken(value), interval && element("span", { class: "interval" }, ` (${spoken(interval[0])} to ${spoken(interval[1])})`));
}

const threshold = (limit) => (Array.isArray(limit) ? `${spoken(limit[0])} to ${spoken(limit[1])}` : spoken(limit));

function sampleLine({ sample, against }) {
  if (!sample) return null;
  const live = against?.live ? `version ${against.live}` : "the live version";
  return element("p", { class: "soft" }, `Judged on ${sample.replies} replies of the candidate and as many of ${live}, to ${sample.prompts} prompts ` +
    `that were not trained on; intervals of ${percent(sample.confidence)}.`);
}

function textsTable(texts) {
  if (!texts?.candidate || !texts?.live) return null;
  // All of them are shares but the length.
  const say = (name, value) => (name === "median_words" || typeof value !== "number" ? spoken(value) : percent(value, 1));
  const rows = Object.keys(texts.candidate).map((name) => [sentence(name), say(name, texts.live[name]), say(name, texts.candidate[name])]);
  return table("What the replies are like", ["The replies", "Live", "Candidate"], rows, "");
}

/** Replies of the live version and of the candidate to the same prompts. The prompts are looked up while they are kept. */
export function examplesCard(report) {
  const examples = report?.examples ?? [];
  if (!examples.length) return null;
  return card("Before and after", element("div", { class: "samples" }, examples.map((example) => element("div", { class: "sample" },
    promptOf(example.prompt_reply_id), element("div", { class: "sides" }, side("Before (live)", example.before), side("After (candidate)", example.after))))));
}

function promptOf(replyId) {
  const line = element("p", {}, "…");
  const say = (text, known) => {
    line.textContent = text;
    line.classList.toggle("soft", !known);
  };
  if (!replyId) say("The prompt is not in the store.", false);
  else {
    get(`/v1/replies/${encodeURIComponent(replyId)}`).then(
      ({ messages }) => say(messages?.at(-1)?.content ?? "The prompt is not kept any more.", Boolean(messages)),
      () => say("The prompt is not kept any more.", false),
    );
  }
  return line;
}

function side(name, text) {
  return element("div", { class: "side" }, element("span", { class: "soft" }, name), element("div", { class: "prose" }, text ? render(text) : element("p", { class: "nothing" }, "(empty)")));
}
