// Ranking by keys or by dragging, each step saved as it happens. The form is the whole state: what is sent at the end is
// what was saved on the way, so a browser that dies, and another device, go on from the last step.

const PAUSE_MS = 400; // of typing a note, before it is saved
const AGAIN_MS = 3000;
const LETTERS = "ABCD";

export function annotate() {
  const form = document.querySelector("form[data-label]");
  if (!form) return;
  const saver = saving(form);

  form.addEventListener("submit", (event) => {
    const { name, value } = event.submitter ?? {};
    if (name === "pick") setOrder(form, [...order(form), Number(value)]);
    else if (name === "unpick") setOrder(form, order(form).slice(0, -1));
    else if (name === "judge") setVerdict(form, form.elements.verdict.value === value ? "" : value);
    else if (name === "action" && !("ready" in form.dataset)) {
      // What is under way comes first: the end must name the revision that it has seen.
      event.preventDefault();
      const submitter = event.submitter;
      saver.rest().then((well) => {
        if (!well) return;
        form.dataset.ready = "";
        form.requestSubmit(submitter);
      });
      return;
    } else return;
    event.preventDefault();
    saver.soon(0);
  });
  form.addEventListener("change", (event) => { if (event.target.name === "reasons") saver.soon(0); });
  form.addEventListener("input", (event) => { if (event.target.name === "note") saver.soon(PAUSE_MS); });
  window.addEventListener("pagehide", () => saver.leave());
  dragging(form, saver);
  draw(form);
}

const order = (form) => [...form.querySelectorAll("[name=ranked]")].map((field) => Number(field.value));

function setOrder(form, places) {
  const holder = form.querySelector("[data-ranked]");
  holder.replaceChildren(...places.map((place) => Object.assign(document.createElement("input"), { type: "hidden", name: "ranked", value: place })));
  form.elements.verdict.value = "";
  draw(form);
}

function setVerdict(form, verdict) {
  if (verdict) form.querySelector("[data-ranked]").replaceChildren();
  form.elements.verdict.value = verdict;
  draw(form);
}

/** Show the form's state: places on the replies, the order below, which buttons still say something. */
function draw(form) {
  const places = order(form);
  const cards = [...form.querySelectorAll("[data-candidate]")];
  for (const card of cards) {
    const at = places.indexOf(Number(card.dataset.candidate));
    const word = at === 0 ? ` ${form.dataset.best}` : at === cards.length - 1 ? ` ${form.dataset.worst}` : "";
    card.querySelector("[data-shown-place]").textContent = at < 0 ? "" : `${at + 1}.${word}`;
    if (at < 0) delete card.dataset.place;
    else card.dataset.place = at + 1;
    card.querySelector("[name=pick]").disabled = at >= 0;
  }
  for (const slot of form.querySelectorAll("[data-slot]")) {
    const place = places[Number(slot.dataset.slot)];
    slot.classList.toggle("taken", place !== undefined);
    slot.draggable = place !== undefined;
    slot.querySelector("[data-letter]").textContent = place === undefined ? "" : LETTERS[place];
  }
  const verdict = form.elements.verdict.value;
  for (const choice of form.querySelectorAll("[name=judge]")) choice.setAttribute("aria-pressed", String(choice.value === verdict));
  form.querySelector("[name=unpick]").disabled = places.length === 0;
  form.querySelector("[data-finish]").disabled = !verdict && places.length < cards.length - 1;
}

function dragging(form, saver) {
  let held = null;
  form.addEventListener("dragstart", (event) => {
    const slot = event.target.closest?.("[data-slot].taken");
    const card = event.target.closest?.("[data-candidate]");
    held = slot ? order(form)[Number(slot.dataset.slot)] : card ? Number(card.dataset.candidate) : null;
    if (held === null) return;
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", LETTERS[held]);
    card?.classList.add("dragged");
  });
  form.addEventListener("dragover", (event) => {
    const slot = event.target.closest?.("[data-slot]");
    for (const other of form.querySelectorAll(".slot.over")) if (other !== slot) other.classList.remove("over");
    if (held === null || !slot) return;
    event.preventDefault();
    slot.classList.add("over");
  });
  form.addEventListener("drop", (event) => {
    const slot = event.target.closest?.("[data-slot]");
    if (held === null || !slot) return;
    event.preventDefault();
    const places = order(form).filter((place) => place !== held);
    places.splice(Number(slot.dataset.slot), 0, held);
    setOrder(form, places);
    saver.soon(0);
  });
  form.addEventListener("dragend", () => {
    held = null;
    for (const marked of form.querySelectorAll(".over, .dragged")) marked.classList.remove("over", "dragged");
  });
}

/** One save at a time, always of the newest state; a server that is away is tried again. */
function saving(form) {
  const told = form.querySelector("[data-state]");
  let dirty = false;
  let running = null;
  let stuck = false;
  let timer = null;

  const run = () => {
    timer = null;
    if (running || stuck) return running;
    if (!dirty) return null;
    dirty = false;
    told.textContent = form.dataset.saving;
    running = post(form).then(({ status, body }) => {
      if (status === 200) {
        form.elements.revision.value = body.revision;
        told.textContent = dirty ? form.dataset.saving : form.dataset.saved; // more may have been typed meanwhile
      } else {
        stuck = true; // somebody, perhaps oneself elsewhere, went on: nothing is overwritten
        told.textContent = "";
        form.querySelector("[data-trouble]").hidden = false;
      }
    }).catch(() => {
      dirty = true;
      told.textContent = form.dataset.unsaved;
      timer ??= setTimeout(run, AGAIN_MS);
    }).finally(() => {
      running = null;
      if (dirty && timer === null && !stuck) run();
    });
    return running;
  };

  return {
    soon(wait) {
      dirty = true;
      if (!stuck) told.textContent = form.dataset.saving;
      clearTimeout(timer);
      timer = null;
      if (wait) timer = setTimeout(run, wait);
      else run();
    },
    /** Wait until everything is saved; false when it cannot be. */
    async rest() {
      clearTimeout(timer);
      timer = null;
      while (running || (dirty && !stuck)) {
        await (running ?? run());
        if (timer !== null) return false;
      }
      return !stuck;
    },
    leave() {
      if (dirty && !running && !stuck) navigator.sendBeacon(target(form), body(form));
    },
  };
}

// Not form.action: that is the button of this name.
const target = (form) => form.getAttribute("action");

function body(form) {
  const data = new URLSearchParams(new FormData(form));
  data.set("action", "save");
  return data;
}

function post(form) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", target(form));
    request.setRequestHeader("accept", "application/json");
    request.responseType = "json";
    request.onload = () => (request.status >= 500 ? reject(new Error("away")) : resolve({ status: request.status, body: request.response }));
    request.onerror = () => reject(new Error("offline"));
    request.send(body(form));
  });
}
