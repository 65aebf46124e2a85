// The list of earlier conversations: the browser's own, filled up with those that the server kept by consent.

import { listConversations, readConversation } from "./api.js";
import { element, fill } from "./dom.js";
import { saveConversation, savedConversations } from "./session.js";

/** Draw the list; `open(id)` is called on a click. */
export function showHistory(conversations, currentId, open) {
  fill(document.getElementById("history"), conversations.map((saved) => element("li", {}, element("button", {
    type: "button", class: "history-item", "aria-current": saved.id === currentId ? "page" : null,
    title: saved.title, on: { click: () => open(saved.id) },
  }, saved.title || "Untitled"))));
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
