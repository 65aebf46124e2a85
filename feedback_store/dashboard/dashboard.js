// The dashboard's frame: the token, the address after "#", and one view at a time, drawn again as long as it is shown.

import { get, setToken, token } from "./admin.js";
import { element, fill } from "./dom.js";
import { feedbackView } from "./feedback.js";
import { overviewView } from "./overview.js";
import { announce } from "./parts.js";
import { roundView } from "./round.js";
import { roundsView } from "./rounds.js";
import { versionsView } from "./versions.js";

// Each view is a function of its root and parameter that returns refresh(), called at once and then every `everyMs`.
const VIEWS = {
  overview: { view: overviewView, title: "Overview", everyMs: 4000 },
  rounds: { view: roundsView, title: "Rounds", everyMs: 4000 },
  round: { view: roundView, title: "Round", everyMs: 2000 },
  versions: { view: versionsView, title: "Versions", everyMs: 4000 },
  feedback: { view: feedbackView, title: "Feedback", everyMs: 4000 },
};

const root = document.getElementById("view");
let shown = 0; // rises with every change of view: an answer to an older one is dropped

function address() {
  const [, name = "overview", parameter = null] = location.hash.split("/");
  if (name === "rounds" && parameter) return { name: "round", parameter };
  return { name: name in VIEWS ? name : "overview", parameter };
}

function show() {
  shown += 1;
  if (!token()) return signIn();
  const mine = shown;
  const { name, parameter } = address();
  const { view, title, everyMs } = VIEWS[name];
  document.title = `${title} · Thumbwise`;
  frame(true, name === "round" ? "rounds" : name);
  const problem = element("p", { class: "problem banner", role: "alert", hidden: true });
  const content = element("div", { class: "content" });
  fill(root, problem, content);
  const refresh = view(content, parameter);
  const loop = async () => {
    if (mine !== shown) return;
    try {
      if (!document.hidden || !content.hasChildNodes()) await refresh();
      problem.hidden = true;
    } catch (failure) {
      if (mine !== shown) return;
      if (failure.status === 401 || failure.status === 403) return signOut("This token is not accepted any more.");
      if (failure.status === undefined) console.error(failure);
      problem.textContent = `${failure.message} Trying again.`;
      problem.hidden = false;
    }
    setTimeout(loop, everyMs);
  };
  loop();
}

function frame(signedIn, current) {
  const nav = document.getElementById("nav");
  nav.hidden = !signedIn;
  document.getElementById("sign-out").hidden = !signedIn;
  for (const link of nav.children) {
    if (link.hash === `#/${current}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function signIn(why = "") {
  frame(false, null);
  document.title = "Thumbwise dashboard";
  const box = element("input", { type: "password", id: "token", autocomplete: "off", required: true, spellcheck: false });
  const problem = element("p", { class: "problem", role: "alert", hidden: !why }, why);
  fill(root, element("form", { class: "sign-in card", on: { submit: async (event) => {
    event.preventDefault();
    setToken(box.value.trim());
    try {
      await get("/v1/status");
      show();
    } catch (failure) {
      setToken(null);
      problem.textContent = failure.status === 401 || failure.status === 403 ? "This is not the admin token." : failure.message;
      problem.hidden = false;
      box.select();
    }
  } } }, element("h1", {}, "Dashboard"),
  element("label", { htmlFor: "token" }, "Admin token", box),
  element("p", { class: "soft" }, "It was printed when the server first started, and is in the file admin.token of its data folder. It stays in this tab only."),
  problem, element("button", { type: "submit", class: "button primary" }, "Sign in")));
  box.focus();
}

function signOut(why = "") {
  shown += 1;
  setToken(null);
  announce("Signed out.");
  signIn(why);
}

document.getElementById("sign-out").addEventListener("click", () => signOut());
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address after "#" is the view
  root.focus();
});
window.addEventListener("hashchange", () => {
  if (!token()) return;
  show();
  root.focus();
});
show();
