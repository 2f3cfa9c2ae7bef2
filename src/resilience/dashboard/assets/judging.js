// How a policy fares, and why, in words. The thresholds are those of somebody who has to decide where to look first.

const HEALTH = { trouble: 3, strained: 2, well: 1, idle: 0 };
const CALM = 10; // seconds until a policy that is better moves down the list

const CIRCUIT = { closed: "closed", open: "open", half_open: "half-open", forced_open: "forced open", disabled: "disabled" };

/** The state of a policy's circuit, or of the worst of its circuits. */
function circuitWords(circuit) {
  const words = CIRCUIT[circuit.state];
  const many = Object.values(circuit.states).reduce((sum, n) => sum + n, 0);
  if (circuit.keys.length) return `${circuit.states[circuit.state]} of ${many} circuits ${words} for ${age(circuit.seconds)}`;
  if (many > 1) return `${many} circuits closed`;
  return circuit.state === "closed" ? "circuit closed" : `circuit ${words} for ${age(circuit.seconds)}`;
}

/** Health and reasons, the weightiest first. */
function judge(policy, recent) {
  if (policy.error) return { health: "trouble", reasons: [policy.error] };
  const found = [];
  const note = (health, words) => found.push({ health, words });
  circuitReasons(policy, note);
  callReasons(policy, recent, note);
  partReasons(policy, recent, note);
  budgetReasons(policy, note);
  found.sort((a, b) => HEALTH[b.health] - HEALTH[a.health]);
  const health = found[0]?.health ?? (recent.calls || policy.numbers[""].in_flight ? "well" : "idle");
  return { health, reasons: found.map((one) => one.words) };
}

function circuitReasons(policy, note) {
  const circuit = policy.circuit;
  if (!circuit) return;
  const where = circuit.keys.slice(0, 3).map((one) => one.key).join(", ");
  const say = (health, words) => note(health, [where, words].filter(Boolean).join(": "));
  if (circuit.state === "open") {
    say("trouble", circuit.retry_after ? `next probe in ${roughly(circuit.retry_after)}` : "the next call is a probe");
  } else if (circuit.state === "forced_open") say("trouble", "until it is reset");
  else if (circuit.state === "half_open") say("strained", "probing");
  else if (circuit.state === "disabled") say("strained", "all calls pass, until it is reset");
}

function callReasons(policy, recent, note) {
  if (recent.ended < 5 || recent.success === null) return;
  const lost = 1 - recent.success;
  const refused = recent.rejected / recent.ended;
  const words = `${percent(lost)} of calls go badly` + (refused > lost / 2 ? `, most of them refused here` : "");
  if (lost >= 0.1) note("trouble", words);
  else if (lost >= 0.01) note("strained", words);
  if (recent.amplification >= 1.2) note("strained", `${digits(recent.amplification - 1, 2)} retries for each call`);
}

function partReasons(policy, recent, note) {
  const { bulkhead, retry, limiter, timeout } = policy.numbers;
  if (bulkhead?.limit && bulkhead.in_use >= bulkhead.limit) {
    note("strained", `all ${bulkhead.limit} slots taken` + (bulkhead.queued ? `, ${bulkhead.queued} waiting` : ""));
  }
  if (limiter && limiter.tokens !== undefined && limiter.tokens <= 0 && recent.waited > 0) {
    note("strained", limiter.tokens < 0 ? `${-limiter.tokens} calls wait for a token` : "no tokens left");
  }
  if (retry?.budget !== undefined && retry.budget < 1) note("strained", "the retry budget is empty");
  if (policy.timeout?.learned && timeout.seconds >= 0.999 * timeout.most && policy.timeout.basis !== "initial") {
    note("strained", `the timeout is at its ceiling, ${span(timeout.most)}`);
  }
}

function budgetReasons(policy, note) {
  const slo = policy.numbers.slo;
  if (!slo || !policy.slo) return;
  const row = policy.slo.spans.find(([long, short, rate]) =>
    Math.min(slo[`burn.${long}`] ?? 0, slo[`burn.${short}`] ?? 0) > rate);
  if (slo.shedding) note("trouble", "the error budget burns: no retries and hedges");
  else if (row && slo.bad >= policy.slo.minimum_bad) {
    note("trouble", `the error budget burns at ${digits(slo[`burn.${row[1]}`], 2)} times its rate`);
  } else if (slo.left < 0 && slo.bad >= policy.slo.minimum_bad) note("strained", "the error budget is spent");
}
