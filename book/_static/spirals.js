/* Vectors that turn under SGD with weight decay: each finds its circle, and all find one angle. */
(function () {
  "use strict";

  /* Steps shown in a second. */
  const RATE = 25;
  const degrees = (radians) => (180 / Math.PI) * radians;

  /* At the start of each step |w| and where w points, and the angle by which the step turns it, in radians.

  A vector has its first norm `start` and direction `angle`, and cSq = (|g||w|)². */
  function path({ start, angle, cSq }, { lr, weightDecay, steps }) {
    const always = (x) => new Float64Array(steps + 1).fill(x);
    const normSq = normEquation.normCurve(start ** 2, always(cSq), always(lr), { weightDecay, momentum: 0 });
    // −λg stands at a right angle on what decay leaves of w
    const turn = normSq.map((n) => Math.atan2((lr * Math.sqrt(cSq)) / n, 1 - lr * weightDecay));
    let direction = angle;
    const directions = turn.map((by) => (direction += by) - by);
    return { norm: normSq.map(Math.sqrt), angle: directions, turn };
  }

  /* The circle of a vector: |w| in equilibrium. */
  const circle = ({ cSq }, { lr, weightDecay }) =>
    Math.sqrt(normEquation.equilibriumNormSq(cSq, lr, { weightDecay, momentum: 0 }));

  /* Where the tip of a path is at a step: x to the right, y upwards. */
  function tip({ norm, angle }, step) {
    return [norm[step] * Math.cos(angle[step]), norm[step] * Math.sin(angle[step])];
  }

  function vectorMarkup(data, paths, i, step, scale) {
    const at = (t) => tip(paths[i], t).map((x, axis) => (axis ? -scale : scale) * x);
    const trail = Array.from({ length: step + 1 }, (_, t) => at(t).map((x) => x.toFixed(1)));
    const [x, y] = at(step);
    const turned = -degrees(paths[i].angle[step]);
    const beyond = 1 + 16 / Math.hypot(x, y);
    return `<g style="--colour: ${charts.escape(data.vectors[i].colour)}">
      <circle class="line series circle" r="${scale * circle(data.vectors[i], data)}"/>
      <path class="line series trail" d="M${trail.join("L")}"/>
      <line class="line series vector" x2="${x}" y2="${y}"/>
      <path class="head" transform="translate(${x},${y}) rotate(${turned})" d="M3,0L-9,-5V5Z"/>
      <text x="${x * beyond}" y="${y * beyond + 4}" text-anchor="middle">${charts.escape(data.vectors[i].name)}</text></g>`;
  }

  /* The vectors at a step, as the text of a square svg of that width. */
  function plane(data, paths, step, width) {
    const longest = Math.max(...paths.map(({ norm }) => Math.max(...norm)));
    const half = width / 2;
    const vectors = paths.map((_, i) => vectorMarkup(data, paths, i, step, (half - 24) / longest));
    return `<svg role="img" aria-label="Three vectors from one centre, each with the circle it moves towards"
      width="${width}" height="${width}" viewBox="${-half} ${-half} ${width} ${width}">${vectors.join("")}</svg>`;
  }

  /* The angle of each step up to this one, and the angle of equilibrium. */
  function angleChart(data, paths, step, width) {
    const top = Math.ceil(degrees(Math.max(...paths.map(({ turn }) => turn[0]))) / 5) * 5;
    const series = paths.map(({ turn }, i) => ({
      kind: "line", name: "series", style: `--colour: ${data.vectors[i].colour}`,
      points: Array.from(turn.slice(0, step + 1), (by, t) => [t, degrees(by)]),
    }));
    const reference = { kind: "line", name: "reference", points: [0, data.steps].map((t) => [t, degrees(data.rotation)]) };
    return charts.svg({
      width, height: Math.min(width, 300), series: [reference, ...series],
      title: "angle of each step", label: "The angle of each step against the step: three curves that meet on one line",
      x: { range: [0, data.steps], ticks: charts.stepTicks(data.steps, width), title: "step" },
      y: { range: [0, top], ticks: Array.from({ length: top / 5 + 1 }, (_, k) => 5 * k), format: (tick) => `${tick}°` },
    });
  }

  const markup = ({ steps, vectors }) => `<div class="turning"><div class="plane"></div><div class="chart"></div></div>
    <p class="readings">${vectors.map(({ name, colour }) => `<span style="--colour: ${charts.escape(colour)}"><i></i>${charts.escape(name)}:
      |w| = <b class="norm"></b>, angle <b class="turn"></b></span>`).join("")}</p>
    <div class="controls player">
      <button type="button" name="play">Play</button>
      <button type="button" name="step">One step</button>
      <button type="button" name="restart">Back to the start</button>
      <label class="slider"><span>Step</span><input type="range" name="at" min="0" max="${steps}" value="0"><b></b></label>
    </div>`;

  /* Builds the figure in place of the element's fallback; it plays once, when it comes into sight. */
  function start(figure) {
    const data = JSON.parse(figure.querySelector("script").textContent);
    const paths = data.vectors.map((vector) => path(vector, data));
    figure.innerHTML = markup(data);
    const find = (selector) => figure.querySelector(selector);
    const [play, at] = [find("[name=play]"), find("[name=at]")];
    let step = 0;
    let played = null; // when the first step would have been shown, in ms; null while it stands still

    const redraw = charts.redrawn(figure, () => {
      find(".plane").innerHTML = plane(data, paths, step, Math.min(find(".plane").clientWidth, 340));
      find(".chart").innerHTML = angleChart(data, paths, step, find(".chart").clientWidth);
      const texts = paths.map(({ norm, turn }) => [norm[step].toFixed(2), `${degrees(turn[step]).toFixed(1)}°`]);
      figure.querySelectorAll(".norm").forEach((b, i) => (b.textContent = texts[i][0]));
      figure.querySelectorAll(".turn").forEach((b, i) => (b.textContent = texts[i][1]));
      at.value = step;
      at.nextElementSibling.textContent = step;
      at.setAttribute("aria-valuetext", `${step}; angles ${texts.map(([, turn]) => turn).join(", ")}`);
      play.textContent = played === null ? "Play" : "Pause";
    });
    const show = (wanted) => {
      step = Math.max(0, Math.min(data.steps, wanted));
      redraw();
    };
    const pause = () => {
      played = null;
      redraw();
    };
    const frame = (now) => {
      if (played === null) return;
      show(Math.floor(((now - played) / 1000) * RATE));
      if (step === data.steps) pause();
      else requestAnimationFrame(frame);
    };
    const run = () => {
      if (step === data.steps) step = 0;
      played = performance.now() - (1000 * step) / RATE;
      requestAnimationFrame(frame);
    };

    play.addEventListener("click", () => (played === null ? run() : pause()));
    const halt = (selector, event, wanted) =>
      find(selector).addEventListener(event, () => {
        pause();
        show(wanted());
      });
    halt("[name=step]", "click", () => step + 1);
    halt("[name=restart]", "click", () => 0);
    halt("[name=at]", "input", () => Number(at.value));

    // whoever wants no motion sees where it ends, until they ask for more
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return show(data.steps);
    show(0);
    new IntersectionObserver((entries, observer) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      run();
    }, { threshold: 0.6 }).observe(find(".turning"));
  }

  globalThis.spirals = { path, circle, tip };
  document.querySelectorAll("[data-interactive=spirals]").forEach(start);
})();
