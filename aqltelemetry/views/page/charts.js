// Draws the strips: charts over the same time, with one cursor and one range.

const RIGHT = 12;
const PHONE = 600;
const PAPER_WIDTH = 690;
const HEAT_ROWS = 48;
const HEIGHTS = { plain: 92, durations: 190 };
const DASHES = [[], [6, 3], [2, 3]];
const KIND_COLOURS = { "5xx": "--bad", failed: "--purple", disconnect: "--sky", "4xx": "--warn" };

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const gutter = () => (window.innerWidth < PHONE ? 54 : 68);
const workerColour = (index) => colour(`--line-${(index % MAX_COLOURS) + 1}`);
const workerDash = (index) => DASHES[Math.floor(index / MAX_COLOURS) % DASHES.length];

/** Counts per second of each bin; not of a bin of which less than a half was recorded. */
function perSecond(strips, counts) {
  return counts.map((n, bin) => {
    const begin = Math.max(binBegin(strips, bin), strips.drawn_begin_ms);
    const end = Math.min(binBegin(strips, bin + 1), strips.drawn_end_ms);
    return end - begin < strips.bin_ms / 2 ? null : (n * 1000) / (end - begin);
  });
}

/** The lines of the chosen workers. */
function workerLines(strips, values) {
  const lines = [];
  strips.workers.forEach((worker, index) => {
    if (!state.workers.has(workerKey(worker))) return;
    lines.push({
      name: String(worker.pid),
      ...values(worker),
      colour: () => workerColour(index),
      dash: workerDash(index),
    });
  });
  return lines;
}

/** A worker's numbers while it lives, null before and after. */
function whileAlive(strips, worker, values) {
  return values.map((value, bin) =>
    binBegin(strips, bin + 1) < worker.begin_ms || binBegin(strips, bin) > worker.end_ms ? null : value);
}

const sampled = (name) => (strips) => workerLines(strips, (worker) => joined(worker[name]));
const plain = (name) => (strips) => workerLines(strips, (worker) => ({ values: worker[name] }));

function durationLines(strips) {
  const route = findRoute(strips, state.route);
  const line = (name, values, token, extra = {}) => ({ name, values, colour: () => colour(token), ...extra });
  if (state.heat) {
    return [
      line("", route.p99_s, "--card", { width: 3 }),
      line("", route.p50_s, "--card", { width: 3 }),
      line("p99", route.p99_s, "--heat-p99", { width: 1.5 }),
      line("p50", route.p50_s, "--heat-p50", { width: 1.5 }),
    ];
  }
  return [
    line("max", route.max_s, "--max", { points: true }),
    line("p99", route.p99_s, "--p99", { band: "--band-99" }),
    line("p90", route.p90_s, "--p90", { band: "--band-90" }),
    line("p50", route.p50_s, "--p50", { width: 2 }),
  ];
}

/** The colour of a cause of stalls. */
const causeColour = (cause) => (page.causes[cause] ? `--cause-${page.causes[cause]}` : "--muted");

/** Lines of which each is drawn on top of the ones before. */
function stacked(series, token) {
  const lines = [];
  let below = new Array(state.shown.bins).fill(0);
  for (const [name, values] of series) {
    below = below.map((total, bin) => total + values[bin]);
    lines.unshift({ name, values: below.slice(), shown: values, colour: () => colour(token(name)), bars: true });
  }
  return lines;
}

/** Errors by kind, each on top of the ones before. */
function errorLines(strips) {
  const route = findRoute(strips, state.route);
  const kinds = Object.keys(KIND_COLOURS).filter((kind) => route.errors_by_kind[kind]);
  return stacked(kinds.map((kind) => [kind, route.errors_by_kind[kind]]), (kind) => KIND_COLOURS[kind]);
}

/** What blocked event loops, by cause. */
function stallLines(strips) {
  return strips.stalls ? stacked(Object.entries(strips.stalls.causes), causeColour) : [];
}

const SPECS = [
  {
    id: "rate", title: "Rate", unit: "per second", of: "route", format: (v) => `${significant(v, 3)} /s`,
    lines: (strips) => [{ name: "", values: perSecond(strips, findRoute(strips, state.route).count), colour: () => colour("--accent"), fill: "--accent-fill" }],
  },
  { id: "durations", title: "Durations", unit: "", of: "route", height: HEIGHTS.durations, format: duration, log: true, lines: durationLines, time: true },
  {
    id: "errors", title: "Errors", unit: "", of: "route", format: (v) => significant(v, 3), lines: errorLines, whole: true,
    empty: "no errors", unitOf: (strips) => `per ${duration(strips.bin_ms / 1000)}`,
  },
  {
    id: "stalls", title: "Blocked", of: "route", format: duration, lines: stallLines, about: "event loops, by cause",
    empty: "nothing blocked an event loop", isHidden: (strips) => !strips.stalls,
    unitOf: (strips) => `event loops of all workers, per ${duration(strips.bin_ms / 1000)}`,
  },
  {
    id: "worker-rate", title: "Rate", unit: "per second, by worker", of: "worker", format: (v) => `${significant(v, 3)} /s`,
    lines: (strips) => workerLines(strips, (worker) => ({ values: whileAlive(strips, worker, perSecond(strips, worker.count)) })),
  },
  { id: "worker-p99", title: "p99", unit: "of durations, by worker", of: "worker", format: duration, log: true, lines: plain("p99_s") },
  { id: "in-flight", title: "In flight", unit: "requests, largest sample", of: "worker", format: (v) => significant(v, 3), lines: sampled("in_flight"), whole: true },
  { id: "lag", title: "Event-loop lag", unit: "largest", of: "worker", format: duration, lines: sampled("lag_max_s") },
  { id: "gc", title: "GC pauses", unit: "longest", of: "worker", format: duration, lines: plain("gc_pause_max_s"), stems: true },
  { id: "cpu", title: "CPU", unit: "of one processor", of: "worker", format: (v) => `${significant(v, 3)} %`, lines: sampled("cpu_percent") },
  { id: "rss", title: "Memory", unit: "resident set size", of: "worker", format: bytes, lines: sampled("rss_bytes"), base2: true },
];

const known = (values) => values.some((value) => value !== null && value !== undefined);

class Strip {
  constructor(spec, parent) {
    this.spec = spec;
    this.chart = null;
    this.signature = "";
    this.root = element("figure", { className: "strip", id: `strip-${spec.id}` });
    this.caption = element("figcaption", {});
    this.title = element("span", { className: "strip-title", textContent: spec.title });
    this.unit = element("span", { className: "strip-unit" });
    this.read = element("span", { className: "strip-read" });
    this.caption.append(this.title, this.unit, this.read);
    this.plot = element("div", { className: "plot" });
    this.plot.setAttribute("role", "img");
    this.root.append(this.caption, this.plot);
    parent.append(this.root);
  }

  get height() {
    return (this.spec.height || HEIGHTS.plain) + (this.hasTime ? 26 : 0);
  }

  /** Take new data, before it is known which strip shows the time axis. */
  load() {
    this.lines = this.spec.lines(state.shown);
    this.isKnown = this.lines.some((line) => known(line.values));
  }

  /** Draw the data; the chart is made anew only if its lines are other ones. */
  draw() {
    const strips = state.shown;
    const { isKnown } = this;
    const unit = this.spec.unitOf ? this.spec.unitOf(strips) : this.spec.unit;
    this.unit.textContent = isKnown || this.spec.empty ? unit : `${unit ? `${unit}: ` : ""}not recorded`;
    this.root.classList.toggle("is-empty", !isKnown);
    this.root.hidden = Boolean(this.spec.isHidden && this.spec.isHidden(strips));
    this.describe(isKnown);
    if (!isKnown) {
      this.destroy();
      this.readout(null);
      return;
    }
    const x = Array.from({ length: strips.bins }, (_, bin) => strips.begin_ms + (bin + 0.5) * strips.bin_ms);
    const data = [x, ...this.lines.map((line) => line.values)];
    const signature = [state.heat, this.hasTime, this.width(), this.lines.map((line) => line.name).join()].join();
    if (this.chart && signature === this.signature) {
      this.chart.batch(() => {
        this.chart.setData(data, false);
        this.zoom();
      });
      this.chart.redraw();
    } else {
      this.destroy();
      this.signature = signature;
      this.chart = new uPlot(this.options(), data, this.plot);
      touch(this.chart);
    }
    this.readout(state.cursor);
  }

  width() {
    // While it prints, the window still has the width of the screen.
    const isPrinting = document.documentElement.classList.contains("printing");
    return isPrinting ? PAPER_WIDTH : Math.max(Math.floor(this.root.clientWidth), 200);
  }

  destroy() {
    if (this.chart) this.chart.destroy();
    this.chart = null;
    this.signature = "";
  }

  zoom() {
    if (!this.chart) return;
    const { begin, end } = range();
    this.chart.setScale("x", { min: begin, max: end });
  }

  options() {
    const { spec } = this;
    return {
      width: this.width(), height: this.height, ms: 1,
      padding: [6, RIGHT, this.hasTime ? 0 : 6, 0],
      legend: { show: false },
      tzDate: (ms) => (zone.utc ? uPlot.tzDate(new Date(ms), "Etc/UTC") : new Date(ms)),
      cursor: {
        y: false,
        move: (chart, left, top) => [left < 0 ? left : chart.valToPos(chart.data[0][chart.posToIdx(left)], "x"), top],
        sync: { key: "time", setSeries: false, scales: ["x", null] },
        drag: { x: true, y: false, setScale: false, dist: 4 },
        points: { size: 6, width: 1.5 },
        bind: { dblclick: () => () => { setRange(null); return null; } },
      },
      scales: {
        x: { time: true, range: () => [range().begin, range().end] },
        y: spec.log
          ? { distr: 3, range: (_, low, high) => this.logRange(low, high) }
          : { range: (_, low, high) => this.linearRange(low, high) },
      },
      axes: [timeAxis(this.hasTime), valueAxis(spec)],
      series: [{}, ...this.lines.map((line) => series(line, spec))],
      bands: bands(this.lines),
      hooks: {
        drawClear: [(chart) => shadeChosen(chart)],
        drawAxes: [(chart) => { if (spec.id === "durations" && state.heat) drawHeat(chart); }],
        draw: [(chart) => drawMarks(chart)],
        setCursor: [(chart) => this.moved(chart)],
        setSelect: [(chart) => chooseSelected(chart)],
      },
    };
  }

  linearRange(low, high) {
    if (low === null || low === undefined) return [0, 1];
    if (this.spec.id === "rss" && low > high * 0.6) {
      const pad = Math.max((high - low) * 0.15, high * 0.01);
      return [low - pad, high + pad];
    }
    return [0, high > 0 ? high * 1.1 : 1];
  }

  logRange(low, high) {
    if (state.heat && this.spec.id === "durations") {
      const edges = findRoute(state.shown, state.route).heat.edges_s;
      if (edges.length) return [edges[0], edges[edges.length - 1]];
    }
    if (low === null || low === undefined || high <= 0) return [0.001, 1];
    const least = low > 0 ? low : high / 1000;
    return [least / 1.25, high * 1.25];
  }

  moved(chart) {
    const { left, idx } = chart.cursor;
    const bin = left === undefined || left < 0 || idx === null ? null : idx;
    if (chart.cursor.event) state.cursor = bin;
    this.readout(bin);
  }

  /** Show names of the lines, and their values under the cursor. */
  readout(bin) {
    const items = this.lines.map((line) => ({ ...line, value: bin === null ? null : (line.shown || line.values)[bin] }));
    const isWorkers = this.spec.of === "worker";
    let shown = items;
    if (isWorkers) {
      shown = items.filter((item) => item.value !== null && item.value !== undefined)
        .sort((a, b) => b.value - a.value).slice(0, window.innerWidth < PHONE ? 2 : 5);
    }
    if (this.spec.id === "durations") shown = shown.slice().reverse();
    const parts = shown.filter((item) => item.name || (bin !== null && this.spec.id === "rate")).map((item) => {
      const swatch = element("i", { className: "swatch" });
      swatch.style.backgroundColor = item.colour();
      const value = bin === null ? "" : item.value === null || item.value === undefined ? UNKNOWN : this.spec.format(item.value);
      return element("span", { className: "item" }, swatch, [item.name, value].filter(Boolean).join(" "));
    });
    if (this.spec.id === "durations" && state.heat && bin === null) parts.unshift(heatLegend());
    if (!this.lines.length && this.spec.empty) parts.push(element("span", { className: "item", textContent: this.spec.empty }));
    if (bin !== null && this.spec.id === "rate") {
      parts.push(element("span", { className: "item at", textContent: cursorTime(bin) }));
    }
    this.read.replaceChildren(...parts);
  }

  /** Say in words what the chart shows, for those who do not see it. */
  describe(isKnown) {
    const [first, last] = binsOf(state.shown, range());
    const of = this.spec.about ? `: ${this.spec.about},` : this.spec.of === "route" ? ` of ${findRoute(state.shown, state.route).label}` : " of the chosen workers";
    const most = this.lines.map((line) => largest(line.values.map((v) => (v === undefined ? null : v)), first, last))
      .filter((value) => value !== null);
    const text = isKnown && most.length ? `highest value ${this.spec.format(Math.max(...most))}` : this.spec.empty || "not recorded";
    this.plot.setAttribute("aria-label", `${this.spec.title}${of} over time: ${text}`);
  }

  text(bin) {
    const items = this.lines.map((line) => {
      const value = (line.shown || line.values)[bin];
      return value === null || value === undefined ? "" : `${line.name} ${this.spec.format(value)}`.trim();
    }).filter(Boolean);
    return items.length ? `${this.spec.title}: ${items.join(", ")}` : "";
  }
}

const cursorTime = (bin) => clock(binBegin(state.shown, bin), Math.min(state.shown.bin_ms, 1000));

function series(line, spec) {
  const common = { scale: "y", stroke: line.colour, width: line.width || 1.25, dash: line.dash, points: { show: false, filter: isolated, size: 4, fill: line.colour } };
  if (line.points) return { ...common, width: 0, paths: () => null, points: { show: true, size: 3, width: 0, fill: line.colour, stroke: line.colour } };
  if (line.bars) return { ...common, width: 0, fill: line.colour, paths: uPlot.paths.bars({ size: [1, 40], gap: 0 }), points: { show: false } };
  if (spec.stems) return { ...common, width: 0, fill: line.colour, paths: uPlot.paths.bars({ size: [0.8, 3, 1.5] }), points: { show: false } };
  return line.fill ? { ...common, width: 1.5, fill: () => colour(line.fill) } : common;
}

function bands(lines) {
  const found = [];
  lines.forEach((line, index) => {
    // Between this line and the next lower one.
    if (line.band) found.push({ series: [index + 1, index + 2], fill: () => colour(line.band) });
  });
  return found;
}

/** The points of a line that have no neighbour, which no stroke shows. */
function isolated(chart, index) {
  const values = chart.data[index];
  const found = [];
  for (let bin = 0; bin < values.length; bin += 1) {
    const isAlone = (values[bin - 1] === null || bin === 0) && (values[bin + 1] === null || bin === values.length - 1);
    if (values[bin] !== null && values[bin] !== undefined && isAlone) found.push(bin);
  }
  return found;
}

const axisStyle = () => ({
  font: "11px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
  stroke: () => colour("--muted"),
  grid: { stroke: () => colour("--grid"), width: 1 },
  ticks: { show: false },
});

function timeAxis(hasLabels) {
  return {
    ...axisStyle(), size: hasLabels ? 26 : 0, gap: 6, space: 78,
    values: hasLabels ? (chart, splits, axis, space, step) => timeLabels(chart, splits, step) : () => [],
  };
}

function timeLabels(chart, splits, stepMs) {
  let before = null;
  const last = chart.width - gutter() - RIGHT - 16; // a label further right would be cut off
  return splits.map((ms) => {
    if (chart.valToPos(ms, "x") > last) return "";
    if (stepMs >= 86400000) return day(ms);
    const today = isoDay(ms);
    const isNew = before !== null && before !== today;
    before = today;
    return isNew ? day(ms) : clock(ms, stepMs);
  });
}

function valueAxis(spec) {
  const splits = (_, axis, low, high) => {
    const most = Math.max(Math.floor((spec.height || HEIGHTS.plain) / 30), 2);
    if (spec.log) return logSplits(low, high, most);
    return linearSplits(low, high, most, spec.whole, spec.base2);
  };
  return { ...axisStyle(), size: gutter(), gap: 6, splits, filter: (_, found) => found, values: (_, found) => found.map(spec.format) };
}

function linearSplits(low, high, most, whole, base2) {
  const rough = (high - low) / most;
  const unit = base2 ? 1024 ** Math.floor(Math.log(Math.max(high, 1)) / Math.log(1024)) : 1;
  const power = 10 ** Math.floor(Math.log10(rough / unit));
  let step = [1, 2, 5, 10].find((factor) => factor * power * unit >= rough) * power * unit;
  if (whole) step = Math.max(step, 1);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high; n += 1) found.push(Number((n * step).toPrecision(12)));
  return found;
}

function logSplits(low, high, most) {
  for (const factors of [[1, 2, 5], [1, 3], [1]]) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      for (const factor of factors) {
        const value = Number((factor * 10 ** power).toPrecision(3));
        if (value >= low && value <= high) found.push(value);
      }
    }
    if (found.length < 2) return linearSplits(low, high, most, false, false).filter((value) => value > 0);
    if (found.length <= most + 1) return found;
    if (factors.length === 1) return found.filter((_, index) => index % Math.ceil(found.length / most) === 0);
  }
  return [];
}

function inCell(buckets, row, merged) {
  let n = 0;
  for (let bucket = row * merged; bucket < Math.min((row + 1) * merged, buckets.length); bucket += 1) n += buckets[bucket];
  return n;
}

function mostInCell(counts, first, last, merged) {
  let most = 1;
  for (let bin = first; bin <= last; bin += 1) {
    for (let row = 0; row * merged < counts[bin].length; row += 1) most = Math.max(most, inCell(counts[bin], row, merged));
  }
  return most;
}

/** The heat map: one rectangle for each bin and bucket, darker the more observations. */
function drawHeat(chart) {
  const strips = state.shown;
  const { edges_s: edges, counts } = findRoute(strips, state.route).heat;
  if (edges.length < 2) return;
  const [first, last] = binsOf(strips, range());
  // A few buckets are drawn as one, so that a cell can be seen.
  const merged = Math.ceil((edges.length - 1) / HEAT_ROWS);
  const rows = Math.ceil((edges.length - 1) / merged);
  const most = mostInCell(counts, first, last, merged);
  const picture = document.createElement("canvas");
  picture.width = last - first + 1;
  picture.height = rows;
  const context = picture.getContext("2d");
  const ramp = [1, 2, 3, 4, 5].map((step) => colour(`--heat-${step}`));
  for (let bin = first; bin <= last; bin += 1) {
    for (let bucket = 0; bucket < rows; bucket += 1) {
      const n = inCell(counts[bin], bucket, merged);
      if (!n) continue;
      context.fillStyle = heatColour(ramp, Math.log1p(n) / Math.log1p(most));
      context.fillRect(bin - first, rows - 1 - bucket, 1, 1);
    }
  }
  const { ctx, bbox } = chart;
  const left = chart.valToPos(binBegin(strips, first), "x", true);
  const right = chart.valToPos(binBegin(strips, last + 1), "x", true);
  const top = chart.valToPos(edges[0] * (edges[1] / edges[0]) ** (rows * merged), "y", true);
  const bottom = chart.valToPos(edges[0], "y", true);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(picture, left, top, right - left, bottom - top);
  ctx.restore();
}

/** What the colours of the heat map mean. */
function heatLegend() {
  const [first, last] = binsOf(state.shown, range());
  const { edges_s: edges, counts } = findRoute(state.shown, state.route).heat;
  const most = mostInCell(counts, first, last, Math.ceil((edges.length - 1) / HEAT_ROWS));
  const boxes = [1, 2, 3, 4, 5].map((step) => {
    const box = element("i", { className: "heat-box" });
    box.style.backgroundColor = colour(`--heat-${step}`);
    return box;
  });
  return element("span", { className: "item" }, "1 ", ...boxes, ` ${count(most)} per cell`);
}

const heatColour = (ramp, share) => ramp[Math.min(Math.floor(share * ramp.length), ramp.length - 1)];

function clipped(chart, draw) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  draw(ctx, bbox);
  ctx.restore();
}

/** Shade the time of the chosen finding. */
function shadeChosen(chart) {
  if (!state.place) return;
  clipped(chart, (ctx, bbox) => {
    const left = chart.valToPos(state.place.begin, "x", true);
    const right = chart.valToPos(state.place.end, "x", true);
    ctx.fillStyle = colour("--place");
    ctx.fillRect(left, bbox.top, Math.max(right - left, 2 * uPlot.pxRatio), bbox.height);
  });
}

const MARK_STYLES = {
  kill: { token: "--bad", dash: [] },
  drop: { token: "--bad", dash: [4, 3] },
  "clock step": { token: "--warn", dash: [4, 3] },
  "switched off": { token: "--muted", dash: [4, 3] },
  "switched on": { token: "--muted", dash: [4, 3] },
  start: { token: "--muted", dash: [1, 3] },
  stop: { token: "--muted", dash: [1, 3] },
};

function drawMarks(chart) {
  const { begin, end } = range();
  clipped(chart, (ctx, bbox) => {
    const ratio = uPlot.pxRatio;
    for (const mark of state.shown.marks) {
      if (mark.at_ms < begin || mark.at_ms > end) continue;
      const style = MARK_STYLES[mark.kind];
      const x = Math.round(chart.valToPos(mark.at_ms, "x", true));
      ctx.strokeStyle = colour(style.token);
      ctx.lineWidth = ratio;
      ctx.setLineDash(style.dash.map((length) => length * ratio));
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
  });
}

const NOTHING = { left: 0, top: 0, width: 0, height: 0 };
let isChoosing = false;

function chooseSelected(chart) {
  const { left, width } = chart.select;
  if (width < 4) return;
  const chosen = { begin: chart.posToVal(left, "x"), end: chart.posToVal(left + width, "x") };
  chart.setSelect(NOTHING, false);
  if (isChoosing) return;
  // All charts have the same selection: the first one counts, after each has reported its own.
  isChoosing = true;
  queueMicrotask(() => {
    isChoosing = false;
    chooseRange(chosen);
  });
}

/** A finger moves the cursor, and chooses a range if it moves sideways. */
function touch(chart) {
  let from = null;
  const at = (event) => {
    const box = chart.over.getBoundingClientRect();
    return Math.min(Math.max(event.clientX - box.left, 0), box.width);
  };
  chart.over.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse") from = at(event);
  });
  chart.over.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const left = at(event);
    moveCursor(chart.posToIdx(left));
    for (const strip of strips) {
      if (strip.chart) strip.chart.setSelect({ left: Math.min(from, left), top: 0, width: Math.abs(left - from), height: strip.chart.over.clientHeight }, false);
    }
  });
  const finish = (event) => {
    if (from === null) return;
    const [begin, end] = [Math.min(from, at(event)), Math.max(from, at(event))];
    from = null;
    for (const strip of strips) {
      if (strip.chart) strip.chart.setSelect(NOTHING, false);
    }
    moveCursor(chart.posToIdx(at(event)));
    if (event.type === "pointerup" && end - begin > 16) {
      chooseRange({ begin: chart.posToVal(begin, "x"), end: chart.posToVal(end, "x") });
    }
  };
  chart.over.addEventListener("pointerup", finish);
  chart.over.addEventListener("pointercancel", finish);
}

const strips = [];

function makeStrips() {
  for (const spec of SPECS) strips.push(new Strip(spec, byId(spec.of === "route" ? "route-charts" : "worker-charts")));
}

/** Draw the strips of routes or of workers; the time axis is below durations, and the last one. */
function drawStrips(of = null) {
  const drawn = strips.filter((strip) => !of || strip.spec.of === of);
  for (const strip of drawn) strip.load();
  const lastOfWorkers = drawn.findLast((strip) => strip.spec.of === "worker" && strip.isKnown);
  for (const strip of drawn) {
    strip.hasTime = Boolean(strip.spec.time) || strip === lastOfWorkers;
    strip.draw();
  }
}

/** Put the cursor of all strips on a bin; null for none. */
function moveCursor(bin) {
  state.cursor = bin === null ? null : Math.min(Math.max(bin, 0), state.shown.bins - 1);
  for (const strip of strips) {
    if (!strip.chart) {
      strip.readout(state.cursor);
      continue;
    }
    const x = state.cursor === null ? null : state.shown.begin_ms + (state.cursor + 0.5) * state.shown.bin_ms;
    strip.chart.setCursor(x === null ? { left: -10, top: -10 } : { left: strip.chart.valToPos(x, "x"), top: 1 }, false);
    strip.readout(state.cursor);
  }
}
