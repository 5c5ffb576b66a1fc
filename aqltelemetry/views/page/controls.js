// What a reader chooses: a range of time, a route, workers, a finding, the theme, the time zone.

function setRange(chosen, place = null) {
  const whole = wholeRange();
  const isWhole = !chosen || (chosen.begin <= whole.begin && chosen.end >= whole.end);
  const next = isWhole ? null : { begin: Math.max(chosen.begin, whole.begin), end: Math.min(chosen.end, whole.end) };
  const isSame = JSON.stringify(next) === JSON.stringify(state.range) && place === state.place;
  state.place = place;
  if (isSame) return;
  state.range = next;
  state.shown = state.overview;
  drawRange();
  live.askForRange();
}

/** Draw all that depends on the range. */
function drawRange() {
  showError("");
  drawForm();
  drawTotals();
  drawStrips();
  drawLives();
  drawDurations();
  drawStalls();
  drawFindings();
}

function setRoute(label) {
  state.route = label;
  byId("route").value = label;
  drawTotals();
  drawStrips("route");
  drawDurations();
}

/** Show a place: some time around it, its route and its worker. */
function showPlace(begin, end, label, pid) {
  if (label && isDrawn(label)) setRoute(label);
  if (pid !== null && pid !== undefined) {
    const mine = state.overview.workers.filter((worker) => worker.pid === pid);
    if (mine.length) {
      for (const worker of mine) state.workers.add(workerKey(worker));
      state.worker = pid;
    }
  }
  const whole = wholeRange();
  const least = Math.max(12 * state.overview.bin_ms, (whole.end - whole.begin) / 40);
  const margin = Math.max((end - begin) * 0.5, (least - (end - begin)) / 2, 0);
  const around = snapped(state.overview, { begin: begin - margin, end: end + margin });
  setRange(around, { begin, end });
  drawLives();
  byId("range").scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

function zoomBy(factor) {
  const { begin, end } = range();
  const centre = state.cursor !== null && factor < 1 ? state.shown.begin_ms + (state.cursor + 0.5) * state.shown.bin_ms : (begin + end) / 2;
  const share = Math.min(Math.max((centre - begin) / (end - begin), 0), 1);
  const length = Math.max((end - begin) * factor, state.overview.bin_ms * (live.isOn() ? 0.01 : 4));
  chooseRange({ begin: centre - share * length, end: centre + (1 - share) * length });
}

/** Where a server gives finer strips, ranges need not end where bins do. */
function chooseRange(chosen) {
  setRange(live.isOn() ? chosen : snapped(state.overview, chosen));
}

function moveBy(share) {
  const whole = wholeRange();
  const { begin, end } = range();
  const step = Math.min(Math.max((end - begin) * share, whole.begin - begin), whole.end - end);
  chooseRange({ begin: begin + step, end: end + step });
}

function drawForm() {
  const { begin, end } = range();
  const whole = wholeRange();
  const step = state.shown.bin_ms < 1000 ? 1 : 1000;
  const isOneDay = isoDay(whole.begin) === isoDay(whole.end);
  const text = isOneDay ? clock : moment;
  byId("range-form").classList.toggle("with-date", !isOneDay);
  byId("from").value = text(begin, step);
  byId("to").value = text(end, step);
  for (const id of ["whole", "zoom-out"]) byId(id).disabled = !state.range;
  byId("earlier").disabled = begin <= whole.begin;
  byId("later").disabled = end >= whole.end;
}

function showError(text, input = null) {
  byId("range-error").textContent = text;
  for (const id of ["from", "to"]) byId(id).removeAttribute("aria-invalid");
  if (input) {
    input.setAttribute("aria-invalid", "true");
    input.focus();
  }
}

function applyForm() {
  const whole = wholeRange();
  const [from, to] = [byId("from"), byId("to")];
  const [begin, end] = [from, to].map((input) => parseTime(input.value, whole.begin));
  const bad = begin === null ? from : end === null ? to : null;
  if (bad) {
    showError("A time is such as 14:30, 14:30:05 or 2026-11-24 14:30.", bad);
  } else if (end <= begin) {
    showError("The range ends before it begins.", to);
  } else if (end <= whole.begin || begin >= whole.end) {
    showError("Nothing was recorded then.", from);
  } else {
    chooseRange({ begin, end });
  }
}

const TOTALS = [["p50_s", "p50"], ["p90_s", "p90"], ["p95_s", "p95"], ["p99_s", "p99"], ["p999_s", "p99.9"], ["max_s", "max"]];

function drawTotals() {
  const route = findRoute(state.shown, state.route);
  const found = totalsOf(route, state.shown, range());
  const share = found.count ? ` (${significant((found.errors / found.count) * 100, 2)} %)` : "";
  const items = [
    ["count", "count", count(found.count)],
    ["rate", "rate", `${rate(found.per_s)} /s`],
    ["errors", "errors", `${count(found.errors)}${found.errors ? share : ""}`],
    ...TOTALS.map(([key, name]) => [key, name, `${found.exact || key === "max_s" || !found.count ? "" : "≈ "}${duration(found[key])}`]),
  ];
  byId("totals").replaceChildren(...items.map(([key, name, text]) => {
    const value = element("dd", { textContent: text });
    value.dataset.total = key;
    return element("div", { className: key === "errors" && found.errors ? "is-bad" : "" }, element("dt", { textContent: name }), value);
  }));
  const where = state.range
    ? `${moment(range().begin, state.shown.bin_ms)} to ${clock(range().end, state.shown.bin_ms)}, ${span(found.seconds)}`
    : `The whole recording, ${span(found.seconds)}`;
  const how = found.exact
    ? "All numbers are exact."
    : `Counts and the maximum are exact. Percentiles come from the heat map's buckets: at most ${significant(found.bound * 100, 2)} % off.`;
  byId("totals-note").textContent = `${where}. ${how}`;
}

function fillRoutes() {
  const options = routes(state.overview).map((route) => element("option", { value: route.label, textContent: route.label }));
  const select = byId("route");
  const wanted = state.route;
  select.replaceChildren(...options);
  state.route = findRoute(state.overview, wanted).label;
  select.value = state.route;
}

/** Show what is between backticks as code. */
const withCode = (text) => text.split("`").map((part, index) => (index % 2 ? element("code", { textContent: part }) : part));

const SEVERITIES = { error: "✕", warning: "!", notice: "i" };

const FIRST_FINDINGS = 6;

function drawFindings() {
  const every = state.document.findings;
  const findings = state.allFindings ? every : every.slice(0, FIRST_FINDINGS);
  const button = byId("all-findings");
  button.hidden = every.length <= FIRST_FINDINGS;
  button.textContent = state.allFindings ? `Show the first ${FIRST_FINDINGS}` : `Show all ${every.length}`;
  const items = findings.map((finding) => {
    const badge = element("span", { className: `badge badge-${finding.severity}` }, element("span", { ariaHidden: "true", textContent: SEVERITIES[finding.severity] || "•" }), element("span", { className: "unseen", textContent: `${finding.severity}: ` }));
    const isChosen = state.place && state.place.begin === finding.begin_ms && state.place.end === finding.end_ms;
    const button = element("button", { type: "button", className: "finding" }, badge, element("span", { className: "finding-text" }, ...withCode(finding.text)), element("span", { className: "go", ariaHidden: "true", textContent: "show" }));
    if (isChosen) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => showPlace(finding.begin_ms, finding.end_ms, finding.label, finding.pid));
    return element("li", {}, button);
  });
  replaceKept(byId("finding-list"), items);
  const more = (state.document.left_out || {}).findings || 0;
  byId("no-findings").hidden = every.length > 0 && !more;
  byId("no-findings").textContent = more ? `${plural(more, "finding")} more, which matter less.` : "Nothing stands out: no rule found anything.";
}

/** Replace children, and keep the focus on the one at the same place. */
function replaceKept(parent, items) {
  const buttons = [...parent.querySelectorAll("button")];
  const index = buttons.indexOf(document.activeElement);
  parent.replaceChildren(...items);
  if (index >= 0) {
    const again = parent.querySelectorAll("button")[index];
    if (again) again.focus({ preventScroll: true });
  }
}

/** The workers: one line each, with its life as a bar; a button draws it or not. */
function drawLives() {
  const { workers, workers_left_out: hidden } = state.overview;
  const { begin, end } = range();
  const share = (ms) => Math.min(Math.max((ms - begin) / (end - begin), 0), 1) * 100;
  const lines = workers.map((worker, index) => {
    const key = workerKey(worker);
    const isOn = state.workers.has(key);
    const button = element("button", { type: "button", className: "worker", textContent: String(worker.pid), title: `Draw worker ${worker.pid}, or not` });
    button.setAttribute("aria-pressed", String(isOn));
    button.setAttribute("aria-label", `worker ${worker.pid}, ${worker.state}`);
    button.style.setProperty("--swatch", `var(--line-${(index % MAX_COLOURS) + 1})`);
    button.addEventListener("click", () => {
      if (!state.workers.delete(key)) state.workers.add(key);
      drawWorkers();
    });
    const bar = element("span", { className: `life life-${worker.state}` });
    bar.style.left = `${share(worker.begin_ms)}%`;
    bar.style.width = `${Math.max(share(worker.end_ms) - share(worker.begin_ms), 0.15)}%`;
    bar.style.setProperty("--swatch", `var(--line-${(index % MAX_COLOURS) + 1})`);
    const track = element("span", { className: "track", ariaHidden: "true" }, bar);
    if (worker.state === "killed" && worker.end_ms >= begin && worker.end_ms <= end) {
      const cross = element("span", { className: "cross", textContent: "✕", title: `worker ${worker.pid} was killed` });
      cross.style.left = `${share(worker.end_ms)}%`;
      track.append(cross);
    }
    return element("div", { className: `worker-line${isOn ? "" : " is-off"}${state.worker === worker.pid ? " is-chosen" : ""}` }, button, track);
  });
  const heading = element("div", { className: "worker-heading" },
    element("h3", { textContent: "Workers" }),
    element("span", { className: "strip-unit", textContent: hidden ? `the ${workers.length} busiest of ${workers.length + hidden}` : "choose those that are drawn below" }),
    choose("all", workers.map(workerKey)), choose("none", []));
  const panel = byId("worker-panel");
  panel.hidden = !workers.length;
  replaceKept(panel, [heading, ...lines]);
}

function choose(name, keys) {
  const button = element("button", { type: "button", className: "link", textContent: name });
  button.setAttribute("aria-label", `draw ${name} of the workers`);
  button.addEventListener("click", () => {
    state.workers = new Set(keys);
    drawWorkers();
  });
  return button;
}

function drawWorkers() {
  drawLives();
  drawStrips("worker");
}

function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.target.closest("button, input, select, summary, a")) return;
  const [first, last] = binsOf(state.shown, range());
  const step = event.shiftKey ? 10 : 1;
  const from = state.cursor === null ? null : Math.min(Math.max(state.cursor, first), last);
  const at = () => binBegin(state.shown, from === null ? first : from);
  const actions = {
    ArrowRight: () => speak(from === null ? first : Math.min(from + step, last)),
    ArrowLeft: () => speak(from === null ? last : Math.max(from - step, first)),
    Home: () => speak(first),
    End: () => speak(last),
    "+": () => zoomBy(0.5),
    "=": () => zoomBy(0.5),
    "-": () => zoomBy(2),
    0: () => setRange(null),
    "[": () => chooseRange({ begin: at(), end: range().end }),
    "]": () => chooseRange({ begin: range().begin, end: at() + state.shown.bin_ms }),
    Escape: () => moveCursor(null),
  };
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

/** Move the cursor, and say what is there. */
function speak(bin) {
  moveCursor(bin);
  const texts = strips.map((strip) => strip.text(bin)).filter(Boolean);
  byId("cursor-text").textContent = [cursorTime(bin), ...texts].join("; ");
}

function setTheme(theme) {
  const root = document.documentElement;
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.choice = theme;
  root.dataset.theme = theme === "auto" ? (isDark ? "dark" : "light") : theme;
  try {
    if (theme === "auto") localStorage.removeItem("aqltelemetry-theme");
    else localStorage.setItem("aqltelemetry-theme", theme);
  } catch {
    // A browser may forbid storage to files.
  }
  redrawColours();
}

function redrawColours() {
  for (const strip of strips) {
    if (strip.chart) strip.chart.redraw(true);
    strip.readout(state.cursor);
  }
}

function setUtc(isUtc) {
  zone.utc = isUtc;
  byId("utc").setAttribute("aria-pressed", String(isUtc));
  drawAll();
}

function bindControls() {
  byId("all-findings").addEventListener("click", () => {
    state.allFindings = !state.allFindings;
    drawFindings();
  });
  byId("range-form").addEventListener("submit", (event) => {
    event.preventDefault();
    applyForm();
  });
  byId("route").addEventListener("change", (event) => setRoute(event.target.value));
  byId("whole").addEventListener("click", () => setRange(null));
  byId("zoom-in").addEventListener("click", () => zoomBy(0.5));
  byId("zoom-out").addEventListener("click", () => zoomBy(2));
  byId("earlier").addEventListener("click", () => moveBy(-0.5));
  byId("later").addEventListener("click", () => moveBy(0.5));
  byId("charts").addEventListener("keydown", onKey);
  byId("charts").addEventListener("mouseleave", () => moveCursor(null));
  byId("utc").addEventListener("click", () => setUtc(!zone.utc));
  byId("theme").value = document.documentElement.dataset.choice;
  byId("theme").addEventListener("change", (event) => setTheme(event.target.value));
  byId("filter").addEventListener("input", (event) => {
    tables.durations.filter = event.target.value.trim().toLowerCase();
    tables.durations.draw();
  });
  byId("keys-open").addEventListener("click", (event) => {
    const keys = byId("keys");
    keys.hidden = !keys.hidden;
    event.target.setAttribute("aria-expanded", String(!keys.hidden));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawColours);
}
