// Ask, take in, draw; once a second, and less often if that is much work for either side. Not while nobody looks.

const EVERY = 1000; // ms
const PATIENCE = 10000;
const WORK = 20; // asking and drawing take at most a twentieth of the time

const rows = new Map();
const histories = new Map();
const wanted = new Set();
const happenings = new Happenings();
let processId = null;
let heardAt = 0; // when this process answered last, ms
let answers = 0;
let timer = null;
let asking = false;
let again = false;
const others = new Map();

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) entry.target.row.seen = entry.isIntersecting;
  draw();
}, { rootMargin: "300px" });

function refresh() {
  if (asking) again = true;
  else ask();
}

async function ask() {
  clearTimeout(timer);
  if (asking || document.hidden) return;
  asking = true;
  let wait = EVERY;
  try {
    const query = new URLSearchParams();
    for (const [name, row] of rows) if (row.open) query.append("settings", name);
    const answer = await fetch(`data?${query}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    const data = await answer.json();
    if (!answer.ok) throw new Error(data.error);
    if (data.version !== 1) throw new Error("the process speaks another version than this page: reload it");
    const began = performance.now();
    take(data);
    found();
    wait = Math.max(EVERY, WORK * (performance.now() - began + 1000 * (data.took ?? 0)));
    if (answers === 1) wait = 400; // the first rates
  } catch (error) {
    lost(error instanceof TypeError || error instanceof DOMException ? "" : error.message);
    wait = 2 * EVERY;
  }
  asking = false;
  timer = setTimeout(ask, again ? 0 : wait);
  again = false;
}

function found() {
  show(get("lost"), false);
  document.body.classList.remove("gone");
  say(get("live-words"), "live");
}

function lost(words) {
  const since = heardAt ? ` since ${clock(heardAt / 1000)}` : "";
  say(get("lost-words"), `No answer${since}. ${words ? `${words}. ` : ""}Asking again; below is what was last known.`);
  say(get("lost-age"), heardAt ? `(${age((Date.now() - heardAt) / 1000)})` : "");
  show(get("lost"), true);
  document.body.classList.add("gone");
  say(get("live-words"), "no answer");
}

/** Several processes may answer at one address; only one of them is shown, for as long as it does. */
function ours(process) {
  const now = Date.now();
  if (processId !== process.id) {
    if (processId !== null && now - heardAt < 3 * EVERY) {
      others.set(process.pid, now);
      return false;
    }
    processId = process.id;
    histories.clear();
    others.clear();
    happenings.heard = null;
  }
  heardAt = now;
  return true;
}

function take(data) {
  answers += 1;
  const mine = ours(data.process);
  show(get("others"), others.size > 0);
  say(get("others"), `${others.size + 1} processes answer here. Shown is one of them, pid ${processId?.split("-")[1]}; each has its own numbers.`);
  if (!mine) return;
  const { process } = data;
  say(get("process"), `pid ${process.pid} on ${process.host} · Python ${process.python} · up ${age(process.uptime)}`);
  const names = new Set(data.policies.map((policy) => policy.name));
  for (const [name, row] of rows) {
    if (names.has(name)) continue;
    seen.unobserve(row.node);
    row.node.remove();
    rows.delete(name);
    histories.delete(name);
  }
  for (const policy of data.policies) {
    let history = histories.get(policy.name);
    if (!history) histories.set(policy.name, history = new History());
    if (!policy.error) history.push(data.time, policy);
    let row = rows.get(policy.name);
    if (!row) rows.set(policy.name, row = new Row(policy.name, seen));
    row.take(policy, history, data.time);
  }
  happenings.take(data.events);
  arrange();
}

/** Which rows are shown, and in which order: those in trouble first, then by name. */
function arrange() {
  const search = get("search").value.trim().toLowerCase();
  const counts = { trouble: 0, strained: 0, well: 0, idle: 0 };
  const fitting = [];
  for (const row of rows.values()) {
    counts[row.health] += 1;
    const fits = row.name.toLowerCase().includes(search) && (!wanted.size || wanted.has(row.health));
    show(row.node, fits);
    if (fits) fitting.push(row);
  }
  fitting.sort((a, b) => HEALTH[b.health] - HEALTH[a.health] || (a.name < b.name ? -1 : 1));
  const list = get("rows");
  const focused = document.activeElement;
  fitting.forEach((row, index) => {
    if (list.children[index] !== row.node) list.insertBefore(row.node, list.children[index] ?? null);
  });
  if (document.activeElement !== focused && list.contains(focused)) focused.focus({ preventScroll: true });
  drawHealths(counts);
  show(get("empty"), rows.size === 0);
  show(get("nothing"), rows.size > 0 && fitting.length === 0);
  show(get("heads"), fitting.length > 0);
  say(get("shown"), fitting.length === rows.size ? whole(rows.size) : `${whole(fitting.length)} of ${whole(rows.size)}`);
  happenings.search = search;
  draw();
}

function draw() {
  const all = [...rows.values()].filter((row) => row.policy && !row.node.hidden);
  const near = all.filter((row) => row.seen);
  const axis = durations(near.map((row) => row.view()));
  drawHeads(axis);
  for (const row of near) row.draw(axis);
  drawTotals(all);
  happenings.draw();
}

function drawTotals(all) {
  let [rate, good, ended] = [0, 0, 0];
  for (const row of all) {
    if (!row.recent) continue;
    rate += row.recent.rate ?? 0;
    good += row.recent.good;
    ended += row.recent.ended;
  }
  say(get("totals"), ended ? `${perSecond(rate)} calls/s, ${percent(good / ended)} went well in the last minute` : "");
}

function drawHeads(axis) {
  const key = `${axis.low} ${axis.high}`;
  const heads = get("heads");
  if (heads.dataset.key === key) return;
  heads.dataset.key = key;
  const marks = decades(axis);
  heads.replaceChildren(
    el("span", { text: "health" }), el("span", { text: "policy" }), el("span", { text: "calls" }),
    el("span", { text: "success" }),
    el("span", { class: "scale" }, ...marks.map((at) => el("i", { text: span(at) }))),
    el("span", { text: "levels" }));
}

function drawHealths(counts) {
  const group = get("healths");
  if (!group.children.length) {
    group.append(...Object.keys(HEALTH).map((health) => el("button", {
      type: "button", "data-health": health, "aria-pressed": "false",
      onclick: (event) => {
        if (!wanted.delete(health)) wanted.add(health);
        set(event.currentTarget, "aria-pressed", wanted.has(health));
        arrange();
      },
    }, icon(health), el("b", { text: "0" }), el("span", { text: health === "trouble" ? "in trouble" : health }))));
  }
  for (const button of group.children) {
    say(button.querySelector("b"), whole(counts[button.dataset.health]));
    button.classList.toggle("none", !counts[button.dataset.health]);
  }
}

function paint() {
  const choice = get("theme").value;
  const dark = choice === "auto" ? matchMedia("(prefers-color-scheme: dark)").matches : choice === "dark";
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

get("theme").value = stored.read("theme") ?? "auto";
if (!get("theme").value) get("theme").value = "auto";
get("theme").addEventListener("change", () => {
  stored.write("theme", get("theme").value);
  paint();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
paint();
get("search").addEventListener("input", arrange);
get("show-all").addEventListener("click", () => {
  get("search").value = "";
  wanted.clear();
  for (const button of get("healths").children) set(button, "aria-pressed", false);
  arrange();
});
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || get("steer").open) return;
  event.preventDefault();
  get("search").focus();
});
document.addEventListener("visibilitychange", () => {
  say(get("live-words"), document.hidden ? "paused" : "live");
  if (!document.hidden) refresh();
});
ask();
