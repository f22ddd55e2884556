// The map: a point an image, and a line around some of them that filters the grid.

const MORE = 1.25;
const CORNERS = 48;
const TINTS = 10; // of label.css; a style is asked for once a drawing, not once a point

export class AtlasMap {
  constructor(canvas, { colour, onLasso, onPoint }) {
    this.canvas = canvas;
    this.colour = colour;
    this.onLasso = onLasso;
    this.onPoint = onPoint;
    this.x = this.y = this.labels = this.predicted = null;
    this.line = []; // what is being drawn, from 0 to 1
    this.lasso = [];
    this.circle = null;
    this.here = -1;
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    // The pointer leaves the keys with the grid: arrows and Enter mean the circle after Tab or m.
    canvas.addEventListener("mousedown", (event) => event.preventDefault());
    canvas.addEventListener("pointermove", (event) => this.moved(event));
    canvas.addEventListener("pointerup", () => this.end());
    canvas.addEventListener("pointercancel", () => this.end());
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => {
      this.circle = null;
      this.draw();
    });
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  set(found) {
    if (found.x) {
      this.x = found.x.map((value) => value / 1000);
      this.y = found.y.map((value) => value / 1000);
    }
    this.labels = found.labels;
    this.predicted = found.predicted;
    this.draw();
  }

  label(image, code) {
    if (this.labels) this.labels[image] = code;
  }

  show(image) {
    if (image === this.here) return;
    this.here = image;
    this.draw();
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const inset = 8;
    const part = (value, length) => Math.min(Math.max((value - inset) / (length - 2 * inset), -0.02), 1.02);
    return [part(event.clientX - box.left, box.width), 1 - part(event.clientY - box.top, box.height)];
  }

  begin(event) {
    if (!this.x) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.line = [this.at(event)];
  }

  moved(event) {
    if (!this.x) return;
    if (this.line.length) {
      this.line.push(this.at(event));
      this.draw();
    } else {
      this.onPoint(this.nearest(this.at(event)));
    }
  }

  end() {
    const line = this.line;
    this.line = [];
    if (line.length < 4) {
      this.draw();
      return;
    }
    const step = Math.ceil(line.length / 200);
    this.choose(line.filter((_, place) => place % step === 0));
  }

  choose(lasso) {
    this.lasso = lasso;
    this.draw();
    this.onLasso(lasso);
  }

  nearest([x, y]) {
    let best = -1;
    let least = 0.03 ** 2;
    for (let image = 0; image < this.x.length; image += 1) {
      const apart = (this.x[image] - x) ** 2 + (this.y[image] - y) ** 2;
      if (apart < least) [best, least] = [image, apart];
    }
    return best;
  }

  key(event) {
    if (!this.x || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const circle = this.circle ?? { x: 0.5, y: 0.5, r: 0.15 };
    if (steps[event.key]) {
      const [right, up] = steps[event.key];
      circle.x = Math.min(Math.max(circle.x + 0.03 * right, 0), 1);
      circle.y = Math.min(Math.max(circle.y + 0.03 * up, 0), 1);
    } else if (event.key === "+" || event.key === "=") circle.r = Math.min(circle.r * MORE, 1);
    else if (event.key === "-") circle.r = Math.max(circle.r / MORE, 0.01);
    else if (event.key === "Enter") {
      const turns = Array.from({ length: CORNERS }, (_, k) => (2 * Math.PI * k) / CORNERS);
      this.choose(turns.map((a) => [circle.x + circle.r * Math.cos(a), circle.y + circle.r * Math.sin(a)]));
    } else return;
    event.preventDefault();
    event.stopPropagation();
    this.circle = circle;
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!this.x) return;
    const inset = 8;
    const px = (x) => inset + x * (width - 2 * inset);
    const py = (y) => inset + (1 - y) * (height - 2 * inset);
    const ink = getComputedStyle(canvas).color;
    const size = this.x.length > 5000 ? 2 : 3;
    const tints = Array.from({ length: TINTS }, (_, code) => this.colour(code));
    // Predicted classes are faint, labels full; labels are drawn over them.
    for (const full of [false, true]) {
      pen.globalAlpha = full ? 1 : 0.4;
      for (let image = 0; image < this.x.length; image += 1) {
        const label = this.labels[image];
        if (label >= 0 !== full) continue;
        const code = full ? label : this.predicted[image];
        pen.fillStyle = code >= 0 ? tints[code % TINTS] : ink;
        const side = full ? size + 1 : size;
        pen.fillRect(px(this.x[image]) - side / 2, py(this.y[image]) - side / 2, side, side);
      }
    }
    pen.globalAlpha = 1;
    pen.strokeStyle = ink;
    pen.lineWidth = 1.5;
    const line = this.line.length ? this.line : this.lasso;
    if (line.length > 1) {
      pen.beginPath();
      line.forEach(([x, y], place) => (place ? pen.lineTo(px(x), py(y)) : pen.moveTo(px(x), py(y))));
      if (!this.line.length) pen.closePath();
      pen.stroke();
    }
    if (this.circle && document.activeElement === canvas) {
      const { x, y, r } = this.circle;
      pen.beginPath();
      pen.ellipse(px(x), py(y), r * (width - 2 * inset), r * (height - 2 * inset), 0, 0, 7);
      pen.stroke();
    }
    if (this.here >= 0 && this.here < this.x.length) {
      pen.beginPath();
      pen.arc(px(this.x[this.here]), py(this.y[this.here]), 6, 0, 7);
      pen.stroke();
    }
  }
}
