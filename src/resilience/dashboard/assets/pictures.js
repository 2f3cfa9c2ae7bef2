// Small pictures: icons, the calls of the last minutes, and how long calls took.

const ICONS = {
  trouble: [["solid", "M5 1h6l4 4v6l-4 4H5l-4-4V5z"], ["cut", "M8 4v5M8 11.4v.2"]],
  strained: [["solid", "M8 1l7.4 13.5H.6z"], ["cut", "M8 5.6v4M8 12v.2"]],
  well: [["solid", "M8 .8a7.2 7.2 0 1 1 0 14.4A7.2 7.2 0 0 1 8 .8z"], ["cut", "M4.6 8.3l2.4 2.3 4.4-4.8"]],
  idle: [["line", "M8 1.8a6.2 6.2 0 1 1 0 12.4A6.2 6.2 0 0 1 8 1.8zM5 8h6"]],
  closed: [["line", "M.8 9H15.2"], ["solid", "M4.5 7a2 2 0 1 1 0 4 2 2 0 0 1 0-4zM11.5 7a2 2 0 1 1 0 4 2 2 0 0 1 0-4z"]],
  open: [["line", "M.8 11h4M11.2 11h4M4.8 11L11 3.6"], ["solid", "M4.8 9.4a1.6 1.6 0 1 1 0 3.2 1.6 1.6 0 0 1 0-3.2z"]],
  half_open: [["line", "M.8 11h4M11.2 11h4M4.8 11L11.4 7.6"], ["solid", "M4.8 9.4a1.6 1.6 0 1 1 0 3.2 1.6 1.6 0 0 1 0-3.2z"]],
  forced_open: [["line", "M.8 12h4M11.2 12h4M5 2.4l6 6M11 2.4l-6 6"]],
  disabled: [["line", "M.8 11h3.4M11.8 11h3.4M4.2 11c0-9 7.6-9 7.6 0"]],
};

function icon(name) {
  const paths = ICONS[name].map(([kind, d]) => svg("path", { class: kind, d }));
  return svg("svg", { class: `icon ${name}`, viewBox: "0 0 16 16", "aria-hidden": "true" }, ...paths);
}

/** A picture that is drawn again and again: its paths by name. */
class Picture {
  constructor(width, height, label, ...layers) {
    this.width = width;
    this.height = height;
    this.paths = Object.fromEntries(layers.map((layer) => [layer, svg("path", { class: layer })]));
    this.words = svg("g");
    this.node = svg("svg", {
      viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label,
    }, ...Object.values(this.paths), this.words);
  }

  /** Be as wide as there is room, so that words keep their size. */
  resize(width) {
    if (width === this.width) return;
    this.width = width;
    set(this.node, "viewBox", `0 0 ${width} ${this.height}`);
  }

  draw(layer, d) {
    set(this.paths[layer], "d", d || "M0 0");
  }
}

const short = (value) => Number(value.toFixed(1));

/** A bar that stands on *foot*. */
function bar(left, right, foot, height) {
  return `M${short(left)} ${short(foot)}V${short(foot - height)}H${short(right)}V${short(foot)}Z`;
}

function drawSpark(picture, bars) {
  const most = Math.max(1e-9, ...bars.map(([good, bad]) => good + bad));
  const wide = picture.width / bars.length;
  const tall = picture.height - 1;
  let [good, bad] = ["", ""];
  bars.forEach(([well, badly], index) => {
    const [left, right] = [index * wide, (index + 1) * wide - 0.6];
    const high = badly ? Math.max(1.5, (tall * badly) / most) : 0;
    if (badly > 0) bad += bar(left, right, tall, high);
    if (well > 0) good += bar(left, right, tall - high, Math.max(0, (tall * (well + badly)) / most - high));
  });
  picture.draw("bars", good);
  picture.draw("bars-bad", bad);
  picture.draw("axis", `M0 ${tall + 0.5}H${picture.width}`);
}

/** The span that an axis of durations must show, in whole decades; the same for all rows, so that they compare. */
function durations(views) {
  let [low, high] = [Infinity, 0];
  for (const { latency, timeout } of views) {
    if (latency.buckets.length) {
      low = Math.min(low, latency.buckets[0][0]);
      high = Math.max(high, latency.buckets.at(-1)[0]);
    }
    if (timeout) high = Math.max(high, timeout);
  }
  if (!high) return { low: 1e-3, high: 1 };
  low = Math.max(Math.min(low, high / 10), high / 1e6); // six decades are enough
  const at = { low: 10 ** Math.floor(Math.log10(low / 1.01)), high: 10 ** Math.ceil(Math.log10(high)) };
  return at;
}

function place(axis, seconds, width) {
  const share = Math.log(seconds / axis.low) / Math.log(axis.high / axis.low);
  return Math.min(1, Math.max(0, share)) * width;
}

function decades(axis) {
  const found = [];
  for (let at = axis.low; at <= axis.high * 1.001; at *= 10) found.push(at);
  return found;
}

/** Good and bad calls by how long they took, on the ground line *foot*, with the marks of quantiles and timeout. */
function drawLatency(picture, axis, latency, timeout, foot = picture.height - 1, roof = 2) {
  const width = picture.width;
  const most = Math.max(1, ...latency.buckets.map(([, good, bad]) => good + bad));
  const scale = (foot - roof) / most;
  let [good, bad] = ["", ""];
  for (const [upper, well, badly] of latency.buckets) {
    const left = place(axis, upper / GROWTH, width);
    const right = Math.max(left + 1, place(axis, upper, width) - 0.3);
    const high = badly ? Math.max(1.5, badly * scale) : 0;
    if (badly) bad += bar(left, right, foot, high);
    if (well) good += bar(left, right, foot - high, Math.max(1, well * scale));
  }
  const mark = (seconds) => (seconds ? `M${short(place(axis, seconds, width))} ${roof}V${foot}` : "");
  picture.draw("grid", decades(axis).slice(1, -1).map((at) => `M${short(place(axis, at, width))} ${roof}V${foot}`).join(""));
  picture.draw("bars", good);
  picture.draw("bars-bad", bad);
  picture.draw("mark", mark(latency.p50) + mark(latency.p99));
  picture.draw("limit", mark(timeout));
  picture.draw("axis", `M0 ${foot + 0.5}H${width}`);
}

const LATENCY_LAYERS = ["grid", "bars", "bars-bad", "mark", "limit", "axis"];
