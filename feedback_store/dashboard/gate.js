// The gate's report as a table, and the replies that it drew, side by side.

import { spoken } from "./chart.js";
import { element } from "./dom.js";
import { render } from "./markdown.js";
import { badge, card, table } from "./parts.js";

const WORDS = { pass: "pass", fail: "fail", inconclusive: "too little evidence" };

export function gateCard(report, state) {
  if (!report) {
    const nothing = state === "gating" ? "The candidate is being judged." : "The gate has not judged this round.";
    return card("The gate", element("p", { class: "nothing" }, nothing));
  }
  const rows = (report.checks ?? []).map((check) => [
    element("span", {}, spokenName(check.name)), valueWithInterval(check), threshold(check),
    badge(check.verdict ?? check.outcome, WORDS[check.verdict ?? check.outcome]), element("span", { class: "wide" }, check.reason ?? ""),
  ]);
  const outcome = report.verdict ?? report.outcome;
  return card("The gate", element("p", {}, badge(outcome, WORDS[outcome]), " ", (report.reasons ?? []).join(" ")),
    table("The gate's checks", ["Measure", "Value (interval)", "Threshold", "Verdict", "Reason"], rows, "The report holds no checks."));
}

const spokenName = (name) => String(name).replaceAll("_", " ");

function valueWithInterval({ value, low, high, interval }) {
  const [from, to] = interval ?? [low, high];
  const known = from !== null && from !== undefined;
  return element("span", {}, spoken(value), known && element("span", { class: "interval" }, ` (${spoken(from)} to ${spoken(to)})`));
}

function threshold({ threshold: limit }) {
  return typeof limit === "number" ? spoken(limit) : String(limit ?? "–");
}

/** Replies of the live version and of the candidate to the same prompts, if the report holds any. */
export function samplesCard(report) {
  const samples = report?.samples ?? [];
  if (!samples.length) return null;
  return card("Before and after", element("div", { class: "samples" }, samples.map((sample) => element("div", { class: "sample" },
    sample.prompt && element("p", {}, sample.prompt),
    element("div", { class: "sides" }, side("Before (live)", sample.before), side("After (candidate)", sample.after))))));
}

function side(name, text) {
  return element("div", { class: "side" }, element("span", { class: "soft" }, name), element("div", { class: "prose" }, render(text ?? "")));
}
