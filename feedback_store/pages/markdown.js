// A small, safe renderer for what models write: paragraphs, headings, lists, code blocks, `code`, **bold**, *emphasis*.
// It builds DOM nodes and never markup: there is no path from text to an attribute, an element name or a URL. Links
// stay plain text on purpose (a model must not be able to lead a reader anywhere by one click).

import { element } from "./dom.js";

const FENCE = /^\s{0,3}```\s*([\w+#.-]*)\s*$/;
const BULLET = /^(\s*)[-*•]\s+(.*)$/;
const NUMBER = /^(\s*)(\d{1,9})[.)]\s+(.*)$/;
const HEADING = /^(#{1,6})\s+(.*?)\s*#*$/;
// One pass, no backtracking over more than the span itself: code first, because nothing is marked up inside code.
const INLINE = /(`+)([^`\n]+)\1|\*\*([^\s*](?:[^*\n]*[^\s*])?)\*\*|\*([^\s*](?:[^*\n]*[^\s*])?)\*/g;

/** Render `text` as an array of block nodes. Unfinished marks (a stream under way) stay as they are written. */
export function render(text) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (lines[at].trim() === "") at += 1;
    else if (FENCE.test(lines[at])) at = codeBlock(lines, at, blocks);
    else if (BULLET.test(lines[at])) at = list(lines, at, blocks, "ul", BULLET);
    else if (NUMBER.test(lines[at])) at = list(lines, at, blocks, "ol", NUMBER);
    else if (HEADING.test(lines[at])) {
      blocks.push(element("p", { class: "heading" }, inline(HEADING.exec(lines[at])[2])));
      at += 1;
    } else at = paragraph(lines, at, blocks);
  }
  return blocks;
}

function codeBlock(lines, start, blocks) {
  let end = start + 1;
  while (end < lines.length && !FENCE.test(lines[end])) end += 1;
  const code = element("code", {}, lines.slice(start + 1, end).join("\n"));
  // A wide block scrolls by itself; tabIndex lets the keyboard do that too.
  blocks.push(element("pre", { tabIndex: 0, role: "region", "aria-label": "Code" }, code));
  return end + 1;
}

function list(lines, start, blocks, tag, pattern) {
  const items = [];
  let at = start;
  for (; at < lines.length; at += 1) {
    const match = pattern.exec(lines[at]);
    if (match) items.push([match.at(-1)]);
    else if (items.length && /^\s{2,}\S/.test(lines[at])) items.at(-1).push(lines[at].trim());
    else if (lines[at].trim() !== "" || !pattern.test(lines[at + 1] ?? "")) break;
  }
  const first = tag === "ol" ? Number(pattern.exec(lines[start])[2]) : 1;
  const node = element(tag, {}, items.map((item) => element("li", {}, inlineLines(item))));
  if (first !== 1) node.start = first;
  blocks.push(node);
  return at;
}

function paragraph(lines, start, blocks) {
  let end = start + 1;
  const begins = (line) => line.trim() === "" || FENCE.test(line) || BULLET.test(line) || NUMBER.test(line) || HEADING.test(line);
  while (end < lines.length && !begins(lines[end])) end += 1;
  blocks.push(element("p", {}, inlineLines(lines.slice(start, end))));
  return end;
}

function inlineLines(lines) {
  return lines.flatMap((line, index) => (index ? [element("br"), ...inline(line)] : inline(line)));
}

function inline(text) {
  const nodes = [];
  let done = 0;
  for (const match of text.matchAll(INLINE)) {
    if (match.index > done) nodes.push(text.slice(done, match.index));
    if (match[2] !== undefined) nodes.push(element("code", {}, match[2]));
    else if (match[3] !== undefined) nodes.push(element("strong", {}, match[3]));
    else nodes.push(element("em", {}, match[4]));
    done = match.index + match[0].length;
  }
  if (done < text.length) nodes.push(text.slice(done));
  return nodes;
}
