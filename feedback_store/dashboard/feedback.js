// The latest acts of raters; the reply that one is about opens on demand.

import { get } from "./admin.js";
import { element, fill } from "./dom.js";
import { render } from "./markdown.js";
import { badge, card, onlyChanges, table, when } from "./parts.js";

export function feedbackView(root) {
  const change = onlyChanges();
  const place = element("div", { class: "opened" });
  const latest = element("div");
  return async () => {
    const { data } = await get("/v1/feedback/recent?limit=50");
    if (!root.hasChildNodes()) fill(root, element("h1", {}, "Feedback"), place, latest);
    change("acts", data, () => draw(data));
  };

  function draw(data) {
    fill(latest, card("Latest", table("Latest feedback", ["When", "Act", "Said", "Channel", "Rater", ""],
      data.map((act) => [when(act.created_at), act.kind, said(act), act.channel, element("span", { class: "mono", title: "A keyed hash, never a name" }, act.rater_id.slice(0, 8)),
        act.reply_id && element("button", { type: "button", class: "button", on: { click: () => showReply(place, act.reply_id) } }, "Reply")]),
      "Nobody has rated a reply yet.")));
  }
}

function said(act) {
  if (act.kind === "thumb") {
    return element("span", { class: "wide" }, act.thumb ? badge(act.thumb) : badge("", "taken back"), act.reason && ` ${act.reason.replaceAll("_", " ")}`);
  }
  if (act.kind === "verdict") {
    return { tie: "tie", both_bad: "both bad" }[act.verdict] ?? (act.verdict ? `chose ${act.verdict.slice(-10)}` : badge("", "taken back"));
  }
  if (act.kind === "correction") return element("span", { class: "wide" }, act.correction ?? "");
  return (act.ranking ?? []).map((id) => id.slice(-6)).join(" > ");
}

async function showReply(place, id) {
  let reply;
  try {
    reply = await get(`/v1/replies/${encodeURIComponent(id)}`);
  } catch (failure) {
    fill(place, element("p", { class: "problem", role: "alert" }, failure.message));
    return;
  }
  const prompt = reply.messages?.findLast((message) => message.role === "user")?.content;
  fill(place, card(`Reply of version ${reply.policy_version}`,
    element("p", { class: "soft mono" }, reply.reply_id),
    element("div", { class: "sides" },
      element("div", { class: "side" }, element("span", { class: "soft" }, "Asked"), element("p", {}, prompt ?? "Not kept: the rater has not agreed to it.")),
      element("div", { class: "side" }, element("span", { class: "soft" }, "Replied"),
        element("div", { class: "prose" }, reply.text === null ? element("p", {}, "Not kept.") : render(reply.text)))),
    element("div", { class: "buttons" }, element("button", { type: "button", class: "button quiet", on: { click: () => fill(place) } }, "Close"))));
  place.scrollIntoView({ block: "nearest" });
}
