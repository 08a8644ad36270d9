// The map: all films as dots, the session as a path among them, what comes next as rings.

export class FilmMap {
  /** `onChoose(film)` is called when a dot is clicked. */
  constructor(canvas, tip, onChoose) {
    this.canvas = canvas;
    this.tip = tip;
    this.films = [];
    this.watched = [];
    this.coming = [];
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    canvas.addEventListener("pointermove", event => this.point(this.nearest(event)));
    canvas.addEventListener("pointerleave", () => this.point(null));
    canvas.addEventListener("click", event => {
      const film = this.nearest(event);
      if (film) onChoose(film);
    });
  }

  show(films) {
    this.films = films;
    this.draw();
  }

  /** Films with their place, in order of watching; and those that may come next. */
  session(watched, coming) {
    this.watched = watched;
    this.coming = coming;
    const [seen, next] = [watched, coming].map(films => films.map(film => film.title).join(", "));
    this.canvas.setAttribute("aria-label", watched.length
      ? `Map of films. Watched: ${seen}. Next: ${next}.`
      : `Map of ${this.films.length} films. Popular: ${next}.`);
    this.draw();
  }

  at({x, y}) {
    const size = this.canvas.clientWidth, margin = 18;
    return [margin + (x + 1) / 2 * (size - 2 * margin), margin + (1 - y) / 2 * (size - 2 * margin)];
  }

  nearest(event) {
    let best = null, least = 14 ** 2;
    // What is drawn on top is found first.
    for (const film of [...this.watched, ...this.coming, ...this.films]) {
      const [x, y] = this.at(film);
      const distance = (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
      if (distance < least) [best, least] = [film, distance];
    }
    return best;
  }

  point(film) {
    this.tip.hidden = !film;
    if (!film) return;
    this.tip.textContent = film.title;
    const [x, y] = this.at(film), half = this.tip.offsetWidth / 2, width = this.canvas.clientWidth;
    this.tip.style.left = `${Math.max(half, Math.min(width - half, x))}px`;
    this.tip.style.top = `${Math.max(y, 40)}px`;
  }

  draw() {
    const size = this.canvas.clientWidth, scale = devicePixelRatio || 1;
    if (!size) return;
    if (this.canvas.width !== Math.round(size * scale)) {
      this.canvas.width = this.canvas.height = Math.round(size * scale);
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, size, size);
    const colour = name => this.colour(name);
    pen.fillStyle = colour("--dot");
    for (const film of this.films) this.disc(pen, film, 1.7);
    pen.lineWidth = 2;
    pen.strokeStyle = colour("--accent");
    pen.globalAlpha = 0.55;
    pen.beginPath();
    this.watched.forEach((film, n) => pen[n ? "lineTo" : "moveTo"](...this.at(film)));
    pen.stroke();
    pen.globalAlpha = 1;
    pen.lineWidth = 2.5;
    pen.strokeStyle = colour("--coming");
    for (const film of this.coming) this.disc(pen, film, 5.5, "stroke");
    pen.font = "700 11px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    this.watched.forEach((film, n) => {
      pen.fillStyle = colour("--accent");
      this.disc(pen, film, 9);
      pen.fillStyle = colour("--on-accent");
      pen.fillText(film.n ?? n + 1, ...this.at(film));
    });
  }

  disc(pen, film, radius, how = "fill") {
    pen.beginPath();
    pen.arc(...this.at(film), radius, 0, 2 * Math.PI);
    pen[how]();
  }

  /** A colour of the style sheet, as the present scheme has it. */
  colour(name) {
    const probe = this.tip;
    probe.style.color = `var(${name})`;
    const found = getComputedStyle(probe).color;
    probe.style.color = "";
    return found;
  }
}
