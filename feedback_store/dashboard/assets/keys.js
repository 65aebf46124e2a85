// Keys: "g" and a letter go to a page; an element with data-key="x" is clicked (or focused) by x; data-open="ID" opens a
// dialog. data-key-help="…" puts the key into the list that ? shows. Never while somebody types, never with Ctrl or Alt.

const WAIT_MS = 1200;

export function keys() {
  let going = 0;
  listKeys();
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    const typing = event.target.closest?.("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]");
    if (typing || document.querySelector("dialog[open]")) return;
    if (going > Date.now()) {
      going = 0;
      const link = document.querySelector(`[data-go="${CSS.escape(event.key)}"]`);
      if (link) {
        event.preventDefault();
        link.click();
      }
      return;
    }
    if (event.key === "g") {
      going = Date.now() + WAIT_MS;
      return;
    }
    const named = [...document.querySelectorAll(`[data-key="${CSS.escape(event.key)}"]`)].find((node) => node.checkVisibility() || node.dataset.open);
    if (!named) return;
    event.preventDefault();
    act(named);
  });
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (opener) document.getElementById(opener.dataset.open)?.showModal();
  });
  // One open box of acts at a time; Escape closes it and gives the focus back.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const box = event.target.closest?.("details.act[open]");
    if (!box) return;
    box.removeAttribute("open");
    box.querySelector("summary").focus();
  });
  document.addEventListener("toggle", (event) => {
    const box = event.target;
    if (!box.matches?.("details.act") || !box.open) return;
    for (const other of document.querySelectorAll("details.act[open]")) if (other !== box) other.removeAttribute("open");
    firstField(box)?.focus();
  }, true);
}

function firstField(box) {
  return box.querySelector("textarea, input:not([type=hidden]), select");
}

function act(node) {
  if (node.matches("input:not([type=checkbox]), textarea, select")) node.focus();
  else node.click();
  const box = node.closest("details.act");
  if (box?.open) firstField(box)?.focus(); // at once: what is typed next belongs into it
}

function listKeys() {
  const list = document.querySelector("[data-keys]");
  if (!list) return;
  for (const node of document.querySelectorAll("[data-key][data-key-help]")) {
    const row = document.createElement("div");
    const key = document.createElement("kbd");
    key.textContent = node.dataset.key;
    const term = document.createElement("dt");
    term.append(key);
    const meaning = document.createElement("dd");
    meaning.textContent = node.dataset.keyHelp;
    row.append(term, meaning);
    list.append(row);
  }
}
