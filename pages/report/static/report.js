"use strict";
// What is only there where a script runs.
for (const one of document.querySelectorAll(".scripted")) one.hidden = false;

// Tables are sorted by a click on the name of a column, which is a button.
for (const table of document.querySelectorAll(".sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numbers = head.classList.contains("n");
      const before = head.getAttribute("aria-sort");
      const up = before ? before === "descending" : !numbers;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => {
        const text = row.cells[column].textContent.trim();
        return [numbers ? parseFloat(text.replaceAll(",", "")) : text, row];
      });
      const by = new Intl.Collator("en", { numeric: true });
      rows.sort(([a], [b]) => {
        if (!numbers) return up ? by.compare(a, b) : by.compare(b, a);
        if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b); // what has no score is last
        return up ? a - b : b - a;
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}

// Escape leaves the images of a cell for the number that opened them.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !/^#c\d+$/.test(location.hash)) return;
  const link = document.querySelector(`a[href="${location.hash}"]`);
  location.hash = "confusion";
  if (link) link.focus();
});

// The map: the image of the point that is nearest to the pointer, or next in the way of an arrow.
const map = document.getElementById("points");
if (map) {
  const SVG = "http://www.w3.org/2000/svg";
  const here = document.getElementById("here");
  const only = document.getElementById("only");
  const points = [...map.querySelectorAll("use")].map((use) => {
    const title = use.querySelector("title");
    const text = title.textContent;
    title.remove();
    return { use, text, x: use.x.baseVal.value, y: use.y.baseVal.value, on: true };
  });
  const ring = document.createElementNS(SVG, "circle");
  ring.setAttribute("class", "here");
  ring.setAttribute("r", "8");
  let current = null;

  const show = (point) => {
    if (!point || point === current) return;
    current = point;
    ring.setAttribute("cx", point.x);
    ring.setAttribute("cy", point.y);
    map.append(ring);
    const lines = document.createElement("p");
    for (const line of point.text.split("\n")) {
      const part = document.createElement("span");
      part.textContent = line;
      lines.append(part, document.createElement("br"));
    }
    here.replaceChildren(picture(point.use.dataset), lines);
  };
  const picture = ({ t, m }) => {
    if (!t) {
      const none = document.createElement("span");
      none.className = "t none";
      none.textContent = m || "not shown, to keep the page small";
      return none;
    }
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "t");
    svg.setAttribute("viewBox", "0 0 128 128");
    svg.setAttribute("aria-hidden", "true");
    const use = document.createElementNS(SVG, "use");
    use.setAttribute("href", "#" + t);
    svg.append(use);
    return svg;
  };
  const nearest = (x, y, far, allowed = () => true) => {
    let best = null;
    for (const point of points) {
      if (!point.on || !allowed(point)) continue;
      const apart = Math.hypot(point.x - x, point.y - y);
      if (apart <= far) [best, far] = [point, apart];
    }
    return best;
  };
  const pointed = (event) => {
    const box = map.getBoundingClientRect();
    const scale = map.viewBox.baseVal.width / box.width;
    show(nearest((event.clientX - box.left) * scale, (event.clientY - box.top) * scale, 24 * scale));
  };
  map.addEventListener("pointermove", pointed);
  map.addEventListener("pointerdown", pointed);

  map.setAttribute("tabindex", "0");
  map.setAttribute("role", "application");
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const first = () => show(nearest(0, 0, Infinity));
  map.addEventListener("focus", () => {
    if (!current && map.matches(":focus-visible")) first();
  });
  map.addEventListener("keydown", (event) => {
    const way = ways[event.key];
    if (!way || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (!current || !current.on) return first();
    const from = current;
    // In a quarter of the map: ahead further than aside.
    show(nearest(from.x, from.y, Infinity, ({ x, y }) => {
      const ahead = (x - from.x) * way[0] + (y - from.y) * way[1];
      const aside = Math.abs((x - from.x) * way[1]) + Math.abs((y - from.y) * way[0]);
      return ahead > 0 && ahead >= aside;
    }));
  });
  only.addEventListener("change", () => {
    for (const point of points) {
      const { use } = point;
      point.on = only.value === "" ||
        (only.value === "w" ? use.classList.contains("w") : use.dataset.c === only.value);
      use.classList.toggle("on", point.on);
    }
    map.classList.toggle("some", only.value !== "");
  });
}
