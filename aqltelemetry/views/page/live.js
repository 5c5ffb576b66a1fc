// Talks to the server of a live page (`aqltelemetry serve`). A file has no server.
//
// The page asks, relative to its own address:
//   events                     server-sent events: each message is {"document": ..., "strips": ...}
//   strips?begin_ms=&end_ms=   {"strips": ...}, finer ones of a range
// `update` shows what an event brings. While it is paused, or a range is chosen, the newest is kept.

const live = {
  kept: null,
  isPaused: false,
  asked: 0,

  isOn: () => Boolean(page.live),

  start() {
    if (!this.isOn()) return;
    byId("pause").hidden = false;
    byId("live").hidden = false;
    byId("pause").addEventListener("click", () => this.pause(!this.isPaused));
    const source = new EventSource("events");
    source.addEventListener("message", (event) => {
      const { document: report, strips: found } = JSON.parse(event.data);
      this.state("live");
      update(report, found);
    });
    source.addEventListener("error", () => this.state("no connection"));
    this.state("waiting");
  },

  state(text) {
    byId("live").textContent = this.isPaused ? "paused" : text;
    byId("live").dataset.state = this.isPaused ? "paused" : text;
  },

  pause(isPaused) {
    this.isPaused = isPaused;
    byId("pause").setAttribute("aria-pressed", String(isPaused));
    this.state("live");
    if (!isPaused && this.kept) update(...this.kept);
  },

  /** Ask for finer strips of the chosen range. */
  async askForRange() {
    this.asked += 1;
    if (!this.isOn() || !state.range) return;
    const mine = this.asked;
    const { begin, end } = state.range;
    const query = new URLSearchParams({ begin_ms: begin, end_ms: end });
    let found;
    try {
      const response = await fetch(`strips?${query}`);
      if (!response.ok) return;
      found = (await response.json()).strips;
    } catch {
      return; // The coarser strips stay.
    }
    if (mine !== this.asked) return;
    state.shown = found;
    drawRange();
  },
};

/** Show a new document and new strips of the whole recording. */
function update(report, found) {
  if (live.isPaused) {
    live.kept = [report, found];
    return;
  }
  const before = new Set((state.overview ? state.overview.workers : []).map(workerKey));
  for (const worker of found.workers.slice(0, MAX_COLOURS)) {
    if (!before.has(workerKey(worker))) state.workers.add(workerKey(worker));
  }
  state.document = report;
  state.overview = found;
  if (!state.range || !live.isOn()) state.shown = found;
  drawAll();
}
