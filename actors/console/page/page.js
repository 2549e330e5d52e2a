// Shows the drone's state as it changes. Whatever comes from the drone is put in as text, never as markup.
"use strict";

const at = (id) => document.getElementById(id);

function made(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function table(id, heads, rows, none) {
  const body = made("tbody");
  for (const row of rows) {
    const line = made("tr");
    row.forEach((cell, index) => {
      const [text, kind] = Array.isArray(cell) ? cell : [cell, ""];
      const part = made(index ? "td" : "th", text, kind);
      if (index) part.dataset.head = heads[index]; else part.scope = "row";
      line.append(part);
    });
    body.append(line);
  }
  if (!rows.length) {
    const cell = made("td", none, "none");
    cell.colSpan = heads.length;
    body.append(made("tr"));
    body.lastChild.append(cell);
  }
  const head = made("thead"), line = made("tr");
  for (const text of heads) {
    line.append(made("th", text));
    line.lastChild.scope = "col";
  }
  head.append(line);
  at(id).replaceChildren(head, body);
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit++) count /= 1024;
  return (unit ? count.toFixed(1) : count) + " " + units[unit];
}

function span(seconds) {
  for (const [from, size, unit] of [[172800, 86400, "d"], [7200, 3600, "h"], [120, 60, "min"]])
    if (seconds >= from) return Math.floor(seconds / size) + " " + unit;
  return Math.max(0, Math.floor(seconds)) + " s";
}

function outlet(name, one, now) {
  const heard = one.last_success ? span(now - one.last_success) + " ago" : "never";
  return [name, one.url || (one.waiting !== undefined ? one.waiting + " waiting" : ""), heard,
          one.last_error ? [one.last_error, "bad"] : ""];
}

function show({ status, jobs }) {
  const now = status.now, bad = !status.healthy;
  at("drone").textContent = status.drone;
  document.title = (bad ? "! " : "") + status.drone + " – dronekeeper";
  at("health").textContent = (bad ? "DEGRADED" : "healthy") + ", up " + span(now - status.started_at) + ", version " + status.version +
    (status.oldest_unsafe ? ", oldest unsafe result " + span(status.oldest_unsafe) : "");
  at("health").className = bad ? "bad" : "ok";
  at("problems").replaceChildren(...status.problems.map((problem) => {
    const item = made("li");
    item.append(made("span", "[" + problem.id + "] " + problem.text, "bad"), made("br"), made("span", problem.hint, "hint"));
    return item;
  }));
  if (!status.problems.length) at("problems").replaceChildren(made("li", "nothing", "none"));
  table("lanes", ["Lane", "Workers", "Found", "Backlog", "Stored", "Failed", "Quarantined", "Held"],
    status.lanes.map((lane) => [lane.name, lane.workers, lane.found, lane.backlog + " (" + bytes(lane.backlog_bytes) + ")",
      lane.published, [lane.failed, lane.failed ? "warn" : ""], [lane.quarantined, lane.quarantined ? "bad" : ""], lane.paused || ""]), "no lanes");
  table("work", ["Job", "Lane", "Doing", "For"],
    status.lanes.flatMap((lane) => lane.under_way.map((work) => [work.job, lane.name, work.doing, span(now - work.since)])), "nothing just now");
  table("failing", ["Job", "State", "Attempts", "Error", "Next"],
    jobs.map((job) => [job.job, [job.state, job.state === "quarantined" ? "bad" : "warn"], job.attempts, job.last_error || "", job.next]), "none");
  const around = [outlet("store", status.store, now)];
  for (const name of ["hub", "engine", "mail", "notify"]) if (status[name]) around.push(outlet(name, status[name], now));
  const disk = status.disk;
  if (disk) around.push(["disk", disk.path, disk.used_percent + " % used, " + bytes(disk.free) + " free",
    disk.full_in ? ["full in " + span(disk.full_in), "warn"] : disk.pressing ? ["pressing", "bad"] : ""]);
  const config = status.config;
  if (config) around.push(["configuration", config.file + " (" + config.checksum + ")", "in force for " + span(now - config.since), ""]);
  table("around", ["What", "Where", "Last success", "Trouble"], around, "");
  at("containers").parentNode.hidden = !status.containers.length;
  table("containers", ["Name", "State", "For", "To end because"],
    status.containers.map((one) => [one.name, [one.state, one.state === "running" ? "ok" : "warn"], span(now - one.created), one.ending || ""]), "none");
  const restarts = status.actors.reduce((sum, actor) => sum + actor.restarts, 0);
  at("tree-sum").textContent = status.actors.length + " parts, " + restarts + " restarts";
  table("tree", ["Part", "State", "Restarts", "Last exit"],
    status.actors.map((actor) => [actor.path, [actor.state, actor.state === "running" ? "ok" : "warn"], actor.restarts, actor.last_exit || ""]), "");
}

const SVG = "http://www.w3.org/2000/svg";

function plot(samples, value, most, caption) {
  const figure = made("figure"), svg = document.createElementNS(SVG, "svg"), line = document.createElementNS(SVG, "polyline");
  svg.setAttribute("viewBox", "0 0 1440 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", caption);
  const last = samples[samples.length - 1].at;
  line.setAttribute("points", samples.map((one) => (1440 - (last - one.at) / 60).toFixed(1) + "," + (100 - 100 * value(one) / most).toFixed(2)).join(" "));
  svg.append(line);
  figure.append(svg, made("figcaption", caption));
  return figure;
}

function day(samples) {
  if (samples.length < 2) return at("day").replaceChildren(made("p", "The plots begin after two minutes.", "none"));
  const most = Math.max(1, ...samples.map((one) => one.bytes_per_second)), last = samples[samples.length - 1];
  at("day").replaceChildren(
    plot(samples, (one) => one.used_percent, 100, "Disk: " + last.used_percent + " % used now; the top is 100 %, the left edge a day ago"),
    plot(samples, (one) => one.bytes_per_second, most, "Sent to the store: " + bytes(last.bytes_per_second) + " a second now; the top is " + bytes(most)));
}

async function history() {
  try { day((await (await fetch("/api/v1/history")).json()).samples); } catch { /* the next minute asks again */ }
}

let heard = Date.now();
const events = new EventSource("/api/v1/events");
events.addEventListener("status", (event) => { heard = Date.now(); show(JSON.parse(event.data)); });
setInterval(() => {
  const silent = (Date.now() - heard) / 1000;
  if (silent < 20) return;
  at("health").textContent = "no answer from the drone for " + span(silent);
  at("health").className = "bad";
}, 1000);
history();
setInterval(history, 60000);
