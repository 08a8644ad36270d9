// The map: films as dots, the history as a path, recommendations as rings.

export class ItemMap {
  /** `onSelect(film)` is called when a dot is clicked. */
  constructor(canvas, tip, onSelect) {
    this.canvas = canvas;
    this.tip = tip;
    this.films = [];
    this.watched = [];
    this.recommended = [];
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    canvas.addEventListener("pointermove", event => this.showTip(this.nearest(event)));
    canvas.addEventListener("pointerleave", () => this.showTip(null));
    canvas.addEventListener("click", event => {
      const film = this.nearest(event);
      if (film) onSelect(film);
    });
  }

  setFilms(films) {
    this.films = films;
    this.draw();
  }

  /** The films of the history, in order, and the recommended ones. */
  setSession(watched, recommended) {
    this.watched = watched;
    this.recommended = recommended;
    const [seen, next] = [watched, recommended].map(films => films.map(film => film.title).join(", "));
    this.canvas.setAttribute("aria-label", watched.length
      ? `Map of films. Watched: ${seen}. Recommended: ${next}.`
      : `Map of ${this.films.length} films. Popular: ${next}.`);
    this.draw();
  }

  toPixels({x, y}) {
    const size = this.canvas.clientWidth, margin = 18;
    return [margin + (x + 1) / 2 * (size - 2 * margin), margin + (1 - y) / 2 * (size - 2 * margin)];
  }

  nearest(event) {
    let nearest = null, minimum = 14 ** 2;
    // In reverse drawing order.
    for (const film of [...this.watched, ...this.recommended, ...this.films]) {
      const [x, y] = this.toPixels(film);
      const distance = (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
      if (distance < minimum) [nearest, minimum] = [film, distance];
    }
    return nearest;
  }

  showTip(film) {
    this.tip.hidden = !film;
    if (!film) return;
    this.tip.textContent = film.title;
    const [x, y] = this.toPixels(film), half = this.tip.offsetWidth / 2, width = this.canvas.clientWidth;
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
    for (const film of this.films) this.disc(context, film, 1.7);
    context.lineWidth = 2;
    context.strokeStyle = colour("--accent");
    context.globalAlpha = 0.55;
    context.beginPath();
    this.watched.forEach((film, n) => context[n ? "lineTo" : "moveTo"](...this.toPixels(film)));
    context.stroke();
    context.globalAlpha = 1;
    context.lineWidth = 2.5;
    context.strokeStyle = colour("--recommended");
    for (const film of this.recommended) this.disc(context, film, 5.5, "stroke");
    context.font = "700 11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    this.watched.forEach((film, n) => {
      context.fillStyle = colour("--accent");
      this.disc(context, film, 9);
      context.fillStyle = colour("--on-accent");
      context.fillText(film.n ?? n + 1, ...this.toPixels(film));
    });
  }

  disc(context, film, radius, how = "fill") {
    context.beginPath();
    context.arc(...this.toPixels(film), radius, 0, 2 * Math.PI);
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
