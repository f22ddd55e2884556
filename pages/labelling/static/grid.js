// The grid: a tape of cards. What was labelled stays above, what one looks at stays where it is,
// and what comes after that follows the queue.
import { image } from "./api.js";

const SIDE = 192;
const HISTORY = 240; // labelled cards that are kept
const MARGIN = 18; // cards before the end, from which on more are asked for

// What is predicted, where that says more than the label does: of what it has learned a head is sure.
export function told(one) {
  const guess = one.predicted ?? -1;
  return one.given === undefined && guess === one.label ? -1 : guess;
}

// An example that is no image, by its text.
function read(text) {
  const node = document.createElement("p");
  node.className = "text";
  node.textContent = text;
  return node;
}

export class Grid {
  constructor(element, { names, onFocus, onMore }) {
    this.element = element;
    this.names = names; // code -> name
    this.onFocus = onFocus;
    this.onMore = onMore;
    this.cards = []; // {one, node, selected, done, pending}
    this.byImage = new Map();
    this.focus = -1;
    this.anchor = -1;
    element.addEventListener("click", (event) => this.clicked(event));
    element.addEventListener("focusin", (event) => {
      const place = this.placeOf(event.target);
      if (place >= 0 && place !== this.focus) this.moveTo(place, { quiet: true });
    });
    this.seen = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) this.onMore();
    });
  }

  placeOf(target) {
    const node = target instanceof Element ? target.closest(".card") : null;
    return node ? this.cards.findIndex((card) => card.node === node) : -1;
  }

  get columns() {
    const first = this.cards[0]?.node.offsetTop;
    const second = this.cards.findIndex((card) => card.node.offsetTop !== first);
    return second > 0 ? second : Math.max(this.cards.length, 1);
  }

  get current() {
    return this.cards[this.focus]?.one;
  }

  get chosen() {
    const found = this.cards.filter((card) => card.selected);
    return found.length ? found : this.cards.slice(this.focus, this.focus + 1);
  }

  get selected() {
    return this.cards.filter((card) => card.selected).length;
  }

  clear() {
    this.cards = [];
    this.byImage.clear();
    this.focus = this.anchor = -1;
    this.element.replaceChildren();
  }

  // The queue as it is now. Cards up to the end of the next row stay.
  show(images, { keep, shown = [] }) {
    const fresh = new Map([...images, ...shown].map((one) => [one.image, one]));
    const stays = keep ? this.staying() : 0;
    const held = keep ? this.element.contains(document.activeElement) : false;
    this.cards.forEach((card, place) => {
      const now = fresh.get(card.one.image);
      if (place < stays && now && !card.pending) this.update(card, { ...card.one, ...now });
    });
    const kept = this.cards.slice(0, stays);
    const rest = this.cards.slice(stays);
    const before = new Set(kept.map((card) => card.one.image));
    const again = new Map(rest.map((card) => [card.one.image, card]));
    const next = [];
    for (const one of images) {
      if (before.has(one.image)) continue;
      const card = again.get(one.image);
      if (card) {
        again.delete(one.image);
        this.update(card, one);
        card.done = false;
        this.mark(card);
        next.push(card);
      } else {
        next.push(this.made(one));
      }
    }
    for (const card of again.values()) {
      card.node.remove();
      this.byImage.delete(card.one.image);
    }
    const drop = Math.max(0, kept.filter((card) => card.done).length - HISTORY);
    const gone = drop ? kept.splice(0, Math.min(drop, this.focus)) : [];
    for (const card of gone) {
      card.node.remove();
      this.byImage.delete(card.one.image);
    }
    this.cards = [...kept, ...next];
    this.focus -= gone.length;
    this.anchor = Math.max(this.anchor - gone.length, 0);
    // Only what is not where it should be is moved: images that are there already do not flicker.
    let node = this.element.firstElementChild;
    for (const card of this.cards) {
      if (card.node === node) node = node.nextElementSibling;
      else this.element.insertBefore(card.node, node);
    }
    this.groups();
    if (this.focus >= this.cards.length || this.focus < 0) {
      this.moveTo(Math.min(Math.max(this.focus, 0), this.cards.length - 1), { quiet: true });
    } else {
      this.rove();
    }
    if (held && this.cards[this.focus]) this.cards[this.focus].node.focus({ preventScroll: true });
    this.seen.disconnect();
    if (this.cards.length) this.seen.observe((this.cards.at(-MARGIN) ?? this.cards[0]).node);
  }

  // Those among them of which it is not clear yet what they are.
  get open() {
    return this.cards.slice(0, this.staying()).filter((card) => !card.done).map((card) => card.one.image);
  }

  staying() {
    if (this.focus < 0) return 0;
    const columns = this.columns;
    const chosen = this.cards.findLastIndex((card) => card.selected || card.pending || card.done);
    const last = Math.max(this.focus, chosen);
    return (Math.floor(last / columns) + 2) * columns;
  }

  made(one) {
    const node = document.createElement("div");
    node.className = "card";
    node.setAttribute("role", "option");
    node.tabIndex = -1;
    node.id = `image-${one.image}`;
    const frame = document.createElement("div");
    frame.className = "frame";
    const picture = document.createElement("img");
    picture.alt = "";
    picture.loading = "lazy";
    picture.decoding = "async";
    picture.width = picture.height = SIDE;
    if (one.text === undefined) picture.src = image(one, SIDE);
    picture.addEventListener("error", async () => {
      picture.hidden = true;
      const reason = document.createElement("p");
      reason.className = "missing";
      reason.textContent = await fetch(picture.src).then((found) => found.text(), () => "not shown");
      frame.append(reason);
    }, { once: true });
    if (one.text === undefined) frame.append(picture);
    else frame.append(read(one.text));
    const label = document.createElement("bdi");
    label.className = "label";
    const line = document.createElement("div");
    line.className = "line";
    const predicted = document.createElement("bdi");
    predicted.className = "predicted";
    const sure = document.createElement("span");
    sure.className = "sure";
    line.append(predicted, sure);
    node.append(frame, label, line);
    const card = { one, node, selected: false, done: false, pending: false, label, predicted, sure };
    this.byImage.set(one.image, card);
    this.update(card, one);
    return card;
  }

  update(card, one) {
    card.one = one;
    this.mark(card);
  }

  mark(card) {
    const { one, node } = card;
    const name = (code) => (code >= 0 ? this.names(code) : "");
    const has = one.label >= 0;
    node.classList.toggle("done", card.done);
    node.classList.toggle("pending", card.pending);
    node.classList.toggle("drawn", Boolean(one.drawn));
    node.setAttribute("aria-selected", String(card.selected));
    card.label.hidden = !has;
    card.label.textContent = name(one.label);
    if (has) card.label.dataset.hue = String(one.label % 10);
    const guess = told(one);
    card.predicted.textContent = name(guess);
    if (guess >= 0) card.predicted.dataset.hue = String(guess % 10);
    else delete card.predicted.dataset.hue;
    const share = one.given === undefined ? one.confidence : one.given;
    const percent = guess < 0 || share === undefined ? "" : `${Math.round(share * 100)}%`;
    card.sure.textContent = one.given === undefined ? percent : `label ${percent}`;
    const parts = [one.path];
    if (has) parts.push(`label ${name(one.label)}`);
    if (guess >= 0) parts.push(`looks like ${name(guess)} ${card.sure.textContent}`);
    if (one.drawn) parts.push("drawn at random");
    if (card.done) parts.push("done");
    node.setAttribute("aria-label", parts.join(", "));
    node.title = one.path;
  }

  groups() {
    this.cards.forEach((card, place) => {
      const group = card.one.group;
      const starts = group !== undefined && group !== this.cards[place - 1]?.one.group;
      card.node.classList.toggle("starts", starts);
    });
  }

  rove() {
    this.cards.forEach((card, place) => {
      card.node.tabIndex = place === this.focus ? 0 : -1;
      card.node.classList.toggle("here", place === this.focus);
    });
    this.onFocus(this.current);
  }

  moveTo(place, { quiet = false, extend = false } = {}) {
    if (!this.cards.length) {
      this.focus = -1;
      this.onFocus(undefined);
      return;
    }
    this.focus = Math.min(Math.max(place, 0), this.cards.length - 1);
    if (extend) {
      const [from, to] = [this.anchor, this.focus].sort((a, b) => a - b);
      this.cards.forEach((card, at) => this.choose(card, at >= from && at <= to));
    } else {
      this.anchor = this.focus;
    }
    this.rove();
    const node = this.cards[this.focus].node;
    if (!quiet) node.focus({ preventScroll: true });
    node.scrollIntoView({ block: "nearest" });
  }

  move(by, extend) {
    this.moveTo(this.focus + by, { extend });
  }

  next() {
    const after = this.cards.findIndex((card, place) => place > this.focus && !card.done && !card.pending);
    this.moveTo(after < 0 ? this.cards.length - 1 : after);
  }

  choose(card, selected) {
    if (card.selected === selected) return;
    card.selected = selected;
    this.mark(card);
  }

  toggle() {
    const card = this.cards[this.focus];
    if (card) this.choose(card, !card.selected);
  }

  chooseNone() {
    this.cards.forEach((card) => this.choose(card, false));
  }

  chooseAll() {
    this.cards.forEach((card) => this.choose(card, !card.done && card.one.label < 0));
    if (!this.selected) this.cards.forEach((card) => this.choose(card, !card.done));
  }

  clicked(event) {
    const place = this.placeOf(event.target);
    if (place < 0) return;
    if (event.shiftKey) this.moveTo(place, { extend: true });
    else {
      this.moveTo(place);
      if (event.ctrlKey || event.metaKey) this.toggle();
    }
  }
}
