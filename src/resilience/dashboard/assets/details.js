// All there is to know of one policy, below its row.

const SPAN_WORDS = (seconds) => (seconds >= 3600 ? `${digits(seconds / 3600)}${NB}h` : `${digits(seconds / 60)}${NB}min`);

class Detail {
  constructor(row) {
    this.row = row;
    this.picture = new Picture(480, 150, "how long calls took", ...LATENCY_LAYERS);
    this.caption = el("figcaption", { class: "soft" });
    this.marks = el("ul", { class: "keys" });
    this.timeout = el("p", { class: "soft" });
    this.calls = el("tbody");
    this.objective = el("div");
    this.parts = el("ol", { class: "parts" });
    this.keys = el("ul", { class: "circuits" });
    this.acts = el("p", { class: "buttons" });
    row.panel.append(
      el("figure", {}, el("h4", { text: "How long calls took" }), this.picture.node, this.marks, this.caption, this.timeout),
      el("div", {}, el("table", {}, el("thead", {}, el("tr", {}, ...["Calls", "last minute", "in all"].map((text) =>
          el("th", { scope: "col", text })))), this.calls), this.objective),
      el("div", { class: "wide" }, el("h4", { text: "Parts, outermost first" }), this.parts, this.keys, this.acts));
    if (row.policy.circuit && steeringWanted) this.addActs();
  }

  draw() {
    const { policy } = this.row;
    this.drawLatency();
    this.drawCalls(policy.numbers[""]);
    this.drawObjective(policy);
    this.drawParts(policy);
    this.drawKeys(policy.circuit);
  }

  drawLatency() {
    const { latency, timeout } = this.row.view();
    const axis = durations([{ latency, timeout }]);
    this.picture.resize(Math.min(600, Math.max(240, this.picture.node.parentElement.clientWidth)));
    drawLatency(this.picture, axis, latency, timeout, 128, 6);
    const marks = decades(axis).map((at) => [place(axis, at, this.picture.width), span(at)]);
    const words = marks.map(([x, text], index) => svg("text", {
      x: short(x), y: 146, text, "text-anchor": index === 0 ? "start" : index === marks.length - 1 ? "end" : "middle",
    }));
    if (this.ticks !== JSON.stringify(marks)) {
      this.ticks = JSON.stringify(marks);
      this.picture.words.replaceChildren(...words);
    }
    const rows = latency.p50 ? [["mark", `p50 ${span(latency.p50)}, p99 ${span(latency.p99)}`]] : [];
    if (timeout) rows.push(["limit", `timeout of one attempt ${span(timeout)}`]);
    rows.unshift(["bars", "went well"], ["bars-bad", "went badly"]);
    const key = JSON.stringify(rows);
    if (this.marks.dataset.words !== key) {
      this.marks.dataset.words = key;
      this.marks.replaceChildren(...rows.map(([kind, text]) => el("li", {},
        svg("svg", { viewBox: "0 0 20 12", "aria-hidden": "true" },
          svg("path", { class: kind, d: kind.startsWith("bars") ? "M2 1H18V11H2Z" : "M10 0V12" })), text)));
    }
    const many = latency.buckets.reduce((sum, [, good, bad]) => sum + good + bad, 0);
    const when = latency.over === null ? "since the process began" : `in the last ${age(latency.over)}`;
    say(this.caption, many ? `${whole(many)} calls ${when}, with all attempts and waits; refused calls are not in it.` : "No calls yet.");
    set(this.picture.node, "aria-label", `how long ${whole(many)} calls took, ${rows.map((one) => one[1]).join("; ")}`);
    say(this.timeout, this.row.policy.timeout?.words ?? "");
  }

  drawCalls(own) {
    const recent = this.row.recent;
    const named = { calls: "begun", attempts: "attempts made" };
    const rows = ["calls", ...ENDS].filter((name) => own[name] || name in named).map((name) =>
      [named[name] ?? readable(name), whole(recent[name]), whole(own[name] ?? 0)]);
    rows.push(["under way", NONE, whole(own.in_flight ?? 0)]);
    const key = JSON.stringify(rows);
    if (this.calls.dataset.key === key) return;
    this.calls.dataset.key = key;
    this.calls.replaceChildren(...rows.map(([name, ...values]) =>
      el("tr", {}, el("th", { scope: "row", text: name }), ...values.map((text) => el("td", { text })))));
  }

  drawObjective({ numbers, slo }) {
    const level = numbers.slo;
    if (!level) return;
    const key = JSON.stringify(level);
    if (this.objective.dataset.key === key) return;
    this.objective.dataset.key = key;
    const within = slo.within ? ` within ${span(slo.within)}` : "";
    const rows = [["good", whole(level.good)], ["bad", whole(level.bad)], ["budget left", percent(level.left)]];
    for (const [name, value] of Object.entries(level)) {
      if (name.startsWith("burn.")) rows.push([`burn, ${SPAN_WORDS(Number(name.slice(5)))}`, `${digits(value, 2)}×`]);
    }
    const shown = el("dl");
    list(shown, rows);
    this.objective.replaceChildren(el("h4", { text: `Objective: ${percent(level.objective)} go well${within}` }), shown);
  }

  drawParts(policy) {
    const rows = [...policy.parts, ...(policy.slo ? ["slo"] : [])].map((kind) => {
      const counts = Object.entries(policy.numbers[kind] ?? {}).filter(([name, value]) =>
        value && kind !== "slo" && !/^(is|seconds|quantile)\.|^most$/.test(name));
      return [kind, policy.settings?.[kind] ?? "", counts.map(([name, value]) => `${readable(name)} ${digits(value, 5)}`).join(" · ")];
    });
    const key = JSON.stringify(rows);
    if (this.parts.dataset.key === key) return;
    this.parts.dataset.key = key;
    this.parts.replaceChildren(...rows.map(([kind, words, counts]) => el("li", {},
      el("b", { text: kind }), el("code", { text: words }), el("span", { class: "soft", text: counts }))));
  }

  drawKeys(circuit) {
    const rows = (circuit?.keys ?? []).map((one) => [one.state, `${one.key}: circuit ${CIRCUIT[one.state]} for ${age(one.seconds)}`]);
    const key = JSON.stringify(rows);
    if (this.keys.dataset.key === key) return;
    this.keys.dataset.key = key;
    this.keys.replaceChildren(...rows.map(([state, text]) =>
      el("li", { class: "circuit", "data-state": state }, icon(state), el("span", { text }))));
  }

  addActs() {
    const name = this.row.name;
    this.acts.append(...Object.entries(ACTS).map(([act, { label }]) =>
      el("button", { type: "button", "data-act": act, "aria-label": `${label} ${name}`, text: label, onclick: () => askToSteer(name, act) })));
  }
}

/** Names and values, as the list was given them. */
function list(node, rows) {
  const key = JSON.stringify(rows);
  if (node.dataset.key === key) return;
  node.dataset.key = key;
  node.replaceChildren(...rows.map(([name, value]) => el("div", {}, el("dt", { text: name }), el("dd", { text: value }))));
}
