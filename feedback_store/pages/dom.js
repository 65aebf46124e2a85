// Build DOM nodes without markup: whatever a person or a model wrote can only ever become a text node.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element. `props`: `class`, `data`, `on` (event → listener), DOM properties, else attributes; null skips. */
export function element(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (name in node && !name.startsWith("aria")) node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Make an SVG element; all properties are attributes. */
export function drawn(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}

const PATHS = {
  up: ["M7 10.5v9.5", "M7 10.5 10.8 3.6a1.9 1.9 0 0 1 3.5 1.3L13.6 9h4.6a2 2 0 0 1 2 2.4l-1.4 7a2 2 0 0 1-2 1.6H7",
    "M3.5 10.5H7v9.5H3.5z"],
  down: ["M7 13.5V4", "M7 13.5l3.8 6.9a1.9 1.9 0 0 0 3.5-1.3L13.6 15h4.6a2 2 0 0 0 2-2.4l-1.4-7a2 2 0 0 0-2-1.6H7",
    "M3.5 13.5H7V4H3.5z"],
  plus: ["M12 5v14", "M5 12h14"],
  menu: ["M4 7h16", "M4 12h16", "M4 17h10"],
  close: ["M6 6l12 12", "M18 6 6 18"],
  send: ["M12 19V5.5", "M6 11l6-6 6 6"],
  stop: ["M7.5 7.5h9v9h-9z"],
  pencil: ["M4 20l1-4.2L16.2 4.6a1.6 1.6 0 0 1 2.3 0l.9.9a1.6 1.6 0 0 1 0 2.3L8.2 19z", "M14.5 6.3l3.2 3.2"],
  columns: ["M4 5h16v14H4z", "M12 5v14"],
  copy: ["M9 9h10.5v10.5H9z", "M5.5 15H4.5V4.5H15v1"],
  trash: ["M5 7h14", "M10 7V4.5h4V7", "M7 7l1 12.5h8L17 7"],
  keyboard: ["M3 7h18v10H3z", "M6.5 10.3h.01M10 10.3h.01M13.5 10.3h.01M17 10.3h.01M8 13.7h8"],
};

/** Draw one of our icons; hidden from assistive technology, so its button needs a label. */
export function icon(name) {
  const paths = PATHS[name].map((d) => drawn("path", { d }));
  return drawn("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, ...paths);
}

/** Put icons into every `<… data-icon="name">` of static HTML. */
export function placeIcons(root) {
  for (const place of root.querySelectorAll("[data-icon]")) place.prepend(icon(place.dataset.icon));
}

/** Replace all children of `node`. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}
