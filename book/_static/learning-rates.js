/* Accuracy against the learning rate, with a choice of networks, of smoothing, and of single seeds. */
(function () {
  "use strict";

  const percent = (fraction, digits = 1) => `${(100 * fraction).toFixed(digits)} %`;

  /* The series of one network: its curve, with λ* marked, or its means; and each seed, if wanted.
  A run that diverged is a cross at the bottom, those of several networks side by side. */
  function seriesOf(network, { smooth, seeds }, bottom, place) {
    const { name, colour, dash, marker, hollow } = network;
    const style = `--colour: ${colour}`;
    const classes = hollow ? "series hollow" : "series";
    const line = { kind: "line", name: classes, style: `${style}; stroke-dasharray: ${dash}` };
    const dots = { kind: "dots", name: classes, style, marker, radius: 5 };
    const told = ([lr, accuracy], what) => `${name}, λ = ${lr}: ${percent(accuracy)} ${what}`;
    const series = smooth
      ? [{ ...line, points: network.smoothed },
         { ...dots, points: network.optimum, radius: 6, titles: network.optimum.map((p) => told(p, "at its best λ")) }]
      : [{ ...line, points: network.means },
         { ...dots, points: network.means, titles: network.means.map((p) => told(p, "on average")) }];
    const lost = network.diverged.map(([lr, seed]) => [`${name}, λ = ${lr}: seed ${seed} diverged`, [lr * 1.08 ** place, bottom]]);
    series.push({
      ...dots, name: "series diverged", marker: "X", points: lost.map(([, p]) => p), titles: lost.map(([told]) => told),
    });
    if (!seeds) return series;
    const points = network.runs.map(([lr, , accuracy]) => [1.06 * lr, accuracy]); // under the mean they would not be seen
    const titles = network.runs.map(([lr, seed, accuracy]) => told([lr, accuracy], `with seed ${seed}`));
    return [...series, { kind: "dots", name: "series seed", style, points, radius: 2.2, titles }];
  }

  /* Ends of the axis of accuracies for what is drawn of some networks: whole percents, with half of one of room. */
  function rangeOf(networks, { smooth, seeds }) {
    const drawn = networks.flatMap((n) => [...(smooth ? [...n.smoothed, ...n.optimum] : n.means), ...(seeds ? n.runs.map(([lr, , a]) => [lr, a]) : [])]);
    const accuracies = drawn.map(([, accuracy]) => 100 * accuracy);
    if (!accuracies.length) return [0, 1];
    return [Math.floor(Math.min(...accuracies) - 0.5) / 100, Math.ceil(Math.max(...accuracies) + 0.5) / 100];
  }

  /* The chart of some networks. Its axis of learning rates is that of all; that of accuracies is theirs. */
  function chart(data, chosen, options, width) {
    const { lrs, reference } = data;
    const range = rangeOf(chosen, options);
    const bottom = range[0] + (range[1] - range[0]) / 40; // a cross is seen whole
    const ticks = [];
    const between = [0.01, 0.02, 0.05, 0.1].find((d) => (range[1] - range[0]) / d <= 8.001) ?? 0.2;
    for (let y = Math.ceil(range[0] / between - 1e-9); y * between <= range[1] + 1e-9; y++) ticks.push(y * between);
    const half = Math.SQRT2; // half an octave of room on either side
    const middle = { kind: "line", name: "reference", points: range.map((y) => [reference, y]) };
    const names = chosen.map((network) => network.name).join(", ") || "no network";
    return charts.svg({
      width, height: Math.round(Math.min(420, Math.max(280, 0.6 * width))), title: "test accuracy",
      label: `Test accuracy against the learning rate, ${options.smooth ? "smoothed" : "means over seeds"}: ${names}.`,
      x: { range: [lrs[0] / half, lrs.at(-1) * half], ticks: lrs, log: true, format: String, title: "learning rate λ" },
      y: { range, ticks, format: (y) => percent(y, 0) },
      series: [middle, ...chosen.flatMap((network) => seriesOf(network, options, bottom, data.networks.indexOf(network) - (data.networks.length - 1) / 2))],
    });
  }

  function networkMarkup({ name, colour, dash, marker, hollow }, i) {
    const classes = hollow ? "series hollow" : "series";
    return `<label style="--colour: ${charts.escape(colour)}"><input type="checkbox" name="network" value="${i}" checked>
      <svg aria-hidden="true" width="34" height="14" viewBox="-17 -7 34 14">
        <path class="line ${classes}" style="stroke-dasharray: ${charts.escape(dash)}" d="M-17,0H17"/>
        <g class="dots ${classes}"><path transform="scale(4.5)" d="${charts.MARKERS[marker]}"/></g>
      </svg> ${charts.escape(name)}</label>`;
  }

  function markup(data) {
    return `<div class="chart"></div>
      <form class="controls">
        <fieldset class="networks"><legend>Networks</legend>${data.networks.map(networkMarkup).join("")}</fieldset>
        <fieldset><legend>Accuracy</legend>
          <label><input type="radio" name="curve" value="smooth" checked> smoothed over log λ</label>
          <label><input type="radio" name="curve" value="raw"> mean over seeds</label>
          <label><input type="checkbox" name="seeds"> each seed</label>
        </fieldset>
      </form>`;
  }

  /* Builds the figure in place of the element's fallback, and keeps it up to date. */
  function start(figure) {
    const data = JSON.parse(figure.querySelector("script").textContent);
    figure.innerHTML = markup(data);
    const form = figure.querySelector("form");
    const drawn = figure.querySelector(".chart");
    const redraw = charts.redrawn(figure, () => {
      const on = new Set(new FormData(form).getAll("network").map(Number));
      const options = { smooth: form.elements.curve.value === "smooth", seeds: form.elements.seeds.checked };
      const chosen = data.networks.filter((_, i) => on.has(i));
      drawn.innerHTML = chart(data, chosen, options, drawn.clientWidth);
    });
    form.addEventListener("input", redraw);
    redraw();
  }

  globalThis.learningRates = { chart, rangeOf, seriesOf };
  document.querySelectorAll("[data-interactive=learning-rates]").forEach(start);
})();
