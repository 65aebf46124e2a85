// Two replies side by side and the verdict on them. The order was drawn by the server; A is the left (or first) one.

import { sendFeedback } from "./api.js";
import { element } from "./dom.js";

export const VERDICT_KEYS = { KeyA: 0, KeyB: 1, KeyT: "tie", KeyX: "both_bad" };

/**
 * Build the verdict's row for `turn` (its replies are complete). `context` has rater, changed(), announce(text) and
 * judged() (called once the verdict is stored). Returns {node, judge(what)}, `what` being 0, 1, "tie" or "both_bad".
 */
export function verdictRow(turn, context) {
  const problem = element("p", { class: "problem", role: "alert", hidden: true });
  const labels = [[0, "A is better", "Alt+A"], ["tie", "Tie", "Alt+T"], ["both_bad", "Both bad", "Alt+X"], [1, "B is better", "Alt+B"]];
  const buttons = labels.map(([what, label, keys]) => element("button", {
    type: "button", class: `button${typeof what === "number" ? " pick" : ""}`, title: keys, on: { click: () => judge(what) },
  }, label));

  async function judge(what) {
    const verdict = typeof what === "number" ? turn.replies[what].id : what;
    problem.hidden = true;
    for (const button of buttons) button.disabled = true;
    try {
      await sendFeedback(context.rater, { comparison_id: turn.comparisonId, verdict });
    } catch (failure) {
      for (const button of buttons) button.disabled = false;
      problem.textContent = `This was not stored. ${failure.message}`;
      problem.hidden = false;
      return;
    }
    turn.verdict = verdict;
    turn.chosen = typeof what === "number" ? what : 0;
    context.changed();
    context.announce(typeof what === "number" ? `You chose ${"AB"[what]}.` : what === "tie" ? "A tie." : "Both bad.");
    context.judged();
  }

  const node = element("div", { class: "verdict", role: "group", "aria-label": "Which reply is better?" },
    element("p", { class: "label" }, "Which reply is better?"), element("div", { class: "verdict-row" }, buttons), problem);
  return { node, judge };
}

/** The line that stays after a verdict: what was said, and, while the turn is the last one, a way to take it back. */
export function verdictLine(turn, context, undoable) {
  const said = turn.verdict === "tie" ? "You said: a tie. A goes on." : turn.verdict === "both_bad" ? "You said: both bad. A goes on."
    : turn.verdict ? `You chose ${"AB"[turn.chosen]}.` : "Not judged. A goes on.";
  const problem = element("span", { class: "problem", role: "alert", hidden: true });
  const undo = undoable && turn.verdict && element("button", { type: "button", class: "button quiet small", on: { click: async () => {
    try {
      await sendFeedback(context.rater, { comparison_id: turn.comparisonId, verdict: null });
    } catch (failure) {
      problem.textContent = `This was not stored. ${failure.message}`;
      problem.hidden = false;
      return;
    }
    delete turn.verdict;
    delete turn.chosen;
    context.changed();
    context.announce("Your choice is taken back.");
    context.judged();
  } } }, "Change");
  return element("p", { class: "verdict-line" }, element("span", {}, said), undo, problem);
}
