// The inbox by keyboard, without leaving the page: filters, acts and pages are fetched and their regions taken over.
// j and k move, x ticks, e and f act on what is ticked, or else on the reply where the focus is, and go on to the next.

import { takeOver } from "./live.js";

const PAUSE_MS = 250; // of typing, before the list follows

export function inbox() {
  if (!document.querySelector("main[data-inbox]")) return;
  const search = document.querySelector("[data-search]");
  let timer = null;
  let newest = 0;

  const show = (method, url, body, keep) => {
    const turn = (newest += 1);
    return load(method, url, body).then(({ page, address }) => {
      if (turn !== newest) return; // a later one is on its way
      const ticked = new Set(method === "GET" ? boxes().filter((box) => box.checked).map((box) => box.value) : []);
      for (const box of document.querySelectorAll("#acts [type=checkbox]")) box.checked = box.defaultChecked;
      takeOver(page);
      for (const box of boxes()) if (ticked.has(box.value)) box.checked = true;
      if (!keep) {
        const at = new URL(address);
        history.replaceState(null, "", at.pathname === location.pathname ? at.pathname + at.search : location.href);
        followFilters(search, at.searchParams);
      }
      chosen();
    });
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-background]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const words = document.activeElement === link ? null : document.activeElement;
    show("GET", link.href).then(() => { if (words?.isConnected !== true && !link.isConnected) focusRow(0); });
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form === search) {
      event.preventDefault();
      clearTimeout(timer);
      show("GET", address(search)).then(() => focusRow(0));
    } else if (form.matches("form[data-background]")) {
      event.preventDefault();
      send(form, event.submitter, show);
    }
  });
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => show("GET", address(search)), PAUSE_MS);
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input:not([type=checkbox]), textarea, select")) return;
    const acts = { j: () => focusRow(place() + 1), k: () => focusRow(Math.max(0, place() - 1)), x: tick, X: tickAll };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
    chosen();
  });
  document.addEventListener("change", (event) => { if (event.target.matches("#acts [name=target]")) chosen(); });
  chosen();
}

// Not form.action: in the list that is a button of this name.
const target = (form) => form.getAttribute("action");
const rows = () => [...document.querySelectorAll("#acts [data-row]")];
const boxes = () => [...document.querySelectorAll("#acts [name=target]")];
const place = () => rows().indexOf(document.activeElement?.closest("[data-row]"));

function focusRow(number) {
  const all = rows();
  const row = all[Math.min(number, all.length - 1)];
  row?.querySelector("a").focus();
  row?.scrollIntoView({ block: "nearest" });
}

function tick() {
  if (place() < 0) focusRow(0);
  const box = rows()[place()]?.querySelector("[name=target]");
  if (box) box.checked = !box.checked;
}

function tickAll() {
  const all = boxes();
  const every = all.every((box) => box.checked);
  for (const box of all) box.checked = !every;
}

function chosen() {
  const count = boxes().filter((box) => box.checked).length;
  const told = document.querySelector("[data-chosen]");
  if (told) told.textContent = count ? `${count} ✓` : "";
  for (const row of rows()) row.toggleAttribute("data-ticked", row.querySelector("[name=target]").checked);
}

/** Act on what is ticked, else on the reply where the focus is. A flag that all have is taken off, and so on. */
function send(form, submitter, show) {
  const data = new FormData(form, submitter);
  let next = -1;
  if (form.id === "acts") {
    const ticked = rows().filter((row) => row.querySelector("[name=target]").checked);
    const here = rows()[Math.max(0, place())];
    const meant = ticked.length ? ticked : here ? [here] : [];
    const all = form.querySelector("[name=all]:checked");
    if (!ticked.length && here && !all) {
      data.append("target", here.querySelector("[name=target]").value);
      next = rows().indexOf(here) + 1;
    }
    const action = data.get("action");
    if (action === "flag" && !all && meant.every((row) => "flagged" in row.dataset)) data.set("action", "unflag");
    if (action === "exclude" && !all && meant.every((row) => "excluded" in row.dataset)) data.set("action", "restore");
    const id = rows()[next]?.dataset.row ?? here?.dataset.row;
    form.querySelector("[name=reason]").value = "";
    show("POST", target(form), new URLSearchParams(data), true).then(() => {
      const at = rows().findIndex((row) => row.dataset.row === id);
      focusRow(at < 0 ? 0 : at);
    });
  } else {
    show("POST", target(form), new URLSearchParams(data), true);
  }
}

function address(search) {
  const data = [...new FormData(search)].filter(([name, value]) => value && !(name === "order" && value === "newest"));
  const query = new URLSearchParams(data).toString();
  return query ? `${target(search)}?${query}` : target(search);
}

/** Let the fields of the search say what the address says, whoever changed it. */
function followFilters(search, parameters) {
  for (const field of search.querySelectorAll("select, input:not([type=hidden])")) {
    if (field !== document.activeElement) field.value = parameters.get(field.name) ?? (field.name === "order" ? "newest" : "");
  }
  for (const field of search.querySelectorAll("input[type=hidden]")) field.remove();
  for (const name of ["flagged", "disputed", "excluded", "pending"]) {
    if (!parameters.get(name)) continue;
    const kept = document.createElement("input");
    Object.assign(kept, { type: "hidden", name, value: parameters.get(name) });
    search.append(kept);
  }
  for (const field of document.querySelectorAll("[data-query]")) field.value = parameters.toString();
}

function load(method, url, body) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    request.responseType = "document";
    request.onload = () => {
      // 409: somebody was first; that page is the list as it stands now, and says so.
      if ((request.status === 200 || request.status === 409) && request.response?.querySelector("main[data-inbox]")) {
        resolve({ page: request.response, address: request.responseURL });
      } else {
        location.reload();
      }
    };
    request.onerror = () => {
      document.getElementById("offline").hidden = false;
      reject(new Error("offline"));
    };
    request.send(body ?? null);
  });
}
