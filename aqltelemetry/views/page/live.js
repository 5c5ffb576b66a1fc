// Talks to the server of a live page (`aqltelemetry serve`). A file has no server.
//
// The page asks, relative to its own address:
//   report.json                 the report's document
//   strips?begin=&end=&bins=    strips of a range in ms since the epoch, or of the whole recording
//   events                      server-sent events named `changed`, after which it asks again
// While it is paused, or asks already, changes only are noted.

const LIVE_BINS = 400;

const live = {
  isPaused: false,
  isAsking: false,
  isStale: false,
  asked: 0,

  isOn: () => Boolean(page.live),

  start() {
    byId("pause").hidden = false;
    byId("live").hidden = false;
    byId("pause").addEventListener("click", () => this.pause(!this.isPaused));
    const source = new EventSource("events");
    source.addEventListener("changed", (event) => {
      const { error } = JSON.parse(event.data);
      if (error) this.say("error", error);
      else this.refresh();
    });
    source.addEventListener("error", () => this.say("no connection"));
    this.say("waiting");
    this.refresh();
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
        const [report, found] = await Promise.all([get("report.json"), get(`strips?bins=${LIVE_BINS}`)]);
        if (this.isPaused) {
          this.isStale = true;
          break;
        }
        update(report, found);
        this.say("live");
      }
    } catch (error) {
      this.say("no connection", error.message);
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
