// What is live, what people say, and what is missing until the next round.

import { get } from "./admin.js";
import { spoken } from "./chart.js";
import { element, fill } from "./dom.js";
import { badge, card, figure, onlyChanges, progress } from "./parts.js";
import { percent, wilson } from "./statistics.js";

const GROUPS = {
  common: "For every round",
  kto: "To learn from thumbs (KTO)",
  dpo: "To learn from choices (DPO)",
  sft: "To learn from better answers (SFT)",
  reward: "To train a reward model",
  ppo: "To learn by a reward model (PPO)",
  grpo: "To learn by a reward model (GRPO)",
};

export function overviewView(root) {
  const change = onlyChanges();
  const parts = [element("div"), element("div"), element("div")];
  return async () => {
    const [status, readiness] = await Promise.all([get("/v1/status"), get("/v1/readiness")]);
    if (!root.hasChildNodes()) fill(root, element("h1", {}, "Overview"), parts);
    change("figures", [status.live, status.counts], () => fill(parts[0], figures(status)));
    change("readiness", readiness, () => fill(parts[1], readinessCard(readiness)));
    const { serving_version: serving, serving_canary_version: canary, canary_share: share, loaded_versions: loaded, uptime_s: uptime, stopping } = status;
    change("server", [serving, canary, share, loaded, Math.floor(uptime / 60), stopping], () => fill(parts[2], serverCard(status)));
  };
}

function figures({ live, counts }) {
  const thumbs = counts.up + counts.down;
  const interval = wilson(counts.up, thumbs);
  return element("div", { class: "figures" },
    figure("Live version", live ? String(live.version) : "none", live && (live.adapter_sha256 ? `adapter ${live.adapter_sha256.slice(0, 8)}` : "the base model")),
    figure("Replies", counts.replies.toLocaleString("en"), `${counts.raters.toLocaleString("en")} raters`),
    figure("Thumbs", thumbs.toLocaleString("en"), `${counts.up.toLocaleString("en")} up, ${counts.down.toLocaleString("en")} down`),
    figure("Thumbs up", interval ? percent(counts.up / thumbs) : "–", interval ? `95 % interval ${(100 * interval[0]).toFixed(0)} to ${percent(interval[1])}` : "no thumbs yet"),
    figure("Comparisons judged", counts.verdicts.toLocaleString("en"), `${counts.ties} ties, ${counts.both_bad} both bad`),
    figure("Better answers", counts.corrections.toLocaleString("en"), "written by raters"));
}

function readinessCard(report) {
  const groups = Object.entries(report.requirements ?? {}).map(([group, requirements]) =>
    element("div", {}, element("h3", {}, GROUPS[group] ?? group), requirements.map(({ name, value, wanted }) =>
      progress(name, value, wanted, requirementWords(name, value, wanted)))));
  const words = report.reason ?? (report.reasons ?? []).join(", ");
  return card("The next round", element("p", {}, badge(report.ready ? "pass" : "inconclusive", report.ready ? "ready" : "not yet"), " ", words),
    groups.length > 0 && element("div", { class: "requirements" }, groups));
}

/** "12 of 200 thumbs"; a share is told in percent. */
function requirementWords(name, value, wanted) {
  return name.startsWith("share") ? `${percent(value)} of ${percent(wanted)} ${name}` : `${spoken(value)} of ${spoken(wanted)} ${name}`;
}

function serverCard({ serving_version: serving, serving_canary_version: canary, canary_share: share, loaded_versions: loaded, uptime_s: uptime, stopping }) {
  const inMemory = Object.entries(loaded).map(([version, flights]) => `version ${version} (${flights} under way)`).join(", ");
  const hours = Math.floor(uptime / 3600);
  const facts = [["New replies are of", serving ? `version ${serving}` : "no version yet"], ["In memory", inMemory || "nothing"],
    ...(canary ? [["Canary", `version ${canary}, ${percent(share ?? 0)} of the conversations`]] : []),
    ["Up for", hours ? `${hours} h ${Math.floor((uptime % 3600) / 60)} min` : `${Math.floor(uptime / 60)} min`], ["State", stopping ? "stopping" : "serving"]];
  return card("The server", element("dl", { class: "facts" }, facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)))));
}
