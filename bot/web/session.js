// What this browser remembers: the random rater id, small preferences, and the conversations (each under its own key,
// so that two tabs never overwrite each other's). Everything works without storage; it then lasts as long as the page.

const PREFIX = "thumbwise.";
const CONVERSATION = `${PREFIX}conversation.`;
const KEPT_CONVERSATIONS = 60;

const memory = new Map();

function read(key) {
  try {
    return localStorage.getItem(key) ?? memory.get(key) ?? null;
  } catch {
    return memory.get(key) ?? null;
  }
}

function write(key, value) {
  try {
    localStorage.setItem(key, value);
    memory.delete(key);
  } catch {
    memory.set(key, value); // storage is off or full
  }
}

function remove(key) {
  memory.delete(key);
  try {
    localStorage.removeItem(key);
  } catch {
    // storage is off: nothing was there
  }
}

function keys() {
  try {
    return [...new Set([...Object.keys(localStorage), ...memory.keys()])];
  } catch {
    return [...memory.keys()];
  }
}

/** A random 128-bit number in hex: the only name that the server ever gets for this person. */
export function raterId() {
  let id = read(`${PREFIX}rater`);
  if (!/^[0-9a-f]{32}$/.test(id ?? "")) {
    id = randomId();
    write(`${PREFIX}rater`, id);
  }
  return id;
}

export function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const preference = (name) => read(PREFIX + name);
export const setPreference = (name, value) => (value === null ? remove(PREFIX + name) : write(PREFIX + name, value));

/**
 * A conversation: {id, title, updatedAt, turns}. A turn is {role: "user", text} or {role: "assistant", replies: [reply],
 * chosen, comparisonId, verdict}; a reply is {id, text, finish, version, thumb, reason, correction}. `verdict` is
 * undefined (not given), a reply id, "tie" or "both_bad"; `chosen` is the index of the reply that goes on.
 */
export function newConversation() {
  return { id: `web-${randomId()}`, title: "", updatedAt: Date.now(), turns: [] };
}

export function saveConversation(conversation) {
  if (!conversation.turns.length) return;
  write(CONVERSATION + conversation.id, JSON.stringify(conversation));
  for (const old of savedConversations().slice(KEPT_CONVERSATIONS)) remove(CONVERSATION + old.id);
}

export function savedConversations() {
  const found = keys().filter((key) => key.startsWith(CONVERSATION)).map((key) => parsed(read(key)));
  return found.filter(Boolean).sort((a, b) => b.updatedAt - a.updatedAt);
}

function parsed(text) {
  try {
    const value = JSON.parse(text);
    return Array.isArray(value?.turns) ? value : null;
  } catch {
    return null; // written by another release or by hand: leave it out
  }
}

/** Remove all that this page has put into the browser. */
export function forgetEverything() {
  for (const key of keys()) if (key.startsWith(PREFIX)) remove(key);
}

/**
 * The messages that the model gets: of a comparison only the reply that goes on. A message that never got a reply is
 * joined with the next one, because some chat templates refuse two user messages in a row.
 */
export function messagesOf(conversation) {
  const messages = [];
  for (const turn of conversation.turns) {
    if (turn.role === "assistant") messages.push({ role: "assistant", content: turn.replies[turn.chosen ?? 0].text });
    else if (messages.at(-1)?.role === "user") messages.at(-1).content += `\n\n${turn.text}`;
    else messages.push({ role: "user", content: turn.text });
  }
  return messages;
}
