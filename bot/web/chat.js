// The page's controller: one conversation on screen, one reply under way at most.

import { readConsent, streamReply, writeConsent } from "./api.js";
import { VERDICT_KEYS } from "./comparison.js";
import { element, fill, placeIcons } from "./dom.js";
import { showHistory, restoreFromServer } from "./history.js";
import { messagesOf, newConversation, forgetEverything, preference, raterId, saveConversation, savedConversations, setPreference } from "./session.js";
import { failedTurn, finishedTurn, growingTurn, userTurn } from "./turns.js";
import { say } from "./words.js";

const config = JSON.parse(document.documentElement.dataset.config);
const by = (id) => document.getElementById(id);
const message = by("message");
const NEAR_THE_END_PX = 80;
const TITLE_LENGTH = 60;

let rater = raterId();
let consent = null;
let conversation = newConversation();
let underWay = null; // {abort: AbortController} while a reply is being written
let failure = null; // why the last message has no reply
let lastActs = {}; // what the keyboard may do to the last reply: vote, judge
let compare = preference("compare") === "1";

// --- drawing -------------------------------------------------------------------------------------------------------

function contextOf(index) {
  return {
    rater,
    last: index === conversation.turns.length - 1,
    consented: () => consent === true,
    askConsent: openSettings,
    announce,
    changed: () => saveConversation(conversation),
    judged: () => {
      draw();
      message.focus();
    },
  };
}

function draw() {
  const nodes = conversation.turns.map((turn, index) => {
    if (turn.role === "user") return userTurn(turn);
    const { node, ...acts } = finishedTurn(turn, contextOf(index));
    if (index === conversation.turns.length - 1) lastActs = acts;
    return node;
  });
  if (failure) nodes.push(failedTurn(failure, () => answer()));
  if (conversation.turns.at(-1)?.role !== "assistant") lastActs = {};
  fill(by("turns"), nodes);
  by("empty").hidden = nodes.length > 0;
  by("conversation-title").textContent = conversation.title || say("New conversation");
  drawHistory();
}

function drawHistory() {
  showHistory(savedConversations(), conversation.id, open);
}

function drawBusy() {
  by("send").hidden = underWay !== null;
  by("stop").hidden = underWay === null;
  by("compare").setAttribute("aria-pressed", String(compare));
}

function announce(text) {
  by("announcer").textContent = text;
}

function scrollToEnd(force = false) {
  const log = by("log");
  if (force || log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_THE_END_PX) log.scrollTop = log.scrollHeight;
}

function growBox() {
  message.style.height = "auto";
  message.style.height = `${message.scrollHeight}px`;
}

// --- a turn --------------------------------------------------------------------------------------------------------

function send() {
  const text = message.value.trim();
  if (!text || underWay) return;
  settleComparison();
  conversation.turns.push({ role: "user", text });
  if (!conversation.title) conversation.title = text.replace(/\s+/g, " ").slice(0, TITLE_LENGTH);
  message.value = "";
  growBox();
  answer();
}

/** Writing on without a verdict is an answer too: the first reply goes on, and no verdict is stored. */
function settleComparison() {
  const turn = conversation.turns.at(-1);
  if (turn?.comparisonId && turn.verdict === undefined) turn.chosen = 0;
}

async function answer() {
  failure = null;
  const here = conversation;
  const pair = compare || Math.random() < config.compareShare;
  const turn = { role: "assistant", replies: Array.from({ length: pair ? 2 : 1 }, () => ({ id: null, text: "", finish: null, version: null })) };
  const abort = new AbortController();
  underWay = { abort };
  here.updatedAt = Date.now();
  saveConversation(here);
  draw();
  const growing = growingTurn(turn);
  by("turns").append(growing.node);
  drawBusy();
  scrollToEnd(true);
  announce(pair ? say("Two replies are being written.") : say("The reply is being written."));
  try {
    await receive(here, turn, growing, abort.signal, pair);
    here.turns.push(turn);
    announce(spoken(turn));
  } catch (problem) {
    if (problem.name === "AbortError") keepStopped(here, turn);
    else {
      if (here === conversation) failure = problem;
      if (!problem.status && problem.status !== 0) console.error(problem);
    }
  } finally {
    if (underWay?.abort === abort) underWay = null;
    saveConversation(here);
    if (here === conversation) {
      const wasAtEnd = by("log").scrollHeight - by("log").scrollTop - by("log").clientHeight < NEAR_THE_END_PX;
      draw();
      if (wasAtEnd) scrollToEnd(true);
    } else drawHistory();
    drawBusy();
  }
}

async function receive(here, turn, growing, signal, pair) {
  let frame = null;
  const show = () => {
    frame = null;
    growing.update();
    scrollToEnd();
  };
  const asked = { messages: messagesOf(here), rater, conversationId: here.id, compare: pair, signal };
  try {
    for await (const event of streamReply(asked)) {
      if (event.begun) turn.begun = event.begun;
      else if (event.receipt) takeReceipt(turn, event.receipt);
      else if (event.finish) turn.replies[event.index].finish = event.finish;
      else turn.replies[event.index].text += event.text;
      frame ??= requestAnimationFrame(show);
    }
  } finally {
    if (frame !== null) cancelAnimationFrame(frame);
  }
}

function takeReceipt(turn, { replyIds, comparisonId, policyVersions }) {
  delete turn.begun;
  replyIds.forEach((id, index) => Object.assign(turn.replies[index], { id, version: policyVersions[index] }));
  if (comparisonId) turn.comparisonId = comparisonId;
}

/** What was read before "stop" stays and goes on. A single reply may still be rated: the server keeps its part, under
    the id that it began with. Of two, only the first stays, and nobody can rate half a comparison. */
function keepStopped(here, turn) {
  announce(say("Stopped."));
  const [first] = turn.replies;
  const known = turn.replies.length === 1 && turn.begun ? { id: turn.begun.id, version: turn.begun.policyVersion } : {};
  if (first.text.trim()) here.turns.push({ role: "assistant", replies: [{ ...first, ...known, finish: "cancelled" }] });
  else {
    const asked = here.turns.pop(); // nothing came: give the words back
    if (here === conversation && !message.value) message.value = asked.text;
    if (!here.turns.length) here.title = "";
    growBox();
  }
}

function spoken(turn) {
  const texts = turn.replies.map((reply) => reply.text.trim() || say("an empty reply"));
  return texts.length > 1 ? say("Reply A: %(a)s Reply B: %(b)s", { a: texts[0], b: texts[1] }) : texts[0];
}

// --- conversations -------------------------------------------------------------------------------------------------

function startNew() {
  underWay?.abort.abort();
  conversation = newConversation();
  failure = null;
  draw();
  closeSide();
  message.focus();
}

async function open(id) {
  underWay?.abort.abort();
  const found = savedConversations().find((saved) => saved.id === id);
  if (!found) return;
  conversation = found;
  failure = null;
  draw();
  closeSide();
  scrollToEnd(true);
  message.focus();
}

// --- consent and settings ------------------------------------------------------------------------------------------

function drawConsent() {
  by("consent-switch").checked = consent === true;
  by("consent-notice").hidden = consent !== null;
}

async function giveConsent(given) {
  by("consent-problem").hidden = true;
  try {
    consent = await writeConsent(rater, given);
    announce(given ? say("Thank you. Your words are kept from now on.") : say("Your words are not kept."));
    if (!by("settings").open) message.focus(); // the button that was pressed is gone
  } catch (problem) {
    by("consent-problem").textContent = say("This was not stored. %(why)s", { why: problem.message });
    by("consent-problem").hidden = false;
    if (!by("settings").open) openSettings();
  }
  drawConsent();
}

async function loadConsent() {
  try {
    consent = await readConsent(rater);
  } catch {
    consent = null; // a new rater, or the server is away: nothing is kept without a yes
  }
  drawConsent();
  if (consent === true) {
    await restoreFromServer(rater).catch(() => {});
    drawHistory();
  }
}

function openSettings() {
  by("settings").showModal();
}

function forget() {
  underWay?.abort.abort();
  forgetEverything();
  rater = raterId();
  consent = null;
  compare = false;
  by("settings").close();
  startNew();
  drawBusy();
  drawConsent();
}

// --- narrow screens: the list of conversations slides in -------------------------------------------------------------

function openSide() {
  by("side").classList.add("open");
  by("backdrop").hidden = false;
  by("open-side").setAttribute("aria-expanded", "true");
  by("close-side").focus();
}

function closeSide() {
  const wasOpen = by("side").classList.contains("open");
  by("side").classList.remove("open");
  by("backdrop").hidden = true;
  by("open-side").setAttribute("aria-expanded", "false");
  if (wasOpen) by("open-side").focus();
}

// --- keyboard ------------------------------------------------------------------------------------------------------

function toggleCompare() {
  compare = !compare;
  setPreference("compare", compare ? "1" : null);
  drawBusy();
  announce(compare ? say("From now on you get two replies to choose from.") : say("From now on you get one reply."));
}

function onKey(event) {
  if (by("settings").open) return;
  if (event.key === "Escape") {
    if (by("side").classList.contains("open")) closeSide();
    else underWay?.abort.abort();
    return;
  }
  if (!event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  // By `code`, not `key`: on a Mac, Option and a letter type another character.
  const acts = {
    ArrowUp: () => lastActs.vote?.("up"),
    ArrowDown: () => lastActs.vote?.("down"),
    KeyC: toggleCompare,
    KeyN: startNew,
  };
  const act = event.code in VERDICT_KEYS ? () => lastActs.judge?.(VERDICT_KEYS[event.code]) : acts[event.code];
  if (!act || (underWay && event.code !== "KeyN" && event.code !== "KeyC")) return;
  event.preventDefault();
  act();
}

function listen() {
  by("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  message.addEventListener("keydown", (event) => {
    // isComposing: Enter that ends an input method's composition is not a message.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  message.addEventListener("input", growBox);
  document.addEventListener("keydown", onKey);
  const clicks = {
    stop: () => underWay?.abort.abort(), compare: toggleCompare,
    "new-conversation": startNew, "new-conversation-narrow": startNew,
    "open-side": openSide, "close-side": closeSide, backdrop: closeSide,
    "open-settings": openSettings, "consent-more": openSettings,
    "consent-yes": () => giveConsent(true), "consent-no": () => giveConsent(false), forget,
  };
  for (const [id, act] of Object.entries(clicks)) by(id).addEventListener("click", act);
  by("consent-switch").addEventListener("change", (event) => giveConsent(event.target.checked));
}

function main() {
  placeIcons(document);
  document.title = config.title;
  for (const place of document.querySelectorAll("[data-title]")) place.textContent = config.title;
  fill(by("examples"), config.examples.map((text) => element("li", {}, element("button", {
    type: "button", class: "example", on: { click: () => {
      message.value = text;
      send();
    } },
  }, text))));
  listen();
  draw();
  drawBusy();
  message.focus();
  loadConsent();
}

main();

// The words of the page come from the server, which keeps the choice in a cookie: conversations stay in this browser.
by("language").addEventListener("change", async () => {
  const body = new URLSearchParams({ language: by("language").value, back: "/" });
  await fetch("/language", { method: "POST", body, redirect: "manual" });
  location.reload();
});
