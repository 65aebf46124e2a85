// The list of earlier conversations: the browser's own, filled up with those that the server kept by consent.

import { listConversations, readConversation } from "./api.js";
import { element, fill } from "./dom.js";
import { saveConversation, savedConversations } from "./session.js";
import { say } from "./words.js";

/** Draw the list; `open(id)` is called on a click. */
export function showHistory(conversations, currentId, open) {
  fill(document.getElementById("history"), conversations.map((saved) => element("li", {}, element("button", {
    type: "button", class: "history-item", "aria-current": saved.id === currentId ? "page" : null,
    title: saved.title, on: { click: () => open(saved.id) },
  }, saved.title || say("Untitled")))));
  document.getElementById("no-history").hidden = conversations.length > 0;
}

/** Bring back what this browser no longer has (it keeps a limited number). Called only with consent. */
export async function restoreFromServer(rater) {
  const here = new Set(savedConversations().map((saved) => saved.id));
  const { data } = await listConversations(rater);
  for (const { conversation_id: id } of data) {
    if (!here.has(id)) saveConversation(fromServer(await readConversation(rater, id)));
  }
}

/** Build turns from the server's history: [{reply_id, comparison_id, shown_position, messages, text, …}], oldest first. */
export function fromServer({ conversation_id: id, replies }) {
  const groups = new Map();
  for (const reply of replies) {
    if (reply.text === null || reply.messages === null) continue; // written before consent was given
    const key = reply.comparison_id ?? reply.reply_id;
    groups.set(key, [...(groups.get(key) ?? []), reply].sort((a, b) => a.shown_position - b.shown_position));
  }
  const turns = [];
  for (const group of groups.values()) {
    const said = group[0].messages.filter((message) => message.role !== "system");
    // The first one brings whatever came before it; of the later ones only the question is new.
    for (const message of turns.length ? said.slice(-1) : said) {
      turns.push(message.role === "user" ? { role: "user", text: message.content }
        : { role: "assistant", replies: [{ id: null, text: message.content, finish: "cancelled" }] });
    }
    turns.push(assistantTurn(group));
  }
  const first = turns.find((turn) => turn.role === "user");
  const updatedAt = Date.parse(replies.at(-1)?.created_at ?? "") || 0;
  return { id, title: (first?.text ?? "").replace(/\s+/g, " ").slice(0, 60), updatedAt, turns };
}

function assistantTurn(group) {
  const replies = group.map((reply) => ({
    id: reply.reply_id, text: reply.text, finish: reply.finish_reason, version: reply.policy_version,
    thumb: reply.thumb, reason: reply.reason, correction: reply.correction,
  }));
  const [{ comparison_id: comparisonId, verdict }] = group;
  if (!comparisonId) return { role: "assistant", replies };
  const chosen = Math.max(0, replies.findIndex((reply) => reply.id === verdict));
  return { role: "assistant", replies, comparisonId, chosen, ...(verdict ? { verdict } : {}) };
}
