// What is chosen, and the sums and percentiles of a range of time.

const MAX_COLOURS = 8;

const state = {
  document: null,
  overview: null, // strips of the whole recording
  shown: null, // strips that are drawn: finer ones of a range, where a server gives them
  route: null,
  heat: false,
  range: null, // {begin, end} in ms; null for the whole recording
  workers: new Set(),
  place: null, // the time of the chosen finding: {begin, end} in ms
  worker: null, // the PID that the finding is about
  cursor: null, // index of a bin
  stallPlace: null, // the cause, line and function whose stalls are listed
  allFindings: false, // whether all of many findings are shown
};

const workerKey = (worker) => `${worker.pid} ${worker.writer}`;
const wholeRange = (strips = state.overview) => ({ begin: strips.drawn_begin_ms, end: strips.drawn_end_ms });
const range = () => state.range || wholeRange();

/** The strips of all requests and of the routes; one route is not shown twice. */
function routes(strips) {
  const overall = strips.overall;
  return strips.routes.length === 1 && strips.routes[0].totals.count === overall.totals.count
    ? strips.routes
    : [overall, ...strips.routes];
}

function findRoute(strips, label) {
  const all = routes(strips);
  return all.find((route) => route.label === label) || all[0];
}

const binBegin = (strips, bin) => strips.begin_ms + bin * strips.bin_ms;

/** The first and the last bin that lie in a range, for sums. */
function binsOf(strips, { begin, end }) {
  const first = Math.floor((begin - strips.begin_ms) / strips.bin_ms + 0.001);
  const last = Math.ceil((end - strips.begin_ms) / strips.bin_ms - 0.001) - 1;
  const clip = (bin) => Math.min(Math.max(bin, 0), strips.bins - 1);
  return [clip(first), Math.max(clip(last), clip(first))];
}

/** A range whose ends are those of bins, at least one bin long. */
function snapped(strips, { begin, end }) {
  const whole = wholeRange(strips);
  const first = Math.floor((begin - strips.begin_ms) / strips.bin_ms + 0.001);
  const last = Math.max(Math.ceil((end - strips.begin_ms) / strips.bin_ms - 0.001), first + 1);
  return {
    begin: Math.max(binBegin(strips, Math.max(first, 0)), whole.begin),
    end: Math.min(binBegin(strips, Math.min(last, strips.bins)), whole.end),
  };
}

function sum(values, first, last) {
  let total = 0;
  for (let bin = first; bin <= last; bin += 1) total += values[bin] || 0;
  return total;
}

function largest(values, first, last) {
  let found = null;
  for (let bin = first; bin <= last; bin += 1) {
    if (values[bin] !== null && (found === null || values[bin] > found)) found = values[bin];
  }
  return found;
}

const SHARES = [["p50_s", 0.5], ["p90_s", 0.9], ["p95_s", 0.95], ["p99_s", 0.99], ["p999_s", 0.999]];

/** The largest relative error of a percentile that is computed from a heat map's buckets. */
function errorBound(heat) {
  const edges = heat.edges_s;
  return edges.length < 2 ? 0 : Math.sqrt(edges[1] / edges[0]) - 1;
}

/** What a route did in a range: exact for all bins, else percentiles from the buckets. */
function totalsOf(route, strips, chosen) {
  const whole = wholeRange(strips);
  // A server answers with times rounded to a microsecond.
  const isWhole = chosen.begin <= whole.begin + 0.01 && chosen.end >= whole.end - 0.01;
  const [first, last] = isWhole ? [0, strips.bins - 1] : binsOf(strips, chosen);
  const seconds = (Math.min(chosen.end, whole.end) - Math.max(chosen.begin, whole.begin)) / 1000;
  const found = {
    count: sum(route.count, first, last),
    errors: sum(route.errors, first, last),
    kinds: {},
    seconds,
    exact: isWhole,
    bound: 0,
  };
  for (const [kind, counts] of Object.entries(route.errors_by_kind)) {
    found.kinds[kind] = sum(counts, first, last);
  }
  found.per_s = found.count / seconds;
  if (isWhole) return Object.assign(found, route.totals);
  found.max_s = largest(route.max_s, first, last);
  found.bound = errorBound(route.heat);
  const buckets = new Array(Math.max(route.heat.edges_s.length - 1, 0)).fill(0);
  for (let bin = first; bin <= last; bin += 1) {
    route.heat.counts[bin].forEach((n, bucket) => { buckets[bucket] += n; });
  }
  for (const [name, share] of SHARES) found[name] = quantile(buckets, route.heat.edges_s, share, found.max_s);
  return found;
}

/** A percentile from buckets: each observation counts as the middle of its bucket. */
function quantile(buckets, edges, share, longest) {
  const total = buckets.reduce((a, b) => a + b, 0);
  if (!total) return null;
  const position = share * (total - 1);
  const at = (rank) => {
    let seen = 0;
    for (let bucket = 0; bucket < buckets.length; bucket += 1) {
      seen += buckets[bucket];
      if (seen > rank) return Math.sqrt(edges[bucket] * edges[bucket + 1]);
    }
    return edges[edges.length - 1];
  };
  const low = at(Math.floor(position));
  const high = at(Math.ceil(position));
  return Math.min(low + (high - low) * (position - Math.floor(position)), longest);
}

/**
 * Samples are rarer than bins: join those that are near each other, leave real gaps.
 * Returns the values of a line, and what the cursor shows: the last sample before it.
 */
function joined(values) {
  const known = [];
  values.forEach((value, bin) => { if (value !== null) known.push(bin); });
  if (known.length < 2) return { values };
  const steps = known.slice(1).map((bin, index) => bin - known[index]).sort((a, b) => a - b);
  const longest = steps[Math.floor(steps.length / 2)] * 3 + 1;
  const found = values.slice();
  const shown = values.slice();
  for (let index = 1; index < known.length; index += 1) {
    if (known[index] - known[index - 1] <= longest) {
      for (let bin = known[index - 1] + 1; bin < known[index]; bin += 1) {
        found[bin] = undefined;
        shown[bin] = values[known[index - 1]];
      }
    }
  }
  return { values: found, shown };
}
