// Formats numbers, durations, times: every text of a value on the page.

const UNKNOWN = "–";
const MINUS = "−";

function number(value, digits) {
  if (value === null || value === undefined || Number.isNaN(value)) return UNKNOWN;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const count = (value) => number(value, 0);

/** A duration in milliseconds, without the unit: more decimals the shorter it is. */
function milliseconds(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  const value = seconds * 1000;
  if (value >= 100) return number(value, 1);
  if (value >= 1) return number(value, 2);
  if (value >= 0.01 || value === 0) return number(value, 3);
  return number(value, 6);
}

/** A duration with the unit that suits it: 250 ns, 1.2 µs, 84.5 ms, 2.5 s, 3 min. */
function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return UNKNOWN;
  if (seconds === 0) return "0 s";
  for (const [unit, size] of [["ns", 1e-9], ["µs", 1e-6], ["ms", 1e-3], ["s", 1]]) {
    const value = seconds / size;
    if (value < 999.5 && !(unit === "s" && value >= 120)) return `${significant(value, 3)} ${unit}`;
  }
  return seconds < 7200 ? `${significant(seconds / 60, 3)} min` : `${significant(seconds / 3600, 3)} h`;
}

/** A long time in words: 10 min 38 s. */
function span(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  if (seconds < 60) return `${significant(seconds, 3)} s`;
  const parts = [];
  let rest = Math.round(seconds);
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const whole = Math.floor(rest / size);
    rest -= whole * size;
    if (whole) parts.push(`${whole} ${unit}`);
  }
  return parts.slice(0, 2).join(" ");
}

function significant(value, digits) {
  if (value === 0) return "0";
  return value.toLocaleString("en-US", { maximumSignificantDigits: digits });
}

/** A rate with one decimal, or two significant digits below 1. */
function rate(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return value >= 1 || value <= 0 ? number(value, 1) : significant(value, 2);
}

const mebibytes = (bytes) => (bytes === null ? UNKNOWN : number(bytes / 1048576, 1));

function bytes(value) {
  if (value === null || value === undefined) return UNKNOWN;
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (value >= size) return `${significant(value / size, 3)} ${unit}`;
  }
  return `${significant(value, 3)} B`;
}

const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;

const zone = { utc: false };
const formats = new Map();

function parts(ms) {
  const name = zone.utc ? "UTC" : undefined;
  if (!formats.has(name)) {
    formats.set(name, new Intl.DateTimeFormat("en-GB", {
      timeZone: name, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit",
      hour: "2-digit", minute: "2-digit", second: "2-digit",
    }));
  }
  const found = {};
  for (const part of formats.get(name).formatToParts(new Date(ms))) found[part.type] = part.value;
  found.ms = String(((Math.floor(ms) % 1000) + 1000) % 1000).padStart(3, "0");
  return found;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

function day(ms) {
  const at = parts(ms);
  return `${Number(at.day)} ${MONTHS[Number(at.month) - 1]}`;
}

function isoDay(ms) {
  const at = parts(ms);
  return `${at.year}-${at.month}-${at.day}`;
}

/** A time of day, as exact as a step of so many milliseconds needs. */
function clock(ms, stepMs = 1000) {
  const at = parts(ms);
  if (stepMs >= 60000) return `${at.hour}:${at.minute}`;
  return `${at.hour}:${at.minute}:${at.second}${stepMs < 1000 ? `.${at.ms}` : ""}`;
}

const moment = (ms, stepMs = 1000) => `${isoDay(ms)} ${clock(ms, stepMs)}`;

/** The name of the time zone that times are shown in. */
function zoneName(ms) {
  if (zone.utc) return "UTC";
  const found = new Intl.DateTimeFormat("en-GB", { timeZoneName: "shortOffset" })
    .formatToParts(new Date(ms)).find((part) => part.type === "timeZoneName");
  return found ? found.value.replace("-", MINUS) : "local time";
}

/** The time that a text means, in ms: 14:30, 14:30:05.250, 2026-11-24 14:30, ISO 8601. */
function parseTime(text, nearMs) {
  const trimmed = text.trim();
  const plain = /^(?:(\d{4})-(\d\d)-(\d\d)[T ]+)?(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d{1,3}))?)?$/.exec(trimmed);
  if (!plain) {
    const found = /^\d{4}-\d\d-\d\d/.test(trimmed) ? Date.parse(trimmed) : NaN;
    return Number.isNaN(found) ? null : found;
  }
  const near = parts(nearMs);
  const [year, month, dayOf] = plain[1] ? plain.slice(1, 4) : [near.year, near.month, near.day];
  const fields = [year, month - 1, dayOf, plain[4], plain[5], plain[6] || 0, (plain[7] || "0").padEnd(3, "0")].map(Number);
  if (fields[3] > 23 || fields[4] > 59 || fields[5] > 59) return null;
  return zone.utc ? Date.UTC(...fields) : new Date(...fields).getTime();
}
