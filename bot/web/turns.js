// From turns to nodes. A turn under way is drawn again on every frame; a finished one only when it changes.

import { verdictLine, verdictRow } from "./comparison.js";
import { element, fill } from "./dom.js";
import { render } from "./markdown.js";
import { ratingRow } from "./rating.js";
import { say } from "./words.js";

const ENDS = {
  length: say("The reply reached the length limit and was cut off."),
  cancelled: say("Stopped."),
};

export function userTurn(turn) {
  return element("li", { class: "turn user" }, element("h2", { class: "only-read" }, say("You")), element("p", { class: "said" }, turn.text));
}

/** A turn that is being written: `update()` draws what has come so far. */
export function growingTurn(turn) {
  const bodies = turn.replies.map(() => element("div", { class: "prose waiting", "aria-busy": "true" }));
  const columns = bodies.map((body, index) => turn.replies.length > 1 ? card(index, body) : body);
  const node = element("li", { class: "turn assistant" }, element("h2", { class: "only-read" }, say("Reply")),
    turn.replies.length > 1 ? element("div", { class: "pair" }, columns) : columns);
  return {
    node,
    update() {
      turn.replies.forEach((reply, index) => {
        fill(bodies[index], render(reply.text));
        bodies[index].classList.toggle("waiting", !reply.finish);
        bodies[index].setAttribute("aria-busy", String(!reply.finish));
      });
    },
  };
}

function card(index, ...content) {
  const name = "AB"[index];
  return element("section", { class: "card", "aria-label": say("Reply %(name)s", { name }) }, element("span", { class: "card-name", "aria-hidden": "true" }, name), content);
}

/**
 * A finished turn with its rating or verdict. `context` is as in rating.js and comparison.js, with `last` (the turn may
 * still be judged). Returns {node, vote?, judge?}: what the keyboard may do.
 */
export function finishedTurn(turn, context) {
  const heading = element("h2", { class: "only-read" }, say("Reply"));
  if (turn.comparisonId && turn.verdict === undefined && context.last) {
    const row = verdictRow(turn, context);
    const cards = turn.replies.map((reply, index) => card(index, prose(reply), ending(reply)));
    return { node: element("li", { class: "turn assistant" }, heading, element("div", { class: "pair" }, cards), row.node), judge: row.judge };
  }
  const reply = turn.replies[turn.chosen ?? 0];
  const rating = reply.id ? ratingRow(reply, context) : null;
  const other = turn.comparisonId ? turn.replies[1 - (turn.chosen ?? 0)] : null;
  const node = element("li", { class: "turn assistant" }, heading, prose(reply), ending(reply), rating?.node,
    other && verdictLine(turn, context, context.last),
    other && element("details", { class: "other" }, element("summary", {}, say("Show the other reply")), prose(other)));
  return { node, vote: rating?.vote };
}

function prose(reply) {
  return element("div", { class: "prose" }, reply.text.trim() ? render(reply.text) : element("p", { class: "nothing" }, "(an empty reply)"));
}

function ending(reply) {
  const words = [ENDS[reply.finish], !reply.id && reply.finish !== "cancelled" && say("It cannot be rated: the store was away when it was written.")];
  const said = words.filter(Boolean).join(" ");
  return said && element("p", { class: "ending" }, said);
}

/** The failure of a turn in plain words, with a way on; counts down when the server said how long to wait. */
export function failedTurn(failure, retry) {
  const button = element("button", { type: "button", class: "button", on: { click: retry } }, say("Try again"));
  const until = Date.now() + (failure.retryAfterS ?? 0) * 1000;
  const tick = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    button.disabled = left > 0;
    button.textContent = left > 0 ? say("Try again in %(left)s s", { left }) : say("Try again");
    if (left > 0) setTimeout(tick, 250);
  };
  tick();
  const retryable = failure.status === 0 || failure.status === 429 || failure.status >= 500;
  return element("li", { class: "turn failure", role: "alert" }, element("p", {}, failure.message), retryable && button);
}
