"use strict";
// Asks the service how it is every two seconds and shows it. Names of files are hostile: whatever comes from outside
// becomes text by textContent, with what could turn or hide a line escaped as the commands do it.

const EVERY = 2000, PATIENCE = 8000;
// So far back the rate looks, in milliseconds.
const LOOK_BACK = 20000;

const $ = (selector, from = document) => from.querySelector(selector);

// ---- Words ----

const utf8 = new TextEncoder();
const shown = (text) => String(text ?? "").replace(/[\p{Cc}\\\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu, (one) =>
  one === "\\" ? "\\\\" : [...utf8.encode(one)].map((byte) => "\\x" + byte.toString(16).padStart(2, "0")).join(""));

function size(bytes) {
  const units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
  if (bytes < 1024) return `${bytes} B`;
  let value = bytes / 1024, unit = 0;
  while (value >= 1023.5 && unit + 1 < units.length) { value /= 1024; unit++; }
  return `${value.toFixed(value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2)} ${units[unit]}`;
}

function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [d, h, m] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min ${whole % 60} s` : `${whole} s`;
}

function when(text) {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return "";
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const day = at.toDateString() === new Date().toDateString() ? "" : at.toLocaleDateString() + " ";
  return day + time;
}

const count = (number, one, many) => `${number.toLocaleString()} ${number === 1 ? one : many}`;

// Sign and colour of each state; the word stands beside them always.
const STATES = {
  queued: ["…", ""], uploading: ["↑", "busy"], completing: ["↑", "busy"], stored: ["✓", "good"], failed: ["✗", "bad"],
  unresolved: ["?", "bad"], skipped: ["–", ""], cancelled: ["–", ""], gone: ["–", ""],
};

// ---- Elements ----

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function look(element, className) {
  if (element.className !== className) element.className = className;
}

// A name in a run of its own, so that its direction turns nothing around it.
const name = (className) => make("bdi", className);

// Pieces of text in a row, each only where there is something to say.
function pieces(element, texts) {
  const wanted = texts.filter((one) => one);
  while (element.children.length > wanted.length) element.lastChild.remove();
  wanted.forEach((one, index) => {
    const [text, className] = Array.isArray(one) ? one : [one, ""];
    const piece = element.children[index] ?? element.appendChild(make("span"));
    look(piece, className);
    say(piece, text);
  });
}

// Text in which what stands in backticks is to be typed.
function coded(element, text) {
  if (element.said === text) return;
  element.said = text;
  element.replaceChildren(...text.split("`").map((piece, index) => make(index % 2 ? "code" : "span", "", piece)));
}

// Keeps the element of each item, so that focus, selection and scrolling stay where they are.
function list(parent, items, key, build) {
  const have = (parent.have ??= new Map()), seen = new Set();
  let at = parent.firstElementChild;
  for (const item of items) {
    const id = key(item);
    if (seen.has(id)) continue;
    seen.add(id);
    let entry = have.get(id);
    if (!entry) have.set(id, (entry = build()));
    entry.fill(item);
    if (entry.element === at) at = at.nextElementSibling;
    else parent.insertBefore(entry.element, at);
  }
  for (const [id, entry] of have) {
    if (!seen.has(id)) { entry.element.remove(); have.delete(id); }
  }
}

async function copy(button, element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
  } catch {
    // Without TLS a browser has no clipboard for a page: select it, and copy as a person would.
    getSelection().selectAllChildren(element);
    document.execCommand("copy");
  }
  $("#said").textContent = `${element.textContent} is copied.`;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

// ---- Sections ----

function notices(live) {
  const stuck = live.stuck.map((one) => ({
    key: "stuck " + one.what, what: `Stuck: ${shown(one.what)}`, why: `${shown(one.at)} for ${duration(one.seconds)}`,
    remedy: "see the log; `upspool status` names it too", more: "",
  }));
  const holds = live.holds.map((hold) => ({
    key: "hold " + hold.scope, what: `On hold: ${shown(hold.scope)}`, why: `${hold.code}: ${shown(hold.message)}`,
    remedy: hold.remedy,
    more: `since ${when(hold.since)}, next try ${when(hold.next_probe)}, ${count(hold.probes, "try", "tries")} failed so far`,
  }));
  const paces = live.paces.map((pace) => ({
    key: "pace " + pace.account, mild: true, what: `Slowed down by the server: account ${shown(pace.account)}`,
    why: `${count(pace.slots, "Part", "Parts")} at once` + (pace.until ? `, and nothing before ${when(pace.until)}` : ""),
    remedy: pace.until ? "nothing: it goes on by itself; `upspool resume` tries at once" : "nothing: it speeds up again by itself",
    more: "",
  }));
  list($("#notices .rows"), [...holds, ...stuck, ...paces], (one) => one.key, () => {
    const element = make("li");
    const parts = ["name", "", "remedy", "quiet"].map((className) => element.appendChild(make("p", className)));
    return { element, fill: (one) => {
      look(element, one.mild ? "mild" : "");
      [one.what, one.why, one.remedy, one.more].forEach((text, index) => (index === 2 ? coded : say)(parts[index], text));
    } };
  });
}

const WATCHED = {
  events: ["watched by events", ""], polling: ["watched by scans alone", ""],
  degraded: ["! watched by scans alone", "warn"], missing: ["✗ missing", "bad"], starting: ["not looked at yet", ""],
};

function folders(live, all) {
  // A folder that left the configuration keeps its rows, and is shown as long as something of it is left to do.
  const open = (folder) => folder.counts.queued + folder.counts.uploading + folder.counts.completing;
  const rows = all.map((folder) => ({ folder, watch: live?.folders.find((one) => one.path === folder.path) }))
    .filter(({ folder, watch }) => !live || watch || open(folder) > 0);
  list($("#folders .cards"), rows, ({ folder }) => folder.path, () => {
    const element = make("li", "card");
    const title = element.appendChild(make("h3")).appendChild(name());
    const path = element.appendChild(make("p", "quiet mono")).appendChild(name());
    const [how, paused, sum] = ["", "warn", ""].map((className) => element.appendChild(make("p", className)));
    const counts = element.appendChild(make("p", "counts"));
    const waiting = element.appendChild(make("p"));
    return { element, fill: ({ folder, watch }) => {
      say(title, shown(folder.name));
      say(path, folder.path);
      const [word, className] = WATCHED[watch?.state] ?? ["not watched: not in the service's configuration", "warn"];
      look(how, className);
      const scan = watch?.last_scan ? `, last scan ${when(watch.last_scan)}` : watch ? ", no scan has ended yet" : "";
      say(how, word + (watch?.why ? ` (${shown(watch.why)})` : "") + scan);
      paused.hidden = !(folder.paused || watch?.paused);
      coded(paused, `‖ paused${folder.paused_why ? ": " + shown(folder.paused_why).replaceAll("`", "'") : ""}; \`upspool resume\` goes on`);
      const states = Object.keys(STATES).filter((state) => folder.counts[state] > 0);
      say(sum, `${count(states.reduce((total, state) => total + folder.counts[state], 0), "job", "jobs")}${states.length ? ":" : ""}`);
      pieces(counts, states.map((state) => [`${STATES[state][0]} ${folder.counts[state].toLocaleString()} ${state}`, STATES[state][1]]));
      counts.hidden = !states.length;
      waiting.hidden = !folder.waiting_files;
      say(waiting, `waiting: ${count(folder.waiting_files, "file", "files")}, ${size(folder.waiting_bytes)}`);
    } };
  });
}

// Bytes sent of each job, with the times at which they were told.
const sent = new Map();

function rate(job, now) {
  const past = (sent.get(job.id) ?? []).filter((one) => now - one.at <= LOOK_BACK && one.bytes <= job.bytes_sent);
  past.push({ at: now, bytes: job.bytes_sent });
  sent.set(job.id, past);
  const took = now - past[0].at;
  return took > 0 ? ((job.bytes_sent - past[0].bytes) * 1000) / took : 0;
}

function open(live) {
  const now = performance.now();
  const rows = live.active.map((job) => ({ job, rate: rate(job, now) }));
  const ids = new Set(rows.map(({ job }) => job.id));
  for (const id of sent.keys()) if (!ids.has(id)) sent.delete(id);
  const total = rows.reduce((sum, row) => sum + row.rate, 0);
  say($("#open .count"), rows.length ? `${rows.length.toLocaleString()}${total >= 1 ? `, ${size(Math.round(total))}/s` : ""}` : "");
  list($("#open .rows"), rows, ({ job }) => job.id, () => {
    const element = make("li");
    const line = element.appendChild(make("div", "line"));
    const path = line.appendChild(name("name")), percent = line.appendChild(make("span", "busy"));
    const bar = element.appendChild(make("progress"));
    const details = element.appendChild(make("p", "details quiet"));
    return { element, fill: ({ job, rate }) => {
      const share = job.bytes ? job.bytes_sent / job.bytes : 0;
      say(path, job.path);
      say(percent, `${STATES[job.state]?.[0] ?? ""} ${job.state}, ${Math.floor(share * 100)} %`);
      bar.max = 1000;
      bar.value = Math.floor(share * 1000);
      bar.setAttribute("aria-label", `${job.path}, bytes sent`);
      const left = rate >= 1 && job.bytes_sent < job.bytes ? (job.bytes - job.bytes_sent) / rate : null;
      pieces(details, [
        `job ${job.id}, ${shown(job.folder)}`, `${size(job.bytes_sent)} of ${size(job.bytes)}`,
        job.parts_total && `${job.parts_stored} of ${count(job.parts_total, "Part", "Parts")} stored`,
        rate >= 1 && `${size(Math.round(rate))}/s`, left !== null && `${duration(left)} left`,
        job.expires_in !== null && `its Upload expires in ${duration(job.expires_in)}`,
      ]);
    } };
  });
}

const CHANGING = { changing: "changing", "open-for-writing": "open for writing" };

function changing(live) {
  say($("#changing .count"), live.changing_count ? live.changing_count.toLocaleString() : "");
  $("#changing").hidden = !live.changing_count;
  list($("#changing .rows"), live.changing.slice(0, 20), (file) => `${file.folder}/${file.path}`, () => {
    const element = make("li");
    const line = element.appendChild(make("div", "line"));
    const path = line.appendChild(name("name")), why = line.appendChild(make("span", "quiet"));
    return { element, fill: (file) => {
      say(path, file.path);
      say(why, `${CHANGING[file.why] ?? shown(file.why)} for ${duration(file.seconds)}, ${size(file.bytes)}, ${shown(file.folder)}`);
    } };
  });
}

function failures(jobs, codes) {
  say($("#failures .count"), jobs.length ? (jobs.length < 50 ? jobs.length : "the last 50") + "" : "");
  list($("#failures .rows"), jobs, (job) => job.id, () => {
    const element = make("li");
    const line = element.appendChild(make("div", "line"));
    const path = line.appendChild(name("name")), state = line.appendChild(make("span", "bad"));
    const why = element.appendChild(make("p", "details")), remedy = element.appendChild(make("p", "remedy"));
    return { element, fill: (job) => {
      const code = job.error?.code ?? "";
      say(path, shown(job.path));
      say(state, `${STATES[job.state][0]} ${job.state}`);
      pieces(why, [[code, "mono"], shown(job.error?.message),
        // Most messages begin with it.
        job.error?.status && !job.error.message?.startsWith("HTTP ") && `HTTP ${job.error.status}`,
        [`job ${job.id}, ${shown(job.folder)}, found ${when(job.found_at)}`, "quiet"]]);
      remedy.hidden = !codes[code];
      coded(remedy, codes[code] ?? "");
    } };
  });
}

const WAITING = { requested: "a command waits to be taken up", paused: "its folder is paused", due: "tried again at", slot: "" };

function jobs(all) {
  say($("#jobs .count"), all.length ? `${all.length.toLocaleString()}` : "");
  list($("#jobs .rows"), all, (job) => job.id, () => {
    const element = make("li");
    const state = element.appendChild(make("span")), path = element.appendChild(name("name"));
    const bytes = element.appendChild(make("span", "size quiet"));
    const file = element.appendChild(make("span", "file")), id = file.appendChild(make("span", "mono"));
    const button = file.appendChild(make("button", "", "Copy"));
    button.type = "button";
    button.addEventListener("click", () => copy(button, id));
    const at = element.appendChild(make("span", "when quiet"));
    return { element, fill: (job) => {
      const [sign, colour] = STATES[job.state] ?? ["", ""];
      look(state, `state ${colour}`);
      say(state, `${sign} ${job.state}`);
      say(path, shown(job.relative_path));
      path.title = shown(job.path);
      say(bytes, size(job.bytes));
      button.hidden = !job.file_id;
      button.setAttribute("aria-label", `Copy the File ID of ${shown(job.filename)}`);
      const wait = WAITING[job.waiting] ?? "";
      look(id, job.file_id ? "mono" : "quiet");
      say(id, job.file_id ? shown(job.file_id) : job.waiting === "due" ? `${wait} ${when(job.due_at)}` : wait || job.error?.code || "");
      say(at, when(job.stored_at ?? job.found_at));
    } };
  });
}

// ---- State ----

function state(word, sign, colour) {
  document.title = `${word} · upspool`;
  look($("#state"), `badge ${colour}`);
  say($("#state"), `${sign} ${word}`);
}

function header(live) {
  const paused = live.folders.filter((folder) => folder.paused).length;
  if (live.stopping) state("stopping", "■", "warn");
  else if (live.holds.length) state("on hold", "!", "bad");
  else if (paused && paused === live.folders.length) state("paused", "‖", "warn");
  else state("running", "✓", "good");
  say($("#facts"), `${live.version}, process ${live.pid}; ${live.slots.parts} of ${count(live.slots.of, "Part slot", "Part slots")} in use, ` +
    `${count(live.slots.small, "other request", "other requests")}` + (paused ? `; ${paused} of ${count(live.folders.length, "folder", "folders")} paused` : ""));
}

// ---- Asking ----

class Refused extends Error {}
class Silent extends Error {}

async function ask(path, again = true) {
  const token = sessionStorage.getItem("token");
  let answer;
  try {
    answer = await fetch("/api/" + path, {
      headers: token ? { Authorization: `Bearer ${token}` } : {}, cache: "no-store", signal: AbortSignal.timeout(PATIENCE),
    });
  } catch (error) {
    // A connection that was kept may just have ended.
    if (again && error.name === "TypeError") return ask(path, false);
    throw new Silent(error.name === "TimeoutError" ? "it does not answer in time" : "nobody answers at this address");
  }
  if (answer.status === 401) throw new Refused();
  if (!answer.ok) throw new Silent(await answer.text());
  return answer.json();
}

let codes = null, last = null;

async function refresh() {
  codes ??= await ask("codes");
  const settled = await Promise.allSettled(["status", "folders", "jobs?limit=50", "jobs?limit=50&state=failed,unresolved"].map((path) => ask(path)));
  const refused = settled.find((one) => one.reason instanceof Refused);
  if (refused) throw refused.reason;
  const [live, ledger, newest, failed] = settled.map((one) => one.value);
  if (live) {
    header(live);
    notices(live);
    open(live);
    changing(live);
  }
  if (ledger) folders(live, ledger.folders);
  if (newest) jobs(newest.jobs);
  if (failed) failures(failed.jobs, codes);
  $("#main").hidden = false;
  const fault = settled.find((one) => one.status === "rejected");
  if (fault) throw fault.reason;
  last = new Date();
}

async function turn() {
  try {
    await refresh();
    document.body.className = "";
    $("#ask").hidden = true;
  } catch (error) {
    if (error instanceof Refused) {
      const tried = sessionStorage.getItem("token");
      sessionStorage.removeItem("token");
      state("asks for a token", "?", "warn");
      say($("#refused"), tried ? "That is not the token." : "");
      $("#main").hidden = true;
      $("#ask").hidden = false;
      $("#token").focus();
      return;
    }
    document.body.className = "stale";
    state("not answering", "✗", "bad");
    const since = last ? ` What is shown is of ${when(last)}.` : "";
    say($("#facts"), `${shown(error.message).trim()}.${since}`);
  }
  timer = setTimeout(turn, EVERY);
}

let timer = 0;

function start() {
  clearTimeout(timer);
  if (!document.hidden && $("#ask").hidden) turn();
}

$("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("#token").value.trim());
  $("#token").value = "";
  $("#ask").hidden = true;
  start();
});
document.addEventListener("visibilitychange", start);
start();
