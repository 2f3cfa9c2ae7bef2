// One row for each policy. What is in it is made when it first comes into view, and drawn only while it is there.

const WORDS = { trouble: "trouble", strained: "strained", well: "well", idle: "idle" };

class Row {
  constructor(name, seen) {
    this.name = name;
    this.seen = false;
    this.built = false;
    this.detail = null;
    this.node = el("li", { class: "row" });
    this.node.row = this;
    seen.observe(this.node);
  }

  /** Take in a snapshot of the policy. Nothing is drawn yet. */
  take(policy, history, now) {
    this.policy = policy;
    this.history = history;
    this.recent = policy.error ? null : history.during(MINUTE);
    const judged = judge(policy, this.recent);
    this.reasons = judged.reasons;
    // Worse at once, better only after a while: a list that hops about cannot be read.
    if (this.health === undefined || HEALTH[judged.health] >= HEALTH[this.health]) {
      this.health = judged.health;
      this.since = now;
    } else if (now - this.since > CALM) {
      this.health = judged.health;
    }
    if (judged.health === this.health) this.since = now;
    else if (!this.reasons.length) this.reasons = [`better for ${age(now - this.since)}`];
    set(this.node, "data-health", this.health);
  }

  build() {
    this.built = true;
    const id = `detail-${Row.count = (Row.count ?? 0) + 1}`;
    this.button = el("button", {
      type: "button", class: "name", "aria-expanded": "false", "aria-controls": id, text: this.name,
      onclick: () => this.toggle(),
    });
    this.state = el("p", { class: "state" });
    this.circuit = el("span", { class: "circuit" });
    this.why = el("span", { class: "why" });
    this.rate = el("b");
    this.extra = el("p", { class: "extra" });
    this.success = el("b");
    this.of = el("span", { class: "soft" });
    this.quantiles = el("p", { class: "quantiles" });
    this.meters = el("ul", { class: "meters" });
    this.spark = new Picture(150, 30, "calls of the last three minutes", "bars", "bars-bad", "axis");
    this.histogram = new Picture(240, 34, "how long calls took", ...LATENCY_LAYERS);
    this.panel = el("div", { class: "detail", id, hidden: true });
    this.node.append(
      el("div", { class: "line" },
        this.state,
        el("div", { class: "who" }, el("h3", {}, this.button), el("p", {}, this.circuit, this.why)),
        el("div", { class: "rate" }, el("p", {}, this.rate, "/s"), this.spark.node, this.extra),
        el("div", { class: "success" }, el("p", {}, this.success), this.of),
        el("div", { class: "latency" }, this.histogram.node, this.quantiles),
        this.meters),
      this.panel);
  }

  toggle() {
    const open = this.panel.hidden;
    this.panel.hidden = !open;
    set(this.button, "aria-expanded", open);
    if (open) {
      this.detail ??= new Detail(this);
      if (!this.policy.error) this.detail.draw();
      refresh();
    }
  }

  get open() {
    return this.built && !this.panel.hidden;
  }

  /** How long calls took lately, and the timeout that is drawn on it. */
  view() {
    if (this.policy.error) return { latency: { buckets: [] }, timeout: null };
    const timeout = this.policy.numbers.timeout?.seconds ?? this.policy.numbers.timeout?.most ?? null;
    return { latency: this.history.latency(this.policy.latency.buckets), timeout };
  }

  draw(axis) {
    if (!this.built) this.build();
    this.axis = axis;
    const policy = this.policy;
    if (this.state.dataset.health !== this.health) {
      this.state.dataset.health = this.health;
      this.state.replaceChildren(icon(this.health), el("span", { text: WORDS[this.health] }));
    }
    this.drawCircuit(policy.circuit);
    say(this.why, this.reasons.join("; "));
    if (policy.error) return;
    const lately = this.history.during(10);
    say(this.rate, perSecond(lately.rate));
    say(this.extra, this.extras(lately));
    say(this.success, percent(this.recent.success));
    say(this.of, this.recent.ended ? `of ${whole(this.recent.ended)} ${this.recent.ended === 1 ? "call" : "calls"}` : "no calls");
    drawSpark(this.spark, this.history.bars());
    const { latency, timeout } = this.view();
    drawLatency(this.histogram, axis, latency, timeout);
    this.drawQuantiles(latency, timeout);
    this.drawMeters(policy);
    if (this.open) this.detail.draw();
  }

  /** What is worth a word beside the rate: refusals and retries. */
  extras(lately) {
    const found = [];
    if (lately.over && lately.rejected) found.push(`${perSecond(lately.rejected / lately.over)}/s refused`);
    if (this.recent.amplification >= 1.01) found.push(`retries ×${digits(this.recent.amplification)}`);
    return found.join(", ");
  }

  drawCircuit(circuit) {
    const words = circuit ? circuitWords(circuit) : "";
    if (this.circuit.dataset.words === words) return;
    this.circuit.dataset.words = words;
    this.circuit.dataset.state = circuit?.state ?? "";
    this.circuit.replaceChildren(...(circuit ? [icon(circuit.state), el("span", { text: words })] : []));
  }

  drawQuantiles(latency, timeout) {
    const rows = [["p50", latency.p50], ["p99", latency.p99], ["timeout", timeout]];
    const words = rows.map(([name, value]) => `${name} ${span(value)}`).join();
    if (this.quantiles.dataset.words === words) return;
    this.quantiles.dataset.words = words;
    this.quantiles.replaceChildren(...rows.filter(([name, value]) => value || name !== "timeout").map(([name, value]) =>
      el("span", { class: name }, el("i", { text: name }), ` ${span(value)}`)));
    set(this.histogram.node, "aria-label", `how long calls took: ${words.replaceAll(",", ", ")}`);
  }

  drawMeters(policy) {
    const meters = metersOf(policy);
    const words = JSON.stringify(meters);
    if (this.meters.dataset.words === words) return;
    this.meters.dataset.words = words;
    this.meters.replaceChildren(...meters.map(([name, value, share, low]) => {
      const filled = Math.min(1, Math.max(0, share ?? 0));
      const gauge = svg("svg", { viewBox: "0 0 40 4", preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("path", { class: "rail", d: "M0 2H40" }), svg("path", { class: low ? "fill low" : "fill", d: `M0 2H${short(filled * 40)}` }));
      return el("li", {}, el("i", { text: name }), el("b", { text: value }), ...(share === null ? [] : [gauge]));
    }));
  }
}

/** Levels of the parts that have one: name, words, how full (0 to 1), and whether that is bad. */
function metersOf(policy) {
  const { limiter, bulkhead, retry, slo } = policy.numbers;
  const found = [];
  if (limiter?.rate !== undefined) found.push(["rate", limiter.rate ? `${digits(limiter.rate)}/s` : "free", null, false]);
  else if (limiter?.tokens !== undefined) {
    const burst = policy.limits.burst;
    const full = burst ? limiter.tokens / burst : null;
    found.push(["tokens", burst ? `${whole(limiter.tokens)} of ${burst}` : whole(limiter.tokens), full, limiter.tokens <= 0]);
  } else if (limiter?.keys !== undefined) found.push(["keys", whole(limiter.keys), null, false]);
  if (bulkhead) {
    const limit = bulkhead.limit;
    const queue = bulkhead.queued ? ` +${bulkhead.queued}` : "";
    found.push(["slots", `${bulkhead.in_use}${limit ? ` of ${limit}` : ""}${queue}`,
      limit ? bulkhead.in_use / limit : null, limit ? bulkhead.in_use >= limit : false]);
  }
  if (retry?.budget !== undefined) {
    const capacity = policy.limits.budget;
    found.push(["retries", capacity ? `${digits(Math.floor(retry.budget))} of ${digits(capacity)}` : digits(retry.budget),
      capacity ? retry.budget / capacity : null, retry.budget < 1]);
  }
  if (slo) found.push(["budget", slo.left < 0 ? "spent" : percent(slo.left), slo.left, slo.left <= 0]);
  return found;
}
