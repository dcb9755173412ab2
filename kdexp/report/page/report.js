"use strict";
// Everything from records goes onto the page as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const SHOWN = 300;

function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (name) made.className = name;
  return made;
}

// numbers by value, the rest alphabetically, empty cells last
function compare(a, b) {
  if (a === b) return 0;
  if (a === "" || a === null) return 1;
  if (b === "" || b === null) return -1;
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? String(a).localeCompare(String(b), undefined, {numeric: true}) : x - y;
}

function sortable(table, order) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = element("button", head.textContent);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      order(column, down ? -1 : 1);
    });
  });
}

function value(row, column) {
  const cell = row.cells[column];
  return cell ? cell.dataset.value ?? cell.textContent.trim() : "";
}

for (const table of document.querySelectorAll("table.sortable")) {
  sortable(table, (column, sign) => {
    const rows = [...table.tBodies[0].rows];
    const last = (row) => value(row, column) === "";
    rows.sort((a, b) => last(a) || last(b) ? last(a) - last(b) : sign * compare(value(a, column), value(b, column)));
    table.tBodies[0].append(...rows);
  });
}

const wanted = (text, query) => query.toLowerCase().split(/\s+/).every((word) => text.includes(word));

const pairs = document.getElementById("filter-pairs");
pairs?.addEventListener("input", () => {
  for (const row of document.querySelectorAll("#pairs tbody tr")) row.hidden = !wanted(row.textContent.toLowerCase(), pairs.value);
  for (const part of document.querySelectorAll("section.pair")) part.hidden = !wanted(part.dataset.text.toLowerCase(), pairs.value);
});

// one array per run, drawn only when needed, so that thousands of runs stay fast
const runs = {table: document.getElementById("runs"), filter: document.getElementById("filter-runs"), limit: SHOWN};
runs.order = data.runs.map((_, index) => index);
runs.text = data.runs.map((run) => run.cells.join(" ").toLowerCase());

function drawRuns() {
  const matching = runs.order.filter((index) => wanted(runs.text[index], runs.filter.value));
  const body = runs.table.tBodies[0];
  body.replaceChildren(...matching.slice(0, runs.limit).map(runRow));
  const count = document.getElementById("count");
  count.textContent = `${Math.min(matching.length, runs.limit)} of ${matching.length} shown, ${data.runs.length} runs in all`;
  document.getElementById("more").hidden = matching.length <= runs.limit;
}

function runRow(index) {
  const run = data.runs[index], row = element("tr", undefined, "run");
  run.cells.forEach((text, column) => {
    const numeric = data.numeric[column];
    const shown = column in data.decimals && typeof text === "number" ? text.toFixed(data.decimals[column]) : text;
    row.append(element("td", shown, numeric ? "number" : column === data.status ? text : ""));
  });
  row.tabIndex = 0;
  const open = () => row.nextSibling?.className === "detail" ? row.nextSibling.remove() : row.after(detail(run));
  row.addEventListener("click", open);
  row.addEventListener("keydown", (event) => event.key === "Enter" && open());
  return row;
}

function detail(run) {
  const row = element("tr", undefined, "detail"), cell = element("td"), columns = element("div", undefined, "columns");
  cell.colSpan = run.cells.length;
  const first = element("div"), second = element("div");
  first.append(element("strong", "Test accuracy after each epoch, %"), curve(run.curve), element("strong", "Ran with"), pre(run.facts));
  second.append(element("strong", "config.yaml"), pre(run.config.map((block) => data.blocks[block]).join("\n")));
  columns.append(first, second);
  cell.append(element("div", run.folder, "soft"), columns);
  row.append(cell);
  return row;
}

const pre = (text) => element("pre", text);

function curve(points) {
  const [width, height, left, bottom] = [420, 170, 38, 22], space = "http://www.w3.org/2000/svg";
  const make = (tag, attributes, text) => {
    const made = document.createElementNS(space, tag);
    for (const [key, given] of Object.entries(attributes)) made.setAttribute(key, given);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const svg = make("svg", {viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "learning curve"});
  const known = points.filter((point) => point[1] !== null);
  if (!known.length) return element("p", "no epochs yet", "soft");
  const last = Math.max(...known.map((point) => point[0]), 2);
  const x = (epoch) => left + ((epoch - 1) / (last - 1)) * (width - left - 6), y = (value) => (height - bottom) * (1 - value / 100) + 4;
  for (const tick of [0, 25, 50, 75, 100]) {
    svg.append(make("line", {x1: left, x2: width - 6, y1: y(tick), y2: y(tick), stroke: "#d9dce0"}));
    svg.append(make("text", {x: left - 5, y: y(tick) + 4, "text-anchor": "end", "font-size": 11, fill: "#5f6368"}, tick));
  }
  svg.append(make("text", {x: width - 6, y: height - 3, "text-anchor": "end", "font-size": 11, fill: "#5f6368"}, `epoch ${last}`));
  const path = known.map(([epoch, value]) => `${x(epoch).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  svg.append(make("polyline", {points: path, fill: "none", stroke: "#0072b2", "stroke-width": 1.6}));
  return svg;
}

sortable(runs.table, (column, sign) => {
  const key = (index) => data.runs[index].cells[column], last = (index) => key(index) === "" || key(index) === null;
  runs.order.sort((a, b) => last(a) || last(b) ? last(a) - last(b) : sign * compare(key(a), key(b)));
  drawRuns();
});
runs.filter.addEventListener("input", drawRuns);
document.getElementById("more").addEventListener("click", () => { runs.limit = Infinity; drawRuns(); });
drawRuns();
