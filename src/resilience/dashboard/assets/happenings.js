// The last events, newest first.

const KINDS = {
  "state changes": ["circuit_changed", "budget_burning"],
  "failures": ["attempt_failed", "attempt_timed_out", "gave_up"],
  "refusals": ["attempt_rejected", "budget_exhausted"],
  "retries and hedges": ["retrying", "hedged", "hedge_won", "fell_back"],
  "waits": ["waited"],
  "learned": ["timeout_revised", "rate_revised"],
};
const TONES = { circuit_changed: "strained", budget_burning: "strained", gave_up: "trouble" };
const SHOWN = 60;

class Happenings {
  constructor() {
    this.list = get("events");
    this.kinds = get("kinds");
    this.kinds.append(...Object.keys(KINDS).map((name) => el("option", { value: name, text: name })));
    this.kinds.addEventListener("change", () => this.draw());
    this.all = [];
    this.search = "";
    this.heard = null;
  }

  take(events) {
    const last = events.at(-1)?.number ?? 0;
    if (this.heard !== null) {
      const said = events.filter((one) => one.number > this.heard && one.kind === "circuit_changed").map((one) => one.text);
      if (said.length) say(get("said"), said.slice(-3).join(". "));
    }
    this.heard = last;
    this.all = events;
  }

  draw() {
    const kinds = KINDS[this.kinds.value];
    const fits = this.all.filter((one) => (!kinds || kinds.includes(one.kind)) && one.policy.toLowerCase().includes(this.search));
    const shown = fits.slice(-SHOWN).reverse();
    say(get("events-shown"), this.all.length ? `${shown.length} of ${this.all.length}` : "");
    show(get("no-events"), !shown.length);
    const key = shown.map((one) => `${one.number}.${one.count}`).join();
    if (this.key === key) return;
    this.key = key;
    this.list.replaceChildren(...shown.map((one) => this.line(one)));
  }

  line(one) {
    const text = one.text.startsWith(`${one.policy}: `) ? one.text.slice(one.policy.length + 2) : one.text;
    return el("li", { "data-tone": TONES[one.kind] ?? "" },
      el("time", { datetime: new Date(one.time * 1000).toISOString(), text: clock(one.time) }),
      el("b", { text: one.policy }),
      el("span", { class: "kind", text: readable(one.kind) }),
      el("span", { class: "text", text }),
      ...(one.count > 1 ? [el("span", { class: "count", title: "within a second", text: `×${one.count}` })] : []));
  }
}
