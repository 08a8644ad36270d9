// The map: items as dots, the history as a path, recommendations as rings.

export class ItemMap {
  /** `onSelect(item)` is called when a dot is clicked. */
  constructor(canvas, tip, onSelect) {
    this.canvas = canvas;
    this.tip = tip;
    this.items = [];
    this.history = [];
    this.recommended = [];
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    canvas.addEventListener("pointermove", event => this.showTip(this.nearest(event)));
    canvas.addEventListener("pointerleave", () => this.showTip(null));
    canvas.addEventListener("click", event => {
      const item = this.nearest(event);
      if (item) onSelect(item);
    });
  }

  setItems(items) {
    this.items = items;
    this.draw();
  }

  /** The items of the history, in order, and the recommended ones. */
  setSession(history, recommended) {
    this.history = history;
    this.recommended = recommended;
    const [seen, next] = [history, recommended].map(items => items.map(item => item.title).join(", "));
    this.canvas.setAttribute("aria-label", history.length
      ? `Map of items. History: ${seen}. Recommended: ${next}.`
      : `Map of ${this.items.length} items. Popular: ${next}.`);
    this.draw();
  }

  toPixels({x, y}) {
    const size = this.canvas.clientWidth, margin = 18;
    return [margin + (x + 1) / 2 * (size - 2 * margin), margin + (1 - y) / 2 * (size - 2 * margin)];
  }

  nearest(event) {
    let nearest = null, minimum = 14 ** 2;
    // In reverse drawing order.
    for (const item of [...this.history, ...this.recommended, ...this.items]) {
      const [x, y] = this.toPixels(item);
      const distance = (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
      if (distance < minimum) [nearest, minimum] = [item, distance];
    }
    return nearest;
  }

  showTip(item) {
    this.tip.hidden = !item;
    if (!item) return;
    this.tip.textContent = item.title;
    const [x, y] = this.toPixels(item), half = this.tip.offsetWidth / 2, width = this.canvas.clientWidth;
    this.tip.style.left = `${Math.max(half, Math.min(width - half, x))}px`;
    this.tip.style.top = `${Math.max(y, 40)}px`;
  }

  draw() {
    const size = this.canvas.clientWidth, scale = devicePixelRatio || 1;
    if (!size) return;
    if (this.canvas.width !== Math.round(size * scale)) {
      this.canvas.width = this.canvas.height = Math.round(size * scale);
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, size, size);
    const colour = name => this.colour(name);
    context.fillStyle = colour("--dot");
    for (const item of this.items) this.disc(context, item, 1.7);
    context.lineWidth = 2;
    context.strokeStyle = colour("--accent");
    context.globalAlpha = 0.55;
    context.beginPath();
    this.history.forEach((item, n) => context[n ? "lineTo" : "moveTo"](...this.toPixels(item)));
    context.stroke();
    context.globalAlpha = 1;
    context.lineWidth = 2.5;
    context.strokeStyle = colour("--recommended");
    for (const item of this.recommended) this.disc(context, item, 5.5, "stroke");
    context.font = "700 11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    this.history.forEach((item, n) => {
      context.fillStyle = colour("--accent");
      this.disc(context, item, 9);
      context.fillStyle = colour("--on-accent");
      context.fillText(item.n ?? n + 1, ...this.toPixels(item));
    });
  }

  disc(context, item, radius, how = "fill") {
    context.beginPath();
    context.arc(...this.toPixels(item), radius, 0, 2 * Math.PI);
    context[how]();
  }

  /** A colour of the style sheet in the current colour scheme. */
  colour(name) {
    const probe = this.tip;
    probe.style.color = `var(${name})`;
    const value = getComputedStyle(probe).color;
    probe.style.color = "";
    return value;
  }
}
