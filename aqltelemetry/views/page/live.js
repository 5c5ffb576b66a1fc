// Talks to the server of a live page (`aqltelemetry serve`). A file has no server.
//
// The page asks, relative to its own address:
//   report.json                 the report's document
//   strips?begin=&end=&bins=    strips of a range in ms since the epoch, or of the whole recording
//   events                      server-sent events named `changed`, after which it asks again
// An event has the numbers of the newest `strips` and `report`: the page asks for what has changed.
// While it is paused, or asks already, changes only are noted. While it is hidden, it is not notified.

const LIVE_BINS = 400;
const SILENCE_MS = 5000;

const live = {
  isPaused: false,
  isAsking: false,
  isStale: false,
  asked: 0,
  source: null,
  silence: null, // The timer that says that there is no connection.
  seen: "", // The last change.
  newest: {}, // The numbers of the newest strips and report.
  shown: {}, // The numbers of those that are shown.

  isOn: () => Boolean(page.live),

  start() {
    byId("pause").hidden = false;
    byId("live").hidden = false;
    byId("pause").addEventListener("click", () => this.pause(!this.isPaused));
    document.addEventListener("visibilitychange", () => this.listen());
    this.say("waiting");
    this.listen();
  },

  /** Be notified of changes, unless nobody looks. */
  listen() {
    clearTimeout(this.silence);
    this.silence = null;
    if (this.source) this.source.close();
    this.source = null;
    if (document.hidden) return;
    this.source = new EventSource("events");
    this.source.addEventListener("changed", (event) => this.changed(event));
    // A server may end its response after each event. Only silence means that there is none.
    const wait = () => {
      this.silence ??= setTimeout(() => {
        this.say(this.seen ? "no connection" : "waiting");
        this.listen();
      }, SILENCE_MS);
    };
    this.source.addEventListener("open", () => clearTimeout(this.silence));
    this.source.addEventListener("error", wait);
    wait();
  },

  changed({ data, lastEventId }) {
    clearTimeout(this.silence);
    this.silence = null;
    const { error, observations, strips: ofStrips, report: ofReport } = JSON.parse(data);
    const change = `${lastEventId} ${data}`;
    if (error) this.say("error", error);
    else if (change === this.seen) this.say("live");
    else {
      const last = this.newest;
      const isOfAnotherServer = ofStrips < last.strips || (ofStrips === last.strips && observations !== last.observations);
      if (isOfAnotherServer) this.shown = {};
      this.newest = { observations, strips: ofStrips, report: ofReport };
      this.refresh();
    }
    this.seen = change;
  },

  say(state, text = state) {
    byId("live").textContent = this.isPaused ? "paused" : text;
    byId("live").dataset.state = this.isPaused ? "paused" : state;
  },

  pause(isPaused) {
    this.isPaused = isPaused;
    byId("pause").setAttribute("aria-pressed", String(isPaused));
    this.say("live");
    if (!isPaused && this.isStale) this.refresh();
  },

  /** Ask for what is new, once at a time. */
  async refresh() {
    this.isStale = true;
    if (this.isPaused || this.isAsking) return;
    this.isAsking = true;
    try {
      while (this.isStale && !this.isPaused) {
        this.isStale = false;
        const { newest, shown } = this;
        const [report, found] = await Promise.all([
          newest.report === shown.report ? state.document : get("report.json"),
          newest.strips === shown.strips ? state.overview : get(`strips?bins=${LIVE_BINS}`),
        ]);
        if (this.isPaused) {
          this.isStale = true;
          break;
        }
        this.shown = newest;
        update(report, found);
        this.say("live");
      }
    } catch (error) {
      this.say("no connection", error.message);
      this.seen = ""; // Ask again.
      this.shown = {};
    } finally {
      this.isAsking = false;
    }
  },

  /** Ask for finer strips of the chosen range. */
  async askForRange() {
    this.asked += 1;
    if (!this.isOn() || !state.range) return;
    const mine = this.asked;
    const query = new URLSearchParams({ begin: state.range.begin, end: state.range.end, bins: LIVE_BINS });
    try {
      const found = await get(`strips?${query}`);
      if (mine !== this.asked) return;
      state.shown = found;
      drawRange();
    } catch {
      // The coarser strips stay.
    }
  },
};

async function get(address) {
  const response = await fetch(address, { headers: { Accept: "application/json" } });
  const found = await response.json();
  if (!response.ok) throw new Error(found.error || response.statusText);
  return found;
}
