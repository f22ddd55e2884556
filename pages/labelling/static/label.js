// The page: keys and buttons in, labels out; the queue, the estimate and the map after each of them.
import { get, image, inTurn, post } from "./api.js";
import { Grid, told } from "./grid.js";
import { AtlasMap } from "./map.js";

const $ = (id) => document.getElementById(id);
const AHEAD = 60; // images that are asked for beyond those that stay
const MOST = 1900;
const WAIT_S = 1.2; // for the head, so that the queue that comes is the one after this label
const AGAIN_MS = 600;
const MAP_MS = 500; // between two looks at what all images are predicted to be

const EMPTY = {
  uncertain: "Every image has a label. Suspects has those whose label looks wrong; Near-copies and All are open too.",
  suspects: "No label looks wrong to a head that has not seen it. It takes three labels of two classes to tell.",
  "near-copies": "There are no near-copies.",
  unfamiliar: "There is nothing to show.",
  random: "Every image has a label.",
  all: "There is nothing to show.",
};

let state = null;
let queue = "uncertain";
let lasso = [];
let more = 0;
let large = 640;

const hue = (code) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--tint-${code % 10}`).trim();
const named = (code) => state?.classes[code] ?? "";

const grid = new Grid($("grid"), {
  names: named,
  onFocus: look,
  onMore() {
    if (more < MOST && state && grid.cards.length < shownOf) {
      more += AHEAD;
      refresh();
    }
  },
});
const map = new AtlasMap($("map"), { colour: hue, onLasso: filterBy, onPoint: glance });

// Telling the user.

let quiet = 0;
let fault = "";
function say(text, { wrong = false, stays = wrong } = {}) {
  clearTimeout(quiet);
  const line = $("said");
  line.textContent = text;
  line.hidden = !text;
  line.classList.toggle("wrong", wrong);
  if (text && !stays) quiet = setTimeout(() => say(""), 8000);
}

// What fails unasked (the queue, the map) waits behind what one's own deed was answered.
function complain(error) {
  if (!$("said").classList.contains("wrong")) say(error.message, { wrong: true });
}

function tell(now) {
  const classesBefore = state?.classes.join("\n");
  state = now;
  const labelled = now.images - now.unlabelled;
  document.title = `${labelled} of ${now.images} · ${now.file}`;
  $("file").textContent = now.file;
  $("done").max = now.images;
  $("done").value = labelled;
  $("count").textContent = `${labelled.toLocaleString("en")} of ${now.images.toLocaleString("en")}`;
  if ($("estimate").textContent !== now.brief) $("estimate").textContent = now.brief;
  $("estimate").title = now.estimate;
  $("undo").disabled = !now.undo;
  if (classesBefore !== now.classes.join("\n")) drawClasses();
  now.counts.forEach((count, code) => {
    const node = $("classes").children[code];
    if (node) node.lastElementChild.textContent = count.toLocaleString("en");
  });
  if (now.fault && now.fault !== fault) say(now.fault, { wrong: true });
  fault = now.fault;
}

// The digit of each class: its own where it is one; the others have those that are left, 1 to 9, 0.
function keysOf(classes) {
  const own = classes.filter((name) => /^[0-9]$/.test(name));
  const left = [..."1234567890"].filter((key) => !own.includes(key));
  return classes.map((name) => (own.includes(name) ? name : left.shift()));
}

let keys = [];
function drawClasses() {
  keys = keysOf(state.classes);
  const buttons = state.classes.map((name, code) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.hue = String(code % 10);
    button.title = name;
    const key = document.createElement("kbd");
    key.textContent = keys[code] ?? "";
    const called = document.createElement("bdi");
    called.textContent = name;
    const count = document.createElement("span");
    button.append(key, called, count);
    button.addEventListener("click", () => give(code));
    return button;
  });
  const add = document.createElement("button");
  add.type = "button";
  add.id = "new";
  const key = document.createElement("kbd");
  key.textContent = "n";
  const called = document.createElement("span");
  called.textContent = state.classes.length ? "New class" : "Name the first class";
  add.append(key, called, document.createElement("span"));
  add.addEventListener("click", () => ask());
  $("classes").replaceChildren(...buttons, add);
  $("names").replaceChildren(
    ...state.classes.map((name) => {
      const option = document.createElement("option");
      option.value = name;
      return option;
    }),
  );
}

// The queue.

let busy = false;
let asked = null;
let again = 0;
let shownOf = 0;

async function refresh({ keep = true, focus = false } = {}) {
  clearTimeout(again);
  if (busy) {
    asked = { keep: keep && (asked?.keep ?? true), focus: focus || Boolean(asked?.focus) };
    return;
  }
  busy = true;
  try {
    const search = $("search").value;
    const count = Math.min((keep ? grid.staying() : 0) + AHEAD + more, MOST);
    const shown = keep ? grid.open : [];
    const found = await post("queue", { queue, count, lasso, search, shown, wait: state ? WAIT_S : 0 });
    if (asked && !asked.keep) return; // it is of another queue
    tell(found.state);
    if (!keep) {
      grid.clear();
      $("images").scrollTop = 0;
    }
    grid.show(found.images, { keep, shown: found.shown });
    if (focus) grid.moveTo(Math.max(grid.focus, 0));
    shownOf = found.total;
    const looking = found.pending && queue === "near-copies" ? "looking for near-copies …" : "";
    const learning = found.pending && !looking ? " · learning …" : "";
    $("total").textContent = looking || `${found.total.toLocaleString("en")} here${learning}`;
    const nothing = !grid.cards.length && !found.pending;
    $("empty").hidden = !nothing;
    $("empty").textContent = nothing ? (search || lasso.length ? "Nothing here matches. Escape clears search and map." : EMPTY[queue]) : "";
    if (found.pending) again = setTimeout(refresh, AGAIN_MS);
    else drawMap();
  } catch (error) {
    complain(error);
  } finally {
    busy = false;
    if (asked) {
      const next = asked;
      asked = null;
      refresh(next);
    }
  }
}

const tellOfMap = () => ($("map-note").textContent = $("map-panel").open && !map.x ? "is being drawn …" : "");
let mapping = false;
let mapAgain = 0;
let mapped = 0;
async function drawMap() {
  if (!$("map-panel").open || mapping) return;
  clearTimeout(mapAgain);
  const early = mapped + MAP_MS - Date.now();
  if (early > 0) {
    mapAgain = setTimeout(drawMap, early);
    return;
  }
  mapping = true;
  try {
    map.set(await get(map.x ? "codes" : "map"));
    mapped = Date.now();
    tellOfMap();
    if (!map.x && !state.fault) mapAgain = setTimeout(drawMap, AGAIN_MS);
  } catch (error) {
    complain(error);
  } finally {
    mapping = false;
  }
}

function choose(name) {
  queue = name;
  more = 0;
  history.replaceState(null, "", name === "uncertain" ? "/" : `/#${name}`);
  const radio = document.querySelector(`input[name="queue"][value="${name}"]`);
  radio.checked = true;
  radio.parentElement.scrollIntoView({ block: "nearest", inline: "nearest" });
  refresh({ keep: false, focus: document.activeElement !== radio });
}

function filterBy(line) {
  lasso = line;
  more = 0;
  $("clear").hidden = !line.length;
  refresh({ keep: false, focus: document.activeElement !== $("map") });
}

// Looking at one.

let looking = 0;
function look(one) {
  clearTimeout(looking);
  map.show(one?.image ?? -1);
  $("path").textContent = one?.path ?? "";
  const guess = one ? told(one) : -1;
  const share = one?.given === undefined ? one?.confidence : one.given;
  const percent = share === undefined ? "" : `${(100 * share).toFixed(1)}%`;
  const parts = [];
  if (one?.label >= 0) parts.push(`is ${named(one.label)}${one.given === undefined ? "" : ` (${percent})`}`);
  if (guess >= 0) parts.push(`looks like ${named(guess)}${one.given === undefined ? ` (${percent})` : ""}`);
  if (one?.drawn) parts.push("◇ drawn at random");
  $("belief").textContent = parts.join(" · ");
  if (one?.text === undefined) looking = setTimeout(() => enlarge(one ? image(one, large) : ""), 60);
  else read(one.text);
}

// An example that is no image, by its text.
function read(text) {
  $("large").hidden = true;
  $("large").removeAttribute("src");
  $("missing").textContent = text;
  $("missing").hidden = false;
}

function glance(point) {
  if (point < 0) {
    look(grid.current);
    return;
  }
  clearTimeout(looking);
  map.show(point);
  $("path").textContent = "on the map";
  const [label, guess] = [map.labels[point], map.predicted[point]];
  $("belief").textContent = label >= 0 ? `is ${named(label)}` : guess >= 0 ? `looks like ${named(guess)}` : "";
  looking = setTimeout(() => enlarge(`/image/${point}?side=${large}`), 30);
}

function enlarge(address) {
  const picture = $("large");
  if (!address) {
    picture.hidden = true;
    return;
  }
  if (picture.src !== new URL(address, location.href).href) picture.src = address;
}

$("large").addEventListener("load", () => {
  $("large").hidden = false;
  $("missing").hidden = true;
});
$("large").addEventListener("error", async () => {
  const address = $("large").src;
  $("large").hidden = true;
  $("missing").textContent = await fetch(address).then((found) => found.text(), () => "not shown");
  $("missing").hidden = false;
});

// Labels.

function give(code) {
  send(grid.chosen.map((card) => [code, card]));
}

function take() {
  const cards = grid.chosen.filter((card) => card.one.label >= 0 || card.pending);
  if (cards.length) send(cards.map((card) => [-1, card]));
  else say("There is no label to take away.");
}

function accept() {
  const cards = grid.chosen.filter((card) => (card.one.predicted ?? -1) >= 0);
  if (!cards.length) say("Nothing is predicted yet: label some images of two classes first.");
  else send(cards.map((card) => [card.one.predicted, card]));
}

async function send(pairs) {
  if (!pairs.length) return;
  const labels = new Map();
  for (const [code, card] of pairs) {
    labels.set(code, [...(labels.get(code) ?? []), card.one.image]);
    card.pending = true;
    card.selected = false;
    grid.mark(card);
  }
  const filtered = Boolean(lasso.length || $("search").value.trim());
  const last = grid.cards.indexOf(pairs.at(-1)[1]);
  if (last >= grid.focus) grid.focus = last;
  grid.next();
  try {
    const found = await inTurn("label", { labels: [...labels], queue, filtered });
    for (const [code, card] of pairs) card.done = code >= 0;
    tell(found.state);
    changed(found.images);
  } catch (error) {
    say(`Not kept: ${error.message}`, { wrong: true });
    return;
  } finally {
    for (const [, card] of pairs) {
      card.pending = false;
      grid.mark(card);
    }
  }
  refresh();
}

function changed(images) {
  for (const one of images) {
    map.label(one.image, one.label);
    const card = grid.byImage.get(one.image);
    if (card) grid.update(card, { ...card.one, label: one.label, drawn: card.one.drawn && one.label < 0 });
  }
  map.draw();
  if (grid.current) look(grid.current);
}

async function undo() {
  try {
    const found = await inTurn("undo");
    const back = new Set(found.images.map((one) => one.image));
    for (const one of found.images) {
      const card = grid.byImage.get(one.image);
      if (card) {
        card.done = false;
        card.one.drawn = one.drawn;
      }
    }
    tell(found.state);
    changed(found.images);
    const place = grid.cards.findIndex((card) => back.has(card.one.image));
    if (place >= 0) grid.moveTo(place);
    const paths = found.images.map((one) => one.path);
    say(`Undone: ${paths.slice(0, 3).join(", ")}${paths.length > 3 ? ` and ${paths.length - 3} more` : ""}`);
    refresh();
  } catch (error) {
    say(error.message, { wrong: false });
  }
}

function ask() {
  $("name").value = "";
  const number = grid.chosen.length;
  const chosen = number === 1 ? "the chosen image gets it" : `the ${number} chosen images get it`;
  $("naming-note").textContent = `Label (Enter): ${chosen}. Add only (Shift+Enter): it gets a key.`;
  $("naming").showModal();
  $("name").focus();
}

$("naming").querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const only = event.submitter?.value === "only";
  try {
    let code = state.classes.indexOf($("name").value.trim());
    if (code < 0) {
      const found = await inTurn("class", { name: $("name").value });
      tell(found.state);
      code = found.code;
    }
    $("naming").close();
    if (!only) give(code);
  } catch (error) {
    $("naming-note").textContent = error.message;
  }
});
$("name").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  $("naming").querySelector("form").requestSubmit(event.shiftKey ? $("only") : $("add"));
});
$("cancel").addEventListener("click", () => $("naming").close());
$("naming").addEventListener("close", () => grid.moveTo(grid.focus));
$("keys").addEventListener("close", () => grid.moveTo(grid.focus));

// What takes longer.

const longer = ["write", "bring", "train"];
async function job(name) {
  longer.forEach((id) => ($(id).disabled = true));
  say(name === "write" ? "Writing …" : `${name === "train" ? "Training" : "Bringing labels into the file"} … labelling goes on meanwhile`, { stays: true });
  try {
    let found = await inTurn(name);
    while (found.running) {
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      found = await get("job");
    }
    if (found.state) tell(found.state);
    const then = found.command ? `. To bring them into the feature file: ${found.command}` : "";
    say(`${found.said}${then}`, { wrong: Boolean(found.failed), stays: true });
  } catch (error) {
    say(error.message, { wrong: true });
  } finally {
    longer.forEach((id) => ($(id).disabled = false));
  }
}

// Keys and buttons.

const QUEUES = [...document.querySelectorAll("input[name=queue]")].map((radio) => radio.value);

function escape() {
  if (grid.selected) grid.chooseNone();
  else if ($("search").value || lasso.length) {
    $("search").value = "";
    map.choose([]);
  }
  say("");
  grid.moveTo(grid.focus);
}

const KEYS = {
  ArrowLeft: (event) => grid.move(-1, event.shiftKey),
  ArrowRight: (event) => grid.move(1, event.shiftKey),
  ArrowUp: (event) => grid.move(-grid.columns, event.shiftKey),
  ArrowDown: (event) => grid.move(grid.columns, event.shiftKey),
  Home: () => grid.moveTo(0),
  End: () => grid.moveTo(grid.cards.length - 1),
  Enter: accept,
  " ": () => grid.toggle(),
  Backspace: take,
  Delete: take,
  Escape: escape,
  u: undo,
  n: ask,
  a: () => grid.chooseAll(),
  s: () => grid.next(),
  m: () => {
    $("map-panel").open = true;
    $("map").focus();
  },
  "/": () => $("search").focus(),
  "?": () => $("keys").showModal(),
  "[": () => choose(QUEUES.at(QUEUES.indexOf(queue) - 1)),
  "]": () => choose(QUEUES[(QUEUES.indexOf(queue) + 1) % QUEUES.length]),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (document.querySelector("dialog[open]")) return;
  const on = event.target;
  if (on.matches("input[type=search]")) {
    if (event.key === "Escape" || event.key === "Enter") {
      event.preventDefault();
      if (event.key === "Escape") escape();
      else grid.moveTo(0);
    }
    return;
  }
  const native = on.matches("button, summary") ? ["Enter", " "] : on.matches("input") ? ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", " "] : [];
  if (native.includes(event.key)) return;
  if (/^[0-9]$/.test(event.key)) {
    const code = keys.indexOf(event.key);
    event.preventDefault();
    if (code >= 0) give(code);
    else say(`There is no class ${event.key} yet: n makes one.`);
    return;
  }
  const act = KEYS[event.key];
  if (act) {
    event.preventDefault();
    act(event);
  }
});

document.querySelectorAll("input[name=queue]").forEach((radio) =>
  radio.addEventListener("change", () => choose(radio.value)),
);
let typing = 0;
$("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    more = 0;
    refresh({ keep: false });
  }, 150);
});
$("undo").addEventListener("click", undo);
longer.forEach((id) => $(id).addEventListener("click", () => job(id)));
$("help").addEventListener("click", () => $("keys").showModal());
$("clear").addEventListener("click", () => map.choose([]));
$("map-panel").addEventListener("toggle", () => {
  tellOfMap();
  drawMap();
});

get("about").then((about) => {
  $("write").title = `Write ${about.out}, a list of all images that headstart extract takes`;
  $("bring").title = `Bring the labels into ${about.path}; nothing is embedded again`;
  $("train").title = `Train a head on all labels, and save it as ${about.head}`;
}, () => {});

if (matchMedia("(max-width: 800px)").matches) $("map-panel").open = false;
if (QUEUES.includes(location.hash.slice(1))) queue = location.hash.slice(1);
document.querySelector(`input[name="queue"][value="${queue}"]`).checked = true;
await refresh({ keep: false, focus: true });
if (state && !state.unlabelled && queue === "uncertain") choose("suspects");
