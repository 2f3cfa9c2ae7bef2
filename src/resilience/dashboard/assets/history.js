// What a policy did in the last minutes: differences of snapshots, kept by the page and by nobody else.

const KEPT = 185; // seconds
const MINUTE = 60;
const SPARK = { bins: 60, each: 3 };
const GROWTH = (1.01 / 0.99) ** 4; // from one border of the latency buckets to the next

const ENDS = ["succeeded", "failed", "timed_out", "rejected", "poor", "cancelled", "attempts"];
const BAD = ["poor", "failed", "timed_out", "rejected"];

class History {
  constructor() {
    this.points = [];
    this.latencies = [];
  }

  /** Take in what a snapshot says of the policy at *time*. A count that went back is a new policy of the name. */
  push(time, policy) {
    const own = policy.numbers[""];
    const sum = (names) => names.reduce((total, name) => total + (own[name] ?? 0), 0);
    const point = {
      time,
      calls: own.calls,
      good: own.succeeded ?? 0,
      bad: sum(BAD),
      retries: (policy.numbers.retry?.retries ?? 0) + (policy.numbers.hedge?.hedged ?? 0),
      waited: (policy.numbers.limiter?.waited ?? 0) + (policy.numbers.bulkhead?.waited ?? 0),
    };
    for (const name of ENDS) point[name] = own[name] ?? 0;
    const last = this.points.at(-1);
    if (last && (point.calls < last.calls || point.good < last.good || time < last.time)) {
      this.points = [];
      this.latencies = [];
    }
    this.points.push(point);
    while (this.points[0].time < time - KEPT) this.points.shift();
    const kept = this.latencies.at(-1);
    if (!kept || time - kept.time >= 10) this.latencies.push({ time, buckets: policy.latency.buckets });
    while (this.latencies[0].time < time - KEPT) this.latencies.shift();
  }

  /** What changed in the last *seconds*, or since the page is looking; `over` says in how many seconds. */
  during(seconds) {
    const last = this.points.at(-1);
    const first = this.points.find((point) => point.time >= last.time - seconds - 0.5) ?? last;
    const change = { over: last.time - first.time };
    for (const name of Object.keys(last)) change[name] = last[name] - first[name];
    change.ended = change.good + change.bad;
    change.success = change.ended ? change.good / change.ended : null;
    change.rate = change.over ? change.calls / change.over : null;
    change.amplification = change.calls > 0 ? 1 + change.retries / change.calls : 1;
    return change;
  }

  /** Calls that ended well and badly, per bar of the small chart, oldest first. */
  bars() {
    const bars = Array.from({ length: SPARK.bins }, () => [0, 0]);
    const end = this.points.at(-1).time;
    for (let index = 1; index < this.points.length; index += 1) {
      const [before, after] = [this.points[index - 1], this.points[index]];
      const from = SPARK.bins - (end - before.time) / SPARK.each;
      const to = SPARK.bins - (end - after.time) / SPARK.each;
      for (let bar = Math.max(0, Math.floor(from)); bar < Math.min(SPARK.bins, Math.ceil(to)); bar += 1) {
        const share = (Math.min(bar + 1, to) - Math.max(bar, from)) / (to - from);
        bars[bar][0] += (after.good - before.good) * share;
        bars[bar][1] += (after.bad - before.bad) * share;
      }
    }
    return bars;
  }

  /** How long calls took lately, `over` so many seconds; since the beginning (`null`) if there were none. */
  latency(now) {
    const first = this.latencies[0];
    const before = new Map(first.buckets.map(([upper, good, bad]) => [upper, [good, bad]]));
    const recent = [];
    for (const [upper, good, bad] of now) {
      const [was, badly] = before.get(upper) ?? [0, 0];
      if (good > was || bad > badly) recent.push([upper, good - was, bad - badly]);
    }
    const over = recent.length ? this.points.at(-1).time - first.time : null;
    const buckets = recent.length ? recent : now;
    return { buckets, over, p50: quantile(buckets, 0.5), p99: quantile(buckets, 0.99) };
  }
}

/** Within its bucket a quantile is taken to lie as if the logarithms were spread evenly. */
function quantile(buckets, share) {
  const total = buckets.reduce((sum, bucket) => sum + bucket[1], 0);
  if (!total) return null;
  let wanted = share * total;
  for (const [upper, good] of buckets) {
    if (good && wanted <= good) return upper * GROWTH ** (wanted / good - 1);
    wanted -= good;
  }
  return buckets.at(-1)[0];
}
