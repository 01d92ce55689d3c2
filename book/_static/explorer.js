/* The explorer: sliders for λ, α, ρ, N and the initial norm, and what the norm equation makes of them. */
(function () {
  "use strict";

  /* Twenty numbers a decade, in which doubling is six steps and halving too. */
  const PREFERRED = [1, 1.12, 1.25, 1.4, 1.6, 1.8, 2, 2.24, 2.5, 2.8, 3.2, 3.6, 4, 4.5, 5, 5.6, 6.3, 7.1, 8, 9];
  const preferred = (k) => Number(`${PREFERRED[((k % 20) + 20) % 20]}e${Math.floor(k / 20)}`);
  const positionOf = (value) => Math.round(20 * Math.log10(value));
  const digits = (x, n = 3) => {
    const rounded = Number(x.toPrecision(n));
    return rounded && (rounded < 1e-3 || rounded >= 1e5) ? rounded.toExponential().replace("e+", "e") : rounded.toLocaleString("en", { maximumSignificantDigits: n });
  };

  /* Each slider: where it can be, and what its position says; all are logarithmic. */
  const SLIDERS = {
    lr: { label: "λ, learning rate", range: [-40, 20], value: preferred, position: positionOf },
    weightDecay: { label: "α, weight decay", range: [-100, -40], value: preferred, position: positionOf },
    // even steps of 1/(1−ρ), over how many steps momentum spreads a gradient
    momentum: {
      label: "ρ, momentum", range: [0, 40],
      value: (k) => Number((1 - preferred(-k)).toFixed(6)),
      position: (rho) => -positionOf(1 - rho),
    },
    batchSize: { label: "N, batch size", range: [5, 13], value: (k) => 2 ** k, position: (n) => Math.round(Math.log2(n)) },
    startFactor: {
      label: "|w₀|, initial norm", range: [-16, 16],
      value: (k) => 2 ** (k / 4), position: (factor) => Math.round(4 * Math.log2(factor)),
      shown: (factor, run) => digits(factor * Math.sqrt(run.normSq[0])),
    },
  };

  /* The settings of a recorded run, from which the sliders start. */
  function settingsOf(run) {
    const { lr, weightDecay, momentum, batchSize } = run;
    return { lr, weightDecay, momentum, batchSize, startFactor: 1 };
  }

  /* λ, mean c² and, where λ follows the recorded schedule, what was recorded: all that the curves need. */
  function drive(run, settings, scheduled) {
    const steps = run.epochs * run.stepsPerEpoch;
    const noise = run.batchSize / settings.batchSize; // E|g|² of pure noise is ∝ 1/N
    const lr = scheduled
      ? normEquation.scheduledLr(settings.lr, run)
      : new Float64Array(steps).fill(settings.lr);
    const cSq = Float64Array.from(lr, (_, t) => noise * (scheduled ? run.cSq[Math.floor(t / run.every)] : run.meanCSq));
    return { lr, cSq, startNormSq: settings.startFactor ** 2 * run.normSq[0] };
  }

  /* All curves of both charts, as points [step, value]. */
  function curves(run, settings, scheduled) {
    const { lr, cSq, startNormSq } = drive(run, settings, scheduled);
    const equation = normEquation.normCurve(startNormSq, cSq, lr, settings);
    const simulated = normEquation.simulate(startNormSq, cSq, lr, settings);
    const steps = run.normSq.map((_, i) => i * run.every);
    const points = (value) => steps.map((t) => [t, value(t)]);
    const middle = (i) => (i + 0.5) * run.every;
    return {
      norm: {
        recorded: scheduled ? run.normSq.map((n, i) => [steps[i], n]) : [],
        target: points((t) => normEquation.equilibriumNormSq(cSq[t], lr[t], settings)),
        equation: points((t) => equation[t]),
        simulated: points((t) => simulated.normSq[t]),
      },
      ratio: {
        recorded: scheduled ? run.ratio.map((r, i) => [middle(i), r]) : [],
        target: points((t) => normEquation.equilibriumRatio(lr[t], settings)),
        equation: points((t) => (lr[t] * Math.sqrt(cSq[t])) / equation[t]),
        simulated: points((t) => lr[t] * Math.sqrt(simulated.gradNormSq[t] / simulated.normSq[t])),
      },
    };
  }

  /* The three numbers under the charts; λ is that of the peak where it follows a schedule. */
  function readings(run, settings) {
    const cSq = (run.meanCSq * run.batchSize) / settings.batchSize;
    return {
      ratio: normEquation.equilibriumRatio(settings.lr, settings),
      relaxation: normEquation.relaxationSteps(settings.lr, settings),
      normSq: normEquation.equilibriumNormSq(cSq, settings.lr, settings),
    };
  }

  const extent = (points) => {
    const values = points.map(([, y]) => y).filter((y) => y > 0 && Number.isFinite(y));
    return [Math.min(...values), Math.max(...values)];
  };

  /* A chart of one group of curves. `floor` is the least value worth a place on its axis. */
  function chart(title, group, run, width, floor) {
    const drawn = ["recorded", "target", "simulated", "equation"];
    const [low, high] = extent([...group.recorded, ...group.equation, ...group.simulated]);
    const last = (name) => digits(group[name].at(-1)[1]);
    const steps = run.epochs * run.stepsPerEpoch;
    return charts.svg({
      width, height: Math.round(Math.min(300, Math.max(160, width < 300 ? 0.75 * width : 0.5 * width))), title,
      label: `${title} over ${steps} steps: the equation goes from ${digits(group.equation[0][1])} to ${last("equation")}, the simulation ends at ${last("simulated")}.`,
      x: { range: [0, steps], ticks: charts.stepTicks(steps, width), title: "step" },
      y: charts.logAxis(Math.max(low, floor), Math.max(high, 2 * floor), title),
      series: drawn.map((name) => ({
        name, points: group[name], kind: name === "simulated" ? "dots" : "line", radius: 1.7,
      })),
    });
  }

  function sliderMarkup(name) {
    const { label, range: [low, high] } = SLIDERS[name];
    return `<label class="slider"><span>${label}</span>
      <input type="range" name="${name}" min="${low}" max="${high}" step="1"><b></b></label>`;
  }

  const LEGEND = [
    ["target", "equilibrium"], ["equation", "norm equation"], ["simulated", "simulation"], ["recorded", "recorded run"],
  ];

  function markup(runs) {
    const options = runs.map((run, i) => `<option value="${i}">${charts.escape(run.name)}</option>`);
    const keys = LEGEND.map(([name, text]) => `<span class="key"><i class="${name}"></i>${text}</span>`);
    return `<div class="pair"><div class="chart"></div><div class="chart"></div></div>
      <p class="legend">${keys.join("")}</p>
      <p class="readings"><span class="when"></span>
        <span>√(2λα(1−ρ)) = <b data-reading="ratio"></b></span>
        <span>relaxation time <b data-reading="relaxation"></b></span>
        <span>|w|² in equilibrium <b data-reading="normSq"></b></span>
      </p>
      <form class="controls">
        <fieldset><legend>Over time, λ</legend>
          <label><input type="radio" name="schedule" value="scheduled" checked> follows the book’s schedule</label>
          <label><input type="radio" name="schedule" value="constant"> is constant</label>
        </fieldset>
        <label class="choice"><span>Recorded layer</span><select name="run">${options.join("")}</select></label>
        ${Object.keys(SLIDERS).map(sliderMarkup).join("")}
        <button type="button" name="reset">Back to the recorded settings</button>
      </form>`;
  }

  /* Shows settings in the form: slider positions, numbers beside them, and the same for screen readers. */
  function showSettings(form, settings, run) {
    for (const [name, slider] of Object.entries(SLIDERS)) {
      const input = form.elements[name];
      input.value = slider.position(settings[name]);
      const text = slider.shown ? slider.shown(settings[name], run) : digits(settings[name], 4).replace(",", "\u202f");
      input.setAttribute("aria-valuetext", text);
      input.parentElement.querySelector("b").textContent = text;
    }
  }

  function showReadings(figure, run, settings, scheduled) {
    const { ratio, relaxation, normSq } = readings(run, settings);
    const epochs = digits(relaxation / run.stepsPerEpoch, 2);
    const texts = { ratio: digits(ratio), relaxation: `${digits(relaxation)} steps, ${epochs} epochs`, normSq: digits(normSq) };
    figure.querySelector(".when").textContent = scheduled ? "At the peak of λ:" : "At any time:";
    for (const [name, text] of Object.entries(texts)) {
      figure.querySelector(`[data-reading=${name}]`).textContent = text;
    }
  }

  /* Builds the figure in place of the element's fallback, and keeps it up to date. */
  function start(figure) {
    const { runs } = JSON.parse(figure.querySelector("script").textContent);
    figure.innerHTML = markup(runs);
    const form = figure.querySelector("form");
    const [normChart, ratioChart] = figure.querySelectorAll(".chart");
    let run = runs[0];
    let settings = settingsOf(run);
    const redraw = charts.redrawn(figure, () => {
      const scheduled = form.elements.schedule.value === "scheduled";
      const { norm, ratio } = curves(run, settings, scheduled);
      showSettings(form, settings, run);
      showReadings(figure, run, settings, scheduled);
      figure.querySelector(".key:has(.recorded)").hidden = !scheduled;
      normChart.innerHTML = chart("|w|²", norm, run, normChart.clientWidth, 0);
      // λ starts and ends at 0, where a logarithm has no end
      const floor = normEquation.equilibriumRatio(settings.lr, settings) / 20;
      ratioChart.innerHTML = chart("λ|g|/|w|", ratio, run, ratioChart.clientWidth, floor);
    });
    const change = (changes) => {
      settings = { ...settings, ...changes };
      redraw();
    };
    form.addEventListener("input", ({ target }) => {
      if (target.name === "run") run = runs[target.value];
      if (target.name === "run") change(settingsOf(run));
      else if (target.name in SLIDERS) change({ [target.name]: SLIDERS[target.name].value(Number(target.value)) });
      else redraw();
    });
    form.elements.reset.addEventListener("click", () => change(settingsOf(run)));
    offer(figure, form, (changes) => change({ ...settingsOf(run), ...changes(settingsOf(run)) }));
    redraw();
  }

  /* The experiments of the page. A button's data says what is set, and by what recorded settings are multiplied. */
  function offer(figure, form, change) {
    for (const button of document.querySelectorAll("button[data-explore]")) {
      button.hidden = false;
      button.addEventListener("click", () => {
        const { schedule, times = {}, set = {} } = JSON.parse(button.dataset.explore);
        form.elements.schedule.value = schedule;
        const multiplied = (recorded) => Object.entries(times).map(([name, factor]) => [name, factor * recorded[name]]);
        change((recorded) => ({ ...Object.fromEntries(multiplied(recorded)), ...set }));
        figure.scrollIntoView({ block: "nearest" });
      });
    }
  }

  globalThis.explorer = { preferred, SLIDERS, settingsOf, curves, readings };
  if (globalThis.document) document.querySelectorAll("[data-interactive=explorer]").forEach(start);
})();
