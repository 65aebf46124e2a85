// All rounds, and asking for one.

import { get, post } from "./admin.js";
import { element, fill } from "./dom.js";
import { announce, ask, badge, card, onlyChanges, table, when } from "./parts.js";

export const ENDED = new Set(["published", "rejected", "failed", "cancelled"]);

export function roundsView(root) {
  const change = onlyChanges();
  return async () => {
    const { data } = await get("/v1/rounds");
    change("rounds", data, () => draw(data));
  };

  function draw(data) {
    const open = data.some((round) => !ENDED.has(round.state));
    const rows = data.map((round) => [
      element("a", { href: `#/rounds/${round.round_id}` }, `Round ${round.round_id}`), badge(round.state), (round.method ?? "auto").toUpperCase(),
      round.candidate_version ? `version ${round.candidate_version}` : "–", when(round.requested_at),
      element("span", { class: "wide" }, round.reason ?? ""),
    ]);
    fill(root, element("div", { class: "head" }, element("h1", {}, "Rounds"), element("div", { class: "buttons" },
      element("button", { type: "button", class: "button primary", disabled: open, title: open ? "A round is under way" : "", on: { click: askForRound } }, "Start a round"))),
    card("All rounds", table("Rounds", ["Round", "State", "Method", "Candidate", "Asked for", "Why it ended"], rows,
      "No round yet. One starts when there is enough feedback (see the overview) or when you start it.")));
  }
}

function askForRound() {
  ask({
    title: "Start a round", button: "Start",
    text: "It selects the feedback, trains a candidate, and lets the gate judge it. Chatting goes on meanwhile.",
    forceLabel: "Even if there is too little feedback",
    act: async (_, force) => {
      const round = await post("/v1/rounds", { method: null, force });
      announce(`Round ${round.round_id} is asked for.`);
      location.hash = `#/rounds/${round.round_id}`;
    },
  });
}
