"use strict";
// Fed by one stream of events; nothing is polled, nothing is written as HTML: text goes into text nodes alone.
(() => {
const $ = id => document.getElementById(id);
const el = (tag, props = {}, ...kids) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props))
    if (name in node && name !== "list") node[name] = value; else node.setAttribute(name, value);
  node.append(...kids);
  return node;
};
const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const badge = (node, text, kind) => { put(node, text); node.className = "badge " + kind; };
const clock = at => new Date(at * 1000).toLocaleTimeString([], {hour12: false});
const span = s => s == null ? "–" : s < 1 ? Math.round(s * 1000) + " ms" : s < 60 ? s.toFixed(s < 10 ? 1 : 0) + " s" : Math.round(s / 60) + " min";
const share = x => Number.isFinite(x) ? (x * 100).toFixed(x < .1 && x > 0 ? 1 : 0) + " %" : "–";
const size = b => b < 1024 ? b + " B" : b < 1048576 ? (b / 1024).toFixed(1) + " KiB" : (b / 1048576).toFixed(1) + " MiB";
const words = s => s.replaceAll("_", " ");

let token = "", past = [], plots = {}, calls = [], seen = null, limit = 100;
const cards = {};

// -- orders
async function order(method, path, body) {
  const headers = {"Content-Type": "application/json"};
  if (token) headers.Authorization = "Bearer " + token;
  try {
    const answer = await fetch(path, {method, headers, body: body === undefined ? undefined : JSON.stringify(body)});
    const doc = await answer.json();
    const wrong = doc.error ? doc.error.message : (doc.problems || []).join("; ");
    put($("done"), answer.ok ? method + " " + path + ": done" + ("dropped" in doc ? ", " + doc.dropped + " dropped" : "") : "Refused: " + wrong);
    if (answer.status === 401) { token = ""; may(seen.may); }
  } catch (error) { put($("done"), "It did not get through: " + error.message); }
}
function may(how) {
  const can = how === "yes" || (how === "token" && token !== "");
  for (const node of document.querySelectorAll(".orders")) node.hidden = !can;
  $("key").hidden = how !== "token" || can;
  put($("may"), can ? "You may change things here." : how === "token" ? "To change something this needs the admin token."
    : how === "loopback" ? "Things are changed from loopback, or with an admin token (admin_token)." : "Things are changed on the admin port only.");
}
$("hold").onsubmit = event => { event.preventDefault(); order("PUT", "/guard/mode", {ceiling: $("mode").value}); };
$("release").onclick = () => order("PUT", "/guard/mode", {ceiling: null});
$("purge").onclick = () => order("DELETE", "/guard/cache");
$("reload").onclick = () => order("POST", "/guard/reload");
$("key").onsubmit = event => { event.preventDefault(); token = $("token").value; $("token").value = ""; may(seen.may); };

// -- quantiles of what came between two looks at the buckets
function quantile(q, bounds, now, then) {
  const counts = now.map((n, i) => n - (then ? then[i] : 0)), all = counts.reduce((a, b) => a + b, 0);
  if (all <= 0) return null;
  let rank = q * all, below = 0;
  for (let i = 0; i < counts.length; i++) {
    if (rank <= counts[i]) {
      if (i === bounds.length) return bounds[i - 1];
      const low = i ? bounds[i - 1] : 0;
      return low + (bounds[i] - low) * (rank / counts[i]);
    }
    rank -= counts[i];
  }
  return bounds.at(-1);
}
function line(values, top) {
  const pieces = values.map((v, i) => v == null ? "" : ((120 - values.length + i) * 2) + "," + (54 - 50 * v / top).toFixed(1));
  return pieces.filter(Boolean).join(" ");
}

// -- one model
const SVG = "http://www.w3.org/2000/svg";
function card(name) {
  const svg = document.createElementNS(SVG, "svg"), lines = ["s50", "s95"].map(kind => {
    const one = document.createElementNS(SVG, "polyline"); one.setAttribute("class", kind); svg.append(one); return one;
  });
  svg.setAttribute("viewBox", "0 0 240 56"); svg.setAttribute("preserveAspectRatio", "none"); svg.setAttribute("role", "img");
  const at = {svg, lines, health: el("span"), circuit: el("span"), facts: el("dl"), rows: {}};
  const buttons = el("div", {className: "orders", hidden: true});
  for (const [state, label] of [["open", "Open"], ["closed", "Close"], ["auto", "Let go"]])
    buttons.append(el("button", {type: "button", "aria-label": label + " the circuit of " + name, onclick: () => order("PUT", "/guard/breakers/" + encodeURIComponent(name), {state})}, label));
  at.node = el("article", {className: "card", "aria-label": name}, el("div", {className: "top"}, el("h3", {}, name), at.health, at.circuit), at.facts, svg, buttons);
  $("upstreams").append(at.node);
  return at;
}
function fact(at, name, value) {
  const row = at.rows[name] ||= (() => { const dd = el("dd"); at.facts.append(el("dt", {}, name), dd); return dd; })();
  put(row, value);
}
function models(now) {
  for (const name of Object.keys(cards)) if (!(name in now.models)) { cards[name].node.remove(); delete cards[name]; }
  const then = past[0];
  for (const [name, told] of Object.entries(now.models)) {
    const fresh = !(name in cards), at = cards[name] ||= card(name), circuit = told.circuit;
    badge(at.health, told.health.status, {healthy: "good", unhealthy: "bad"}[told.health.status] || "warn");
    if (told.health.reason) at.health.title = told.health.reason;
    if (circuit) badge(at.circuit, "circuit " + words(circuit.state) + (circuit.held ? ", held" : ""), {closed: "good", open: "bad"}[circuit.state] || "warn");
    else badge(at.circuit, "no circuit", "warn");
    fact(at, "serves", told.model || "any model");
    fact(at, "next probe", circuit && circuit.due_in != null ? (circuit.due_in > 0 ? "in " + span(circuit.due_in) : "due") : "–");
    fact(at, "failure rate", circuit ? share(circuit.failure_rate) + " of " + circuit.attempts : "–");
    fact(at, "last check", told.health.checked == null ? "–" : span(told.health.checked) + " ago, " + told.health.latency_ms + " ms" + (told.health.reason ? ", " + words(told.health.reason) : ""));
    fact(at, "connections", told.connections.open + " open, " + told.connections.idle + " idle" + (told.connections.waiting ? ", " + told.connections.waiting + " wait" : ""));
    const gates = told.gates;
    fact(at, "calls at once", gates.load ? gates.load.taken + " of " + Math.floor(gates.load.limit) + (gates.load.queue ? ", " + gates.load.queue + " wait" : "") : "no limit");
    fact(at, "held back", gates.throttle ? words(gates.throttle.reason) + ", " + span(gates.throttle.due_in) : "no");
    fact(at, "retry budget", String(Math.floor(told.budget)));
    const before = then && then.models[name] ? then.models[name].first : null;
    const plot = plots[name] ||= [[], []];
    [.5, .95].forEach((q, i) => { plot[i].push(quantile(q, now.bounds, told.first, before)); if (plot[i].length > 120) plot[i].shift(); });
    const top = Math.max(...plot[1].map(v => v || 0), .001);
    plot.forEach((values, i) => at.lines[i].setAttribute("points", line(values, top)));
    fact(at, "first token", "p50 " + span(plot[0].at(-1)) + ", p95 " + span(plot[1].at(-1)));
    at.svg.setAttribute("aria-label", "Time to the first token of " + name + ": p50 " + span(plot[0].at(-1)) + ", p95 " + span(plot[1].at(-1)));
    if (fresh) may(now.may);
  }
}

// -- the rest
function tile(name, value) {
  const id = "t-" + name.replaceAll(" ", "-");
  const dd = $(id) || (() => { const made = el("dd", {id}); $("tiles").append(el("div", {}, el("dt", {}, name), made)); return made; })();
  put(dd, value);
}
function tiles(now) {
  const then = past[0] || now, s = Math.max(now.now - then.now, 1);
  const sum = o => Object.values(o).reduce((a, b) => a + b, 0);
  tile("calls a second", ((sum(now.requests) - sum(then.requests)) / s).toFixed(1));
  tile("in flight", String(now.in_flight));
  tile("errors a second", ((now.errors - then.errors) / s).toFixed(1));
  tile("callers", String(now.connections));
  tile("loop lag", span(now.lag));
}
function bar(name, part, text) {
  const b = el("b"); b.style.width = (100 * (Number.isFinite(part) ? Math.min(part, 1) : 0)).toFixed(1) + "%";
  return el("div", {className: "bar"}, el("span", {}, name), el("i", {ariaHidden: "true"}, b), el("span", {}, text));
}
function cache(now) {
  const kept = now.cache, hits = now.lookups.hit, all = hits + now.lookups.miss;
  if (!kept) return put($("cache"), "off");
  $("cache").replaceChildren(bar("hits", hits / all, all ? share(hits / all) : "–"), bar("entries", kept.size / kept.max_size, String(kept.size)),
    bar("memory", kept.bytes / kept.max_bytes, size(kept.bytes)),
    el("p", {className: "quiet"}, "kept " + span(kept.ttl_seconds) + "; " + kept.evictions + " evicted, " + kept.expirations + " expired"));
}
function json(now) {
  const all = Object.values(now.json).reduce((a, b) => a + b, 0);
  $("json").replaceChildren(...Object.entries(now.json).map(([name, n]) => bar(name, n / all, String(n))));
}
function mode(now) {
  const m = now.mode;
  if (!m.modes.length) return put($("ceiling"), "There are no modes.");
  put($("ceiling"), m.ceiling + (m.reason ? ": " + words(m.reason) + (m.held ? " (held by hand)" : "") : ", the highest"));
  put($("rises"), m.rises_in != null ? "; rises in " + span(m.rises_in) : "");
  const at = m.modes.indexOf(m.ceiling);
  if ($("ladder").textContent !== m.modes.join("")) {
    $("ladder").replaceChildren(...m.modes.map(name => el("li", {}, name)));
    $("mode").replaceChildren(...m.modes.map(name => el("option", {}, name)));
  }
  [...$("ladder").children].forEach((li, i) => { li.className = i < at ? "above" : i === at ? "at" : ""; if (i === at) li.setAttribute("aria-current", "true"); else li.removeAttribute("aria-current"); });
}
function news(list) {
  for (const one of list)
    $("events").prepend(el("li", {}, el("time", {}, clock(one.at)), words(one.what) + (one.subject !== one.what ? " " + one.subject : "") + ": " + words(one.from) + " → " + words(one.to) + (one.reason ? " (" + words(one.reason) + ")" : "")));
  while ($("events").children.length > limit) $("events").lastChild.remove();
}
const isOdd = one => one.status >= 400 || one.from || one.attempts > 1 || one.source === "stale" || one.source === "fallback" || one.json === "retried" || one.json === "repaired";
function row(one) {
  const td = (name, ...kids) => el("td", {"data-name": name}, ...kids);
  const open = el("button", {type: "button", "aria-expanded": "false", title: one.id}, one.method + " " + one.path);
  const kind = one.status >= 500 || one.status === 499 ? "bad" : one.status >= 400 ? "warn" : "good";
  const node = el("tr", {}, td("when", clock(one.at)), td("", open), td("answer", el("span", {className: "badge " + kind}, String(one.status)), " " + words(one.code || one.source)),
    td("model", one.upstream + (one.from ? " (" + one.from + " → " + one.mode + ", " + words(one.reason) + ")" : one.mode ? " (" + one.mode + ")" : "") + (one.attempts > 1 ? ", " + one.attempts + " attempts" : "")),
    td("cache", one.cache), td("JSON", one.json), el("td", {className: "num", "data-name": "time"}, span(one.ms / 1000)));
  node.dataset.odd = isOdd(one) ? "1" : "";
  node.hidden = $("odd").checked && !isOdd(one);
  open.onclick = () => steps(open, node, one);
  return node;
}
async function steps(open, node, one) {
  const next = node.nextElementSibling;
  if (next && next.dataset.of === String(one.serial)) { next.remove(); open.setAttribute("aria-expanded", "false"); return; }
  const answer = await fetch("/guard/requests/" + encodeURIComponent(one.id)), doc = await answer.json();
  const list = answer.ok ? el("ol", {className: "steps"}, ...doc.steps.map(s => el("li", {}, el("span", {}, s.ms.toFixed(1) + " ms"), el("span", {}, s.what), el("span", {}, s.said)))) : el("p", {}, doc.error.message);
  const more = el("tr", {}, el("td", {colSpan: 7}, el("p", {className: "quiet"}, "id " + one.id + (one.trace ? ", trace " + one.trace : "")), list));
  more.dataset.of = String(one.serial);
  node.after(more);
  open.setAttribute("aria-expanded", "true");
}
function recent(list) {
  if ($("freeze").checked) { calls.push(...list); calls = calls.slice(-limit); return; }
  const body = $("calls");
  for (const one of list) body.prepend(row(one));
  const rows = [...body.children].filter(tr => !tr.dataset.of);
  for (const tr of rows.slice(limit)) { if (tr.nextElementSibling && tr.nextElementSibling.dataset.of) tr.nextElementSibling.remove(); tr.remove(); }
}
$("freeze").onchange = () => { if (!$("freeze").checked) { recent(calls); calls = []; } };
$("odd").onchange = () => { for (const tr of $("calls").children) if (!tr.dataset.of) tr.hidden = $("odd").checked && !tr.dataset.odd; };

// -- the stream
const stream = new EventSource("/guard/live");
stream.onmessage = event => {
  const now = JSON.parse(event.data);
  if (seen && now.started !== seen.started) { past = []; plots = {}; }
  if (!seen || seen.may !== now.may) may(now.may);
  seen = now;
  badge($("link"), now.draining ? "draining" : "live", now.draining ? "warn" : "good");
  put($("version"), now.version); put($("digest"), "configuration " + now.digest);
  models(now); tiles(now); mode(now); cache(now); json(now); news(now.events); recent(now.calls);
  past.push(now); if (past.length > 30) past.shift();
};
stream.onerror = () => badge($("link"), "not connected", "bad");
})();
