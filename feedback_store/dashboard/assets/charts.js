// Reading a chart by pointer or by ← and →: the value under the cursor is said beside the chart's title.
// The server draws the chart and puts each point into data-points as [[x, y, "words"], …] in its own coordinates.

const SVG = "http://www.w3.org/2000/svg";

export function charts(root) {
  for (const figure of root.querySelectorAll("figure.chart[data-points]")) read(figure);
}

function read(figure) {
  const plot = figure.querySelector("svg");
  const latest = figure.querySelector(".latest");
  const points = JSON.parse(figure.dataset.points);
  if (!plot || !latest || !points.length) return;
  const usual = latest.textContent;
  const cursor = document.createElementNS(SVG, "circle");
  cursor.setAttribute("class", "cursor");
  cursor.setAttribute("r", "4");
  cursor.dataset.added = "";
  let at = null;

  const show = (index) => {
    at = index;
    if (at === null) {
      cursor.remove();
      latest.textContent = usual;
      return;
    }
    const [x, y, words] = points[at];
    cursor.setAttribute("cx", x);
    cursor.setAttribute("cy", y);
    plot.append(cursor);
    latest.textContent = words;
  };

  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * plot.viewBox.baseVal.width;
    let nearest = 0;
    points.forEach(([other], index) => {
      if (Math.abs(other - x) < Math.abs(points[nearest][0] - x)) nearest = index;
    });
    show(nearest);
  });
  plot.addEventListener("pointerleave", () => show(null));
  plot.addEventListener("blur", () => show(null));
  plot.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    show(Math.min(points.length - 1, Math.max(0, (at ?? points.length - 1) + move)));
  });
}
