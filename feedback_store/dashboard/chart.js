// A small line chart: axes with round numbers, one line, and the value under the pointer or the arrow keys.

import { drawn, element, fill } from "./dom.js";

const HEIGHT = 190;
const MARGIN = { top: 14, right: 14, bottom: 26, left: 52 };

/** Round numbers that cover [low, high], about `count` of them: steps of 1, 2 or 5 times a power of ten. */
export function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) found.push(index * step);
  return found;
}

/** A number as a person reads it: four significant digits, no trailing zeros. */
export function spoken(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

/** Build a chart. `update(points)` draws `points`: [step, value] pairs in ascending order of step. */
export function lineChart(title) {
  const latest = element("output", { class: "latest" });
  const plot = drawn("svg", { class: "plot", height: HEIGHT, role: "img", tabindex: "0" });
  const figure = element("figure", { class: "chart" }, element("figcaption", {}, element("span", {}, title), latest), plot);
  let points = [];
  let at = null; // index under the pointer; null: none, the newest is shown
  let scale = null;

  const width = () => Math.max(200, plot.clientWidth || 320);

  function draw() {
    if (!points.length) {
      fill(plot, drawn("text", { x: width() / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "No points yet"));
      latest.textContent = "";
      return;
    }
    scale = scales(points, width());
    plot.setAttribute("viewBox", `0 0 ${width()} ${HEIGHT}`);
    plot.setAttribute("aria-label", summary(title, points));
    const line = points.map(([step, value], index) => `${index ? "L" : "M"}${scale.x(step).toFixed(1)} ${scale.y(value).toFixed(1)}`).join("");
    fill(plot, axes(scale, width()), drawn("path", { class: "line", d: line }), cursor());
    const [step, value] = points[at ?? points.length - 1];
    latest.textContent = `${spoken(value)} at step ${step}`;
  }

  function cursor() {
    const [step, value] = points[at ?? points.length - 1];
    const x = scale.x(step);
    const rule = at === null ? [] : [drawn("path", { class: "rule", d: `M${x} ${MARGIN.top}V${HEIGHT - MARGIN.bottom}` })];
    return [...rule, drawn("circle", { class: "dot", cx: x, cy: scale.y(value), r: 3.5 })];
  }

  plot.addEventListener("pointermove", (event) => {
    if (!points.length) return;
    const x = event.clientX - plot.getBoundingClientRect().left;
    const gaps = points.map(([step]) => Math.abs(scale.x(step) - x));
    at = gaps.indexOf(Math.min(...gaps));
    draw();
  });
  plot.addEventListener("pointerleave", () => {
    at = null;
    draw();
  });
  plot.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move || !points.length) return;
    event.preventDefault();
    at = Math.min(points.length - 1, Math.max(0, (at ?? points.length - 1) + move));
    draw();
  });
  new ResizeObserver(draw).observe(plot);
  return {
    node: figure,
    update(newPoints) {
      points = newPoints.filter(([, value]) => Number.isFinite(value));
      if (at !== null && at >= points.length) at = null;
      draw();
    },
  };
}

function scales(points, width) {
  const steps = points.map(([step]) => step);
  const values = points.map(([, value]) => value);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const air = (high - low || Math.abs(high) || 1) * 0.08; // a flat line stands in the middle
  [low, high] = [low - air, high + air];
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const inner = width - MARGIN.left - MARGIN.right;
  return {
    low, high, first, last,
    x: (step) => MARGIN.left + (last === first ? 0.5 : (step - first) / (last - first)) * inner,
    y: (value) => HEIGHT - MARGIN.bottom - ((value - low) / (high - low)) * (HEIGHT - MARGIN.top - MARGIN.bottom),
  };
}

function axes(scale, width) {
  const nodes = [];
  for (const value of ticks(scale.low, scale.high, 4)) {
    const y = scale.y(value);
    nodes.push(drawn("path", { class: "grid", d: `M${MARGIN.left} ${y}H${width - MARGIN.right}` }));
    nodes.push(drawn("text", { x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" }, spoken(value)));
  }
  for (const step of ticks(scale.first, scale.last, Math.min(6, width / 80)).filter(Number.isInteger)) {
    nodes.push(drawn("text", { x: scale.x(step), y: HEIGHT - 8, "text-anchor": "middle" }, String(step)));
  }
  return nodes;
}

function summary(title, points) {
  const values = points.map(([, value]) => value);
  return `${title}: ${points.length} points, first ${spoken(values[0])}, newest ${spoken(values.at(-1))}, ` +
    `lowest ${spoken(Math.min(...values))}, highest ${spoken(Math.max(...values))}`;
}
