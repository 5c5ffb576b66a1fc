// Reads the data of the page, and draws it.

const read = (name) => JSON.parse(byId(`data-${name}`).textContent);

function drawHeader() {
  const { document: report } = state;
  const whole = wholeRange();
  const requests = state.overview.overall;
  document.title = `${report.directory} – aqltelemetry`;
  byId("title").textContent = report.directory;
  byId("when").textContent = report.begin
    ? `${moment(whole.begin)} to ${isoDay(whole.begin) === isoDay(whole.end) ? clock(whole.end) : moment(whole.end)} (${zoneName(whole.begin)})`
    : "Nothing was recorded.";
  const workers = state.overview.workers.length + state.overview.workers_left_out;
  const { dropped } = report;
  const reasons = Object.entries(dropped.reasons).filter(([, n]) => n).map(([reason, n]) => `${reason} ${count(n)}`).join(", ");
  const facts = [
    ["recorded", span(report.recorded_s)],
    [requests.label.replace("all ", ""), count(requests.totals.count)],
    [workers === 1 ? "process" : "processes", count(workers)],
    ["dropped", `${count(dropped.count)}${reasons ? ` (${reasons})` : ""}`],
  ];
  if (report.not_read.length) facts.push(["files not read", count(report.not_read.length)]);
  byId("facts").replaceChildren(...facts.map(([name, text]) => element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: text }))));
}

function drawNotes() {
  const { overview } = state;
  const texts = [`A point is a bin of ${duration(state.shown.bin_ms / 1000)}.`];
  if (overview.routes_left_out) texts.push(`${plural(overview.routes_left_out, "less busy label")} have no charts.`);
  if (overview.workers_left_out) texts.push(`${plural(overview.workers_left_out, "less busy worker")} have no charts.`);
  byId("left-out").textContent = texts.join(" ");
  byId("footer").textContent = "Made by aqltelemetry. Charts by uPlot, MIT licence. Percentiles are exact unless it says otherwise.";
}

/** Show a new document and new strips of the whole recording. */
function update(report, found) {
  const last = state.overview;
  const before = new Set(last ? last.workers.map(workerKey) : []);
  for (const worker of found.workers.slice(0, MAX_COLOURS)) {
    if (!before.has(workerKey(worker))) state.workers.add(workerKey(worker));
  }
  state.document = report;
  state.overview = found;
  if (!state.range || !live.isOn()) state.shown = found;
  drawAll();
  if (last && state.range && state.range.end >= last.drawn_end_ms) live.askForRange();
}

function drawAll() {
  if (!state.document) return;
  drawHeader();
  fillRoutes();
  drawForm();
  drawTotals();
  drawFindings();
  drawStrips();
  drawLives();
  drawNotes();
  drawTables();
}

/** A new width makes new charts. */
function watchWidth() {
  let width = document.documentElement.clientWidth;
  new ResizeObserver(() => {
    const now = document.documentElement.clientWidth;
    if (now === width) return;
    width = now;
    if (state.document) drawStrips();
  }).observe(document.documentElement);
}

function watchPrinting() {
  let theme;
  addEventListener("beforeprint", () => {
    theme = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light"; // paper is white
    document.documentElement.classList.add("printing");
    drawStrips();
  });
  addEventListener("afterprint", () => {
    document.documentElement.dataset.theme = theme;
    document.documentElement.classList.remove("printing");
    drawStrips();
  });
}

Object.assign(page, read("page"));
const heatSwitch = element("span", { className: "modes", role: "group" });
heatSwitch.setAttribute("aria-label", "Durations as");
makeTables();
makeStrips();
for (const [name, isHeat] of [["percentiles", false], ["heat map", true]]) {
  const button = element("button", { type: "button", textContent: name });
  button.setAttribute("aria-pressed", String(isHeat === state.heat));
  button.addEventListener("click", () => {
    state.heat = isHeat;
    for (const each of heatSwitch.children) each.setAttribute("aria-pressed", String(each === button));
    drawStrips("route");
  });
  heatSwitch.append(button);
}
strips.find((strip) => strip.spec.id === "durations").title.after(heatSwitch);
bindControls();
if (live.isOn()) live.start();
else update(read("document"), read("strips"));
watchWidth();
watchPrinting();
