// Two replies side by side and the verdict on them. The order was drawn by the server; A is the left (or first) one.

import { sendFeedback } from "./api.js";
import { element } from "./dom.js";
import { say } from "./words.js";

export const VERDICT_KEYS = { KeyA: 0, KeyB: 1, KeyT: "tie", KeyX: "both_bad" };

/**
 * Build the verdict's row for `turn` (its replies are complete). `context` has rater, changed(), announce(text) and
 * judged() (called once the verdict is stored). Returns {node, judge(what)}, `what` being 0, 1, "tie" or "both_bad".
 */
export function verdictRow(turn, context) {
  const problem = element("p", { class: "problem", role: "alert", hidden: true });
  const labels = [[0, say("A is better"), "Alt+A"], ["tie", say("Tie"), "Alt+T"], ["both_bad", say("Both bad"), "Alt+X"], [1, say("B is better"), "Alt+B"]];
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
      problem.textContent = say("This was not stored. %(why)s", { why: failure.message });
      problem.hidden = false;
      return;
    }
    turn.verdict = verdict;
    turn.chosen = typeof what === "number" ? what : 0;
    context.changed();
    context.announce(typeof what === "number" ? say("You chose %(which)s.", { which: "AB"[what] }) : what === "tie" ? say("A tie.") : say("Both bad."));
    context.judged();
  }

  const node = element("div", { class: "verdict", role: "group", "aria-label": say("Which reply is better?") },
    element("p", { class: "label" }, say("Which reply is better?")), element("div", { class: "verdict-row" }, buttons), problem);
  return { node, judge };
}

/** The line that stays after a verdict: what was said, and, while the turn is the last one, a way to take it back. */
export function verdictLine(turn, context, undoable) {
  const said = turn.verdict === "tie" ? say("You said: a tie. A goes on.") : turn.verdict === "both_bad" ? say("You said: both bad. A goes on.")
    : turn.verdict ? say("You chose %(which)s.", { which: "AB"[turn.chosen] }) : say("Not judged. A goes on.");
  const problem = element("span", { class: "problem", role: "alert", hidden: true });
  const undo = undoable && turn.verdict && element("button", { type: "button", class: "button quiet small", on: { click: async () => {
    try {
      await sendFeedback(context.rater, { comparison_id: turn.comparisonId, verdict: null });
    } catch (failure) {
      problem.textContent = say("This was not stored. %(why)s", { why: failure.message });
      problem.hidden = false;
      return;
    }
    delete turn.verdict;
    delete turn.chosen;
    context.changed();
    context.announce(say("Your choice is taken back."));
    context.judged();
  } } }, say("Change"));
  return element("p", { class: "verdict-line" }, element("span", {}, said), undo, problem);
}
