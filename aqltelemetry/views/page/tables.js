// Tables: sorted by clicking on a head, filtered, and long ones shown in part.

const FIRST_ROWS = 25;
const FIRST_SLOWEST = 10;
const byId = (id) => document.getElementById(id);

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const TIMES = new Set(["begin", "end", "first", "last"]);
const SECONDS = new Set(["sum_s", "cpu_s"]);
const SIGNIFICANT = new Set(["min", "median", "max", "last"]);

function cellText(key, value) {
  if (value === null || value === undefined) return UNKNOWN;
  if (typeof value === "string") return TIMES.has(key) ? timeText(Date.parse(value)) : value;
  if (key === "pid") return String(value);
  if (key === "per_s") return rate(value);
  if (SECONDS.has(key)) return number(value, 2);
  if (key.endsWith("_s")) return milliseconds(value);
  if (key.endsWith("_bytes")) return mebibytes(value);
  if (key === "cpu_percent") return number(value, 1);
  if (key === "cpu_share") return `${number(100 * value, 0)} %`;
  return SIGNIFICANT.has(key) ? significant(value, 6) : count(value);
}

/** A time to the millisecond; with its date unless the recording is of one day. */
function timeText(ms) {
  const whole = wholeRange();
  return isoDay(whole.begin) === isoDay(whole.end) ? clock(ms, 1) : moment(ms, 1);
}

function unitOf(column) {
  const unit = SECONDS.has(column.key) ? "s" : column.key === "per_s" ? "" : column.key.endsWith("_s") ? "ms" : column.key.endsWith("_bytes") ? "MiB" : "";
  return unit && !column.head.split(" ").includes(unit) ? unit : "";
}

/** Leave out columns that say nothing: without a value, or of events that never happened. */
function withContent(columns, rows) {
  return columns.filter((column) => {
    if (column.key === "writer") return new Set(rows.map((row) => row.pid)).size < new Set(rows.map((row) => `${row.pid} ${row.writer}`)).size;
    return rows.some((row) => !(row[column.key] === null || row[column.key] === undefined || row[column.key] === "" || (column.hides_zeros && row[column.key] === 0)));
  });
}

class Table {
  /**
   * options: name (what the table lists), columns, cell(column, row) for cells of another kind,
   * chosen(row), order (key and direction of the first sort).
   */
  constructor(id, options) {
    this.root = byId(id);
    this.options = options;
    this.sort = null;
    this.filter = "";
    this.all = false;
    this.rows = [];
  }

  show(rows) {
    this.rows = rows;
    this.draw();
  }

  draw() {
    const focused = document.activeElement && this.root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const columns = this.options.columns(this.rows);
    const rows = this.sorted(this.rows.filter((row) => !this.filter || String(row.label).toLowerCase().includes(this.filter)));
    if (!rows.length) {
      this.root.replaceChildren(element("p", { className: "quiet", textContent: this.filter ? "Nothing matches the filter." : this.options.nothing }));
      return;
    }
    const shown = this.all ? rows : rows.slice(0, this.first());
    const head = element("tr", {}, ...columns.map((column) => this.head(column)));
    const body = shown.map((row) => this.row(columns, row));
    const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
    const scroll = element("div", { className: "scroll", tabIndex: 0 }, table);
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", `Table: ${this.options.name}`);
    const kept = this.root.querySelector(".scroll");
    const left = kept ? kept.scrollLeft : 0;
    this.root.replaceChildren(scroll, ...this.more(rows.length), this.meanings(columns));
    scroll.scrollLeft = left;
    if (focused) {
      const again = this.root.querySelector(`[data-key="${CSS.escape(focused)}"]`);
      if (again) again.focus();
    }
  }

  head(column) {
    const cell = element("th", { scope: "col", className: column.is_number ? "number" : "" });
    if (column.plain) {
      cell.append(column.head);
      return cell;
    }
    const isSorted = this.sort && this.sort.key === column.key;
    cell.setAttribute("aria-sort", isSorted ? (this.sort.down ? "descending" : "ascending") : "none");
    const button = element("button", { type: "button", title: column.meaning }, column.head);
    const unit = unitOf(column);
    if (unit) button.append(" ", element("span", { className: "unit", textContent: unit }));
    button.append(element("span", { className: "arrow", ariaHidden: "true", textContent: isSorted ? (this.sort.down ? "▾" : "▴") : "" }));
    button.dataset.key = `head ${column.key}`;
    button.addEventListener("click", () => {
      this.sort = isSorted ? { key: column.key, down: !this.sort.down } : { key: column.key, down: column.is_number };
      this.draw();
    });
    cell.append(button);
    return cell;
  }

  row(columns, row) {
    const made = element("tr", {});
    if (this.options.chosen && this.options.chosen(row)) made.setAttribute("aria-current", "true");
    columns.forEach((column, index) => {
      const cell = element(index === 0 ? "th" : "td", { className: column.is_number ? "number" : column.key === "label" ? "label" : "text" });
      if (index === 0) cell.scope = "row";
      const content = this.options.cell ? this.options.cell(column, row) : null;
      cell.append(content === null ? cellText(column.key, row[column.key]) : content);
      made.append(cell);
    });
    return made;
  }

  first() {
    return this.options.first || FIRST_ROWS;
  }

  more(total) {
    if (total <= this.first()) return [];
    const button = element("button", { type: "button", className: "more", textContent: this.all ? `Show the first ${this.first()}` : `Show all ${count(total)}` });
    button.dataset.key = "more";
    button.addEventListener("click", () => {
      this.all = !this.all;
      this.draw();
    });
    return [button];
  }

  meanings(columns) {
    const isOpen = Boolean(this.root.querySelector("details[open]"));
    const list = element("dl", {}, ...columns.filter((column) => column.meaning).map((column) =>
      element("div", {}, element("dt", { textContent: column.head }), element("dd", { textContent: column.meaning }))));
    const summary = element("summary", { textContent: "What the columns mean" });
    summary.dataset.key = "meanings";
    return element("details", { className: "meanings", open: isOpen }, summary, list);
  }

  sorted(rows) {
    if (!this.sort) return rows;
    const { key, down } = this.sort;
    const isKnown = (row) => row[key] !== null && row[key] !== undefined;
    const compare = (a, b) => (typeof a[key] === "string" ? a[key].localeCompare(b[key], "en", { numeric: true }) : a[key] - b[key]);
    const found = rows.filter(isKnown).sort((a, b) => (down ? compare(b, a) : compare(a, b)));
    return [...found, ...rows.filter((row) => !isKnown(row))];
  }
}

/** A small picture of a series: its shape only. */
function sparkline(values) {
  const [width, height] = [96, 20];
  const most = Math.max(...values, 1);
  const step = width / Math.max(values.length - 1, 1);
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${(height - 1 - (value / most) * (height - 2)).toFixed(1)}`);
  return svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true", preserveAspectRatio: "none" },
    svg("path", { class: "area", d: `M0,${height} L${points.join(" L")} L${width},${height} Z` }),
    svg("path", { class: "line", d: `M${points.join(" L")}` }));
}

/** A cause of stalls with its colour. */
function causeName(cause) {
  const swatch = element("i", { className: "cause" });
  swatch.style.setProperty("--swatch", `var(${causeColour(cause)})`);
  return element("span", { className: "cause-name", title: page.meanings[cause] || "" }, swatch, cause);
}

/** The largest of numbers by name: python code 80 %, no CPU 20 %. */
function largestOf(numbers, form, most = 3) {
  const entries = Object.entries(numbers).sort((a, b) => b[1] - a[1]);
  const more = entries.length > most ? ` and ${entries.length - most} more` : "";
  return entries.slice(0, most).map(([name, value]) => `${name} ${form(value)}`).join(", ") + more;
}

/** A line of code with the end of its path. */
const shortLine = (line) => line.split(/[\\/]/).slice(-2).join("/");

const codeLine = (line, unknown) => (line ? element("code", { title: line, textContent: shortLine(line) }) : unknown);

const isSamePlace = (a, b) => a && b && a.cause === b.cause && a.line === b.line && a.function === b.function;

const page = {};
const tables = {};

function linkButton(text, key, act) {
  const button = element("button", { type: "button", className: "link", textContent: text });
  button.dataset.key = key;
  button.addEventListener("click", act);
  return button;
}

const SPARK = { key: "spark", head: "over time", plain: true };
const RANGE_KEYS = ["label", "count", "per_s", "errors_4xx", "errors_5xx", "disconnects", "failures", "p50_s", "p90_s", "p95_s", "p99_s", "p999_s", "max_s"];

function durationColumns(rows) {
  const shown = withContent(page.columns.durations, rows).filter((column) => !state.range || RANGE_KEYS.includes(column.key));
  return [shown[0], SPARK, ...shown.slice(1)];
}

function makeTables() {
  tables.durations = new Table("durations-table", {
    name: "Durations", nothing: "No durations were recorded.", columns: durationColumns,
    chosen: (row) => row.label === state.route,
    cell: (column, row) => {
      if (column.key === "label") {
        return isDrawn(row.label) ? linkButton(row.label, `route ${row.label}`, () => setRoute(row.label)) : row.label;
      }
      if (column.key !== "spark") return null;
      const values = state.overview.sparklines[row.label];
      return values ? sparkline(values) : "";
    },
  });
  tables.workers = new Table("workers-table", {
    name: "Workers", nothing: "No process was recorded.",
    columns: (rows) => {
      const shown = withContent(page.columns.workers, rows);
      return [...shown.filter((column) => !TIMES.has(column.key)), ...shown.filter((column) => TIMES.has(column.key))];
    },
    cell: (column, row) => (column.key === "state" && row.state ? element("span", { className: `state state-${row.state}`, textContent: row.state }) : null),
  });
  tables.slowest = new Table("slowest-table", {
    first: FIRST_SLOWEST, name: "Slowest durations", nothing: "No durations were recorded.",
    columns: (rows) => withContent(page.columns.slowest, rows),
    cell: (column, row) => {
      if (column.key === "stall_cause") return row.stall_cause ? causeName(row.stall_cause) : "";
      if (column.key === "stall_line") return codeLine(row.stall_line, "");
      if (column.key !== "begin" || !row.begin) return null;
      return linkButton(timeText(Date.parse(row.begin)), `slow ${row.begin} ${row.label}`, () => showPlace(Date.parse(row.begin), Date.parse(row.end), row.label, row.pid));
    },
  });
  tables.stalls = new Table("stalls-table", {
    name: "Stalls by line", nothing: "No stall was recorded.",
    columns: (rows) => withContent(page.columns.stalls, rows),
    chosen: (row) => isSamePlace(row, state.stallPlace),
    cell: (column, row) => {
      if (column.key === "cause") {
        const button = linkButton("", `stall ${row.cause} ${row.line} ${row.function}`, () => showStalls(isSamePlace(row, state.stallPlace) ? null : row));
        button.append(causeName(row.cause));
        return button;
      }
      if (column.key === "line") return codeLine(row.line, UNKNOWN);
      if (["routes", "handlers", "blocks"].includes(column.key)) return largestOf(row[column.key], (n) => `× ${count(n)}`, 2);
      return null;
    },
  });
  tables.stallList = new Table("stall-list", {
    first: FIRST_SLOWEST, name: "Stalls", nothing: "None of the longest stalls in this range.", columns: (rows) => withContent(STALL_COLUMNS, rows),
    cell: stallCell,
  });
  tables.values = new Table("values-table", { name: "Values", nothing: "No other values were recorded.", columns: (rows) => withContent(page.columns.values, rows) });
  const columns = [
    { key: "at_ms", head: "time", is_number: false, meaning: "when it happened" },
    { key: "text", head: "event", is_number: false, meaning: "what happened" },
  ];
  tables.events = new Table("events-table", {
    name: "Events", nothing: "Nothing happened.", columns: () => columns,
    cell: (column, row) => (column.key === "at_ms" ? linkButton(timeText(row.at_ms), `event ${row.at_ms} ${row.text}`, () => showPlace(row.at_ms, row.at_ms, null, row.pid)) : null),
  });
}

const STALL_COLUMNS = [
  ["begin_ms", "begin", "when it began"],
  ["length_s", "length", "how long it took", true],
  ["cause", "cause", "what took most of it"],
  ["line", "line", "the innermost line of your code, and in which part of the looks it was seen"],
  ["shares", "shares", "the part of its time of each cause"],
  ["pid", "PID", "the process"],
  ["route", "route", "the request whose handler blocked"],
  ["blocks", "blocks", "the blocks that were open, the outermost first"],
  ["task", "task", "the task that ran, and its coroutine"],
  ["request", "request", "the request on a thread that was blocked"],
  ["waits_for", "waits for", "what the thread waited for, or on which socket, file, process or thread"],
  ["thread", "thread", "the thread that held the GIL or collected, and its line"],
  ["cpu_s", "on CPU", "for how long the thread ran", true],
  ["run_delay_s", "no CPU", "for how long it waited for a processor", true],
  ["callbacks", "callbacks", "the functions of the steps that were seen most, and how often"],
  ["looks", "looks", "how often its frames were looked at", true],
  ["innermost", "innermost", "the line of any code that was seen most"],
].map(([key, head, meaning, isNumber = false]) => ({ key, head, meaning, is_number: isNumber, hides_zeros: false }));

function stallCell(column, row) {
  const { key } = column;
  if (key === "begin_ms") return linkButton(timeText(row.begin_ms), `one stall ${row.begin_ms} ${row.pid}`, () => showPlace(row.begin_ms, row.end_ms, null, row.pid));
  if (key === "cause") return causeName(row.cause);
  if (key === "line") {
    if (!row.line) return UNKNOWN;
    const seen = row.votes === null ? "" : ` (${significant(row.votes * 100, 2)} %)`;
    return element("span", { title: row.line }, element("code", { textContent: `${row.is_exact ? "" : "≤ "}${shortLine(row.line)}` }), ` ${row.function}${seen}`);
  }
  if (key === "shares") return largestOf(row.shares, (share) => `${significant(share * 100, 2)} %`);
  if (key === "callbacks") return largestOf(row.callbacks, (n) => `× ${count(n)}`);
  if (key === "task") return [row.task, row.coroutine].filter(Boolean).join(": ");
  if (key === "waits_for") return row.waits_on || row.waits_for;
  if (key === "blocks") return row.blocks ? row.blocks.join(" › ") : "";
  if (key === "thread") return [row.thread, shortLine(row.thread_line)].filter(Boolean).join(": ");
  if (key === "innermost") return shortLine(row.innermost);
  if (key === "looks") return count(row.looks);
  return null;
}

/** Show the single stalls of a cause and line; null for those of all. */
function showStalls(place) {
  state.stallPlace = place;
  drawStalls();
}

function drawStalls() {
  const found = state.shown.stalls;
  byId("stalls-section").hidden = !state.document.stalls.length && !found;
  tables.stalls.show(state.document.stalls);
  const listed = found ? found.listed : [];
  const place = state.stallPlace;
  const hasDetails = listed.map((row) => ({ ...row, shares: Object.keys(row.shares).length ? row.shares : "", callbacks: Object.keys(row.callbacks).length ? row.callbacks : "", blocks: row.blocks.length ? row.blocks : "" }));
  const rows = hasDetails.filter((row) => !place || isSamePlace(row, place));
  const of = place ? `Those of ${place.cause}${place.line ? ` at ${shortLine(place.line)}` : ""}` : "All causes and lines; choose a cause above for those of one";
  const left = found && found.left_out ? `; of the ${count(listed.length)} longest, ${count(found.left_out)} are left out` : "";
  byId("stall-list-note").textContent = `${of}${left}.`;
  tables.stallList.show(rows);
}

const isDrawn = (label) => routes(state.overview).some((route) => route.label === label);

/** The rows of the chosen range, of the labels that have strips. */
function rangeRows() {
  return state.shown.routes.map((route) => {
    const found = totalsOf(route, state.shown, range());
    return {
      ...found, label: route.label, errors_4xx: found.kinds["4xx"] || 0, errors_5xx: found.kinds["5xx"] || 0,
      disconnects: found.kinds.disconnect || 0, failures: found.kinds.failed || 0,
    };
  }).filter((row) => row.count);
}

function drawTables() {
  const { document: report } = state;
  drawDurations();
  tables.workers.show(report.workers);
  tables.slowest.show(report.slowest);
  drawStalls();
  tables.values.show(report.values);
  tables.events.show(state.overview.marks);
  byId("values-section").hidden = !report.values.length;
  byId("events-section").hidden = !state.overview.marks.length;
}

function drawDurations() {
  const left = (state.document.left_out || {}).durations || 0;
  const bound = Math.max(...state.shown.routes.map((route) => errorBound(route.heat)), 0);
  const isExact = state.shown !== state.overview;
  let note = left ? `The first ${count(state.document.durations.length)} of ${count(left + state.document.durations.length)} labels.` : "";
  if (state.range) {
    note = `In the chosen range, of labels with charts. Counts are exact; percentiles ${isExact ? "too" : `come from the heat map, at most ${significant(bound * 100, 2)} % off`}.`;
  }
  byId("routes-note").textContent = note;
  tables.durations.show(state.range ? rangeRows() : state.document.durations);
}
