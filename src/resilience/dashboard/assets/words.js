// Numbers as people write them. A no-break space keeps a number and its unit together.

const NB = "\u00a0";
const NONE = "\u2013";

function digits(value, most = 3) {
  if (value !== 0 && Math.abs(value) < 0.001) return "0";
  return Number(value.toPrecision(most)).toLocaleString("en", { maximumFractionDigits: 3 });
}

/** A span of time: 84 ms, 1.2 s, 3 min. */
function span(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  if (seconds < 1e-3) return `${digits(seconds * 1e6)}${NB}µs`;
  if (seconds < 1) return `${digits(seconds * 1e3)}${NB}ms`;
  if (seconds < 120) return `${digits(seconds)}${NB}s`;
  return age(seconds);
}

/** A span of time that is shorter already: 3.5 s. */
function roughly(seconds) {
  return seconds < 1 ? `less than 1${NB}s` : `${digits(Math.ceil(seconds))}${NB}s`;
}

/** A span of time nobody wants the tenths of: 12 s, 3 min, 5 h. */
function age(seconds) {
  if (seconds < 120) return `${Math.floor(seconds)}${NB}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}${NB}min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)}${NB}h`;
  return `${Math.floor(seconds / 86400)}${NB}days`;
}

/** A share; never 100 % unless it is all, never 0 % unless it is nothing. */
function percent(share) {
  if (share === null || !Number.isFinite(share)) return NONE;
  const value = share * 100;
  if (value > 99.99 && value < 100) return `99.99${NB}%`;
  if (value > 0 && value < 0.01) return `0.01${NB}%`;
  const places = Math.abs(value) >= 99 && value < 100 ? 2 : Math.abs(value) >= 10 ? 1 : 2;
  return `${Number(value.toFixed(places)).toLocaleString("en")}${NB}%`;
}

function whole(value) {
  return Math.round(value).toLocaleString("en");
}

function perSecond(value) {
  if (value === null) return NONE;
  return value >= 100 ? whole(value) : digits(value, value >= 10 ? 3 : 2);
}

function clock(time) {
  return new Date(time * 1000).toLocaleTimeString("en-GB");
}

const readable = (name) => name.replaceAll("_", " ");
