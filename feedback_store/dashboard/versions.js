// Versions with their lineage, and moving the live pointer: always with a typed reason, and against the version that
// was seen live, so that a stale page or a double click moves nothing.

import { get, post } from "./admin.js";
import { element, fill } from "./dom.js";
import { announce, ask, badge, card, onlyChanges, table, when } from "./parts.js";
import { percent } from "./statistics.js";

export function versionsView(root) {
  const change = onlyChanges();
  return async () => {
    const [{ data: versions }, { data: deployments }] = await Promise.all([get("/v1/versions"), get("/v1/deployments?limit=30")]);
    change("all", [versions, deployments], () => draw(versions, deployments));
  };

  function draw(versions, deployments) {
    const live = versions.find((version) => version.state === "live");
    const newestFirst = [...versions].sort((a, b) => b.version - a.version);
    fill(root,
      element("div", { class: "head" }, element("h1", {}, "Versions"), element("div", { class: "buttons" },
        element("button", { type: "button", class: "button danger", disabled: !canRollBack(deployments), on: { click: () => rollBack(live) } }, "Roll back"))),
      card("All versions", table("Versions", ["Version", "State", "Made from", "Method", "Gate", "Adapter", "Made", ""],
        newestFirst.map((version) => row(version, live)), "No version is known yet.")),
      card("Moves of the live pointer and of the canary", table("Moves", ["When", "Act", "Version", "By", "Reason"], deployments.map((move) => [
        when(move.at), actWords(move), lineage(move), move.actor, element("span", { class: "wide" }, move.reason)]), "Nothing has moved yet.")));
  }
}

const canRollBack = (deployments) => deployments.some(({ action }) => action === "promote" || action === "rollback");

const ACTS = { rollback: "roll back", canary_stop: "stop canary" };

function actWords({ action, forced, share }) {
  return (ACTS[action] ?? action) + (forced ? " (forced)" : "") + (share == null ? "" : ` (${percent(share)})`);
}

function lineage({ action, from_version: from, version }) {
  if (!from) return String(version);
  return action.startsWith("canary") ? `${version} beside ${from}` : `${from} → ${version}`;
}

function row(version, live) {
  const gate = version.gate_report?.outcome;
  return [
    element("strong", {}, String(version.version)), badge(version.state),
    version.parent ? element("span", {}, `version ${version.parent}`, version.round_id && [" by ", element("a", { href: `#/rounds/${version.round_id}` }, `round ${version.round_id}`)]) : "the base model",
    version.method?.toUpperCase() ?? "–", gate ? badge(gate) : "–",
    element("span", { class: "mono", title: version.adapter_sha256 ?? "" }, version.adapter_sha256?.slice(0, 12) ?? "–"), when(version.created_at),
    version.state !== "live" && element("button", { type: "button", class: "button", on: { click: () => promote(version, live) } }, "Promote"),
  ];
}

function promote(version, live) {
  // Also one that was forced before: its state has moved on, its gate has not.
  const rejected = version.state === "rejected" || ["fail", "inconclusive"].includes(version.gate_report?.outcome);
  ask({
    title: `Promote version ${version.version}?`, button: "Promote", reasonLabel: "Why",
    text: `New replies will be of version ${version.version} within a second; replies under way end on their own version.` +
      (rejected ? " Its gate did not pass it." : ""),
    forceLabel: rejected ? "Although its gate did not pass it" : null,
    act: async (reason, force) => {
      await post(`/v1/versions/${version.version}/promote`, { reason, force, expected_live: live?.version ?? null });
      announce(`Version ${version.version} is live.`);
    },
  });
}

function rollBack(live) {
  ask({
    title: "Roll back?", button: "Roll back", danger: true, reasonLabel: "Why",
    text: `Version ${live.version} is live. The version that was live before it comes back within a second.`,
    act: async (reason) => {
      const { version } = await post("/v1/rollback", { reason, expected_live: live.version });
      announce(`Version ${version} is live again.`);
    },
  });
}
