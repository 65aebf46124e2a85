// The public /v1 API, as the page uses it. Every failure becomes an ApiError that carries what a person can be told.

import { randomId } from "./session.js";
import { say } from "./words.js";

export class ApiError extends Error {
  constructor(message, { status = 0, code = null, retryAfterS = null, param = null } = {}) {
    super(message);
    Object.assign(this, { status, code, retryAfterS, param });
  }
}

const CHANNEL = "web";
const RETRY_ONCE_AFTER_MS = 700;
// 404 too: of a reply that was stopped, the row is written a moment after the click on "stop".
const WORTH_A_RETRY = new Set([0, 404, 503]);

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, credentials: "omit", cache: "no-store" });
  } catch (failure) {
    if (failure.name === "AbortError") throw failure;
    throw new ApiError(say("The server cannot be reached. Check that it is running and that you are online."));
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function errorOf(response) {
  let told = {};
  try {
    told = (await response.json()).error ?? {};
  } catch {
    // not JSON: a proxy's page, say; the status is all we know
  }
  const retryAfterS = Number.parseFloat(response.headers.get("retry-after") ?? "") || null;
  return new ApiError(plainWords(response.status, told), {
    status: response.status, code: told.code ?? null, param: told.param ?? null, retryAfterS,
  });
}

function plainWords(status, told) {
  if (told.code === "too_many_votes") return say("You have rated a lot in a short time. Wait a moment, then go on.");
  if (status === 429) return say("Many people are writing right now, and the queue is full.");
  if (status === 503) return say("The model is not ready: it is loading or the server is stopping.");
  if (told.code === "context_length_exceeded") return say("This conversation has become too long for the model. Please start a new one.");
  if (status === 413) return say("That is too much text for one message.");
  if (status >= 500) return say("Something went wrong on the server. It is not your fault.");
  return told.message ? say("The server refused this: %(message)s", { message: told.message }) : say("The server refused this (%(status)s).", { status });
}

const json = (method, body, headers = {}) => ({
  method, body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...headers },
});

/**
 * Ask for a reply (two when `compare`) and yield what arrives: {begun: {id, policyVersion}}, {text, index},
 * {finish, index} and at the end {receipt: {replyIds, comparisonId, policyVersions}}, one of each a reply; no ids when the reply could not be
 * stored. Throws ApiError, or AbortError after `signal`.
 */
export async function* streamReply({ messages, rater, conversationId, compare, signal }) {
  const body = {
    messages, user: rater, stream: true,
    metadata: { channel: CHANNEL, conversation_id: conversationId, ...(compare ? { compare: true } : {}) },
    ...(compare ? { n: 2 } : {}),
  };
  const response = await request("/v1/chat/completions", { ...json("POST", body), signal });
  const version = Number(response.headers.get("x-policy-version")) || null;
  let complete = false;
  let begun = false;
  for await (const event of serverSentEvents(response.body)) {
    if (event === "[DONE]") {
      complete = true;
      break;
    }
    const chunk = JSON.parse(event);
    if (chunk.error) throw new ApiError(plainWords(chunk.error.code === "queue_full" ? 429 : 500, chunk.error), { status: 500 });
    if (!begun) yield { begun: { id: chunk.id, policyVersion: version } };
    begun = true;
    for (const choice of chunk.choices ?? []) {
      if (choice.delta?.content) yield { index: choice.index, text: choice.delta.content };
      if (choice.finish_reason) yield { index: choice.index, finish: choice.finish_reason };
    }
    if (chunk.thumbwise) {
      const { reply_ids: replyIds, comparison_id: comparisonId = null, policy_versions: policyVersions } = chunk.thumbwise;
      yield { receipt: { replyIds, comparisonId, policyVersions } };
    }
  }
  if (!complete) throw new ApiError(say("The connection broke off before the reply was complete."));
}

async function* serverSentEvents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  } catch (failure) {
    if (failure.name === "AbortError") throw failure;
    throw new ApiError(say("The connection broke off before the reply was complete."));
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Acts on one target go out one after the other, in the order of the clicks: the last click must be the last event.
const lanes = new Map();

function inOrder(target, act) {
  const turn = (lanes.get(target) ?? Promise.resolve()).catch(() => {}).then(act);
  lanes.set(target, turn);
  return turn;
}

/** Store one act of feedback. The same Idempotency-Key goes out again after a lost answer, so nothing counts twice. */
export function sendFeedback(rater, act) {
  const options = json("POST", { rater, channel: CHANNEL, ...act }, { "Idempotency-Key": randomId() });
  return inOrder(act.reply_id ?? act.comparison_id, async () => {
    try {
      return await (await request("/v1/feedback", options)).json();
    } catch (failure) {
      if (!WORTH_A_RETRY.has(failure.status)) throw failure;
      await new Promise((resolve) => setTimeout(resolve, RETRY_ONCE_AFTER_MS));
      return await (await request("/v1/feedback", options)).json();
    }
  });
}

const whose = (rater) => `rater=${encodeURIComponent(rater)}&channel=${CHANNEL}`;

/** The rater's consent: true, false or null (never asked, or the text has changed since). */
export async function readConsent(rater) {
  const { consent, version, current_version: current } = await (await request(`/v1/consent?${whose(rater)}`)).json();
  return consent && version < current ? null : consent;
}

export async function writeConsent(rater, given) {
  return (await (await request("/v1/consent", json("POST", { rater, channel: CHANNEL, given }))).json()).consent;
}

export async function listConversations(rater) {
  return (await request(`/v1/conversations?${whose(rater)}`)).json();
}

export async function readConversation(rater, id) {
  return (await request(`/v1/conversations/${encodeURIComponent(id)}?${whose(rater)}`)).json();
}
