// One round: where it stands, its live curves, the gate's report, and replies before and after.

import { get, post } from "./admin.js";
import { lineChart } from "./chart.js";
import { element, fill } from "./dom.js";
import { gateCard, examplesCard } from "./gate.js";
import { announce, ask, badge, card, onlyChanges, sentence, when } from "./parts.js";
import { ENDED } from "./rounds.js";

// The curves that tell most come first; one that is not named here comes last.
const CURVES = ["loss", "reward_margin", "accuracy", "kl_nats", "reward_up", "reward_down", "entropy_nats", "grad_norm", "learning_rate", "tokens_per_s"];
const STEPS = ["requested", "selecting", "training", "gating", "published"];

export function roundView(root, id) {
  const head = element("div");
  const progress = element("progress", { max: 1, value: 0, hidden: true, "aria-label": "How far the training is" });
  const curves = card("Live curves", progress, element("p", { class: "nothing" }, "The first point comes with the first training step."));
  const charts = element("div", { class: "charts" });
  const byName = new Map();
  const report = element("div", { class: "content" });
  const onChange = onlyChanges();
  fill(root, head, curves, report);

  return async () => {
    const [round, metrics] = await Promise.all([get(`/v1/rounds/${encodeURIComponent(id)}`), get(`/v1/rounds/${encodeURIComponent(id)}/metrics`)]);
    onChange("head", round, () => fill(head, headOf(round)));
    onChange("report", round.gate_report, () => fill(report, gateCard(round.gate_report, round.state), examplesCard(round.gate_report)));
    onChange("metrics", metrics.data, () => drawCurves(metrics.data));
  };

  function drawCurves(points) {
    const series = grouped(points);
    const place = (name) => (CURVES.includes(name) ? CURVES.indexOf(name) : CURVES.length);
    const done = series.get("progress");
    progress.hidden = !done;
    if (done) progress.value = Math.max(...done.map((point) => point.value));
    series.delete("progress");
    for (const [name, found] of [...series].sort(([one], [other]) => place(one) - place(other))) {
      if (!byName.has(name)) {
        byName.set(name, lineChart(sentence(name)));
        charts.append(byName.get(name).node);
        if (!charts.isConnected) curves.lastChild.replaceWith(charts);
      }
      byName.get(name).update(found.sort((a, b) => a.step - b.step).map((point) => [point.step, point.value]));
    }
  }
}

function grouped(points) {
  const groups = new Map();
  for (const point of points) groups.set(point.name, [...(groups.get(point.name) ?? []), point]);
  return groups;
}

function headOf(round) {
  const open = !ENDED.has(round.state);
  const facts = [
    ["Method", (round.method ?? "auto").toUpperCase()], ["Asked for by", round.requested_by], ["Asked for", when(round.requested_at)],
    ["Begun", when(round.started_at)], ["Ended", when(round.ended_at)],
    ["Trained from", round.reference_version ? `version ${round.reference_version}` : "–"],
    ["Candidate", round.candidate_version ? `version ${round.candidate_version}` : "–"],
    ...Object.entries(round.selection ?? {}).filter(([, value]) => typeof value !== "object").map(([name, value]) => [sentence(name), String(value)]),
  ];
  return element("div", { class: "content" },
    element("div", { class: "head" }, element("h1", {}, `Round ${round.round_id}`), badge(round.state),
      open && element("div", { class: "buttons" }, element("button", { type: "button", class: "button danger", on: { click: () => cancel(round) } }, "Cancel the round"))),
    open && element("ol", { class: "steps", "aria-label": "Where the round stands" }, STEPS.map((step) =>
      element("li", { "aria-current": step === round.state ? "step" : null }, step))),
    round.reason && element("p", {}, round.reason),
    card("Facts", element("dl", { class: "facts" }, facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))))));
}

function cancel(round) {
  ask({
    title: `Cancel round ${round.round_id}?`, button: "Cancel the round", danger: true,
    text: "The training stops at its next step. Nothing of it goes live; the feedback stays for another round.",
    act: async () => {
      await post(`/v1/rounds/${round.round_id}/cancel`);
      announce(`Round ${round.round_id} is cancelled.`);
    },
  });
}
