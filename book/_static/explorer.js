/* The explorer: sliders for λ, α, ρ, N and the initial norm, what the norm equation makes of them, and AdamW beside it. */
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

  /* How λ may change over time. */
  const SCHEDULES = {
    scheduled: "follows the book’s schedule", constant: "is constant",
    flat: "rises, stays to two thirds, and falls", cosine: "falls as a cosine",
  };

  /* Each slider: where it can be, and what its position says; all are logarithmic. */
  const SLIDERS = {
    lr: { label: "λ, learning rate", range: [-40, 26], value: preferred, position: positionOf },
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
    adamLr: { label: "λ of AdamW", range: [-80, -20], value: preferred, position: positionOf },
  };
  const ADAM_LR = 2e-3;

  /* What is on or off. */
  const SWITCHES = { decayFollows: "α falls with λ, after the peak", adamw: "AdamW beside it, that turns as much" };

  /* What a slider says at the position nearest to a value. */
  function reachable(name, value) {
    const { position, range: [low, high], value: at } = SLIDERS[name];
    return at(Math.max(low, Math.min(high, position(value))));
  }

  /* The settings of a recorded run, from which the sliders start. */
  function settingsOf(run) {
    const { lr, weightDecay, momentum, batchSize } = run;
    const beside = { decayFollows: false, adamw: false, adamLr: ADAM_LR };
    return { schedule: "scheduled", lr, weightDecay, momentum, batchSize, startFactor: 1, ...beside };
  }

  /* The settings that an experiment of the page makes of the recorded ones: what it sets, what it multiplies. */
  function experiment(run, { schedule, times = {}, set = {} }) {
    const recorded = settingsOf(run);
    const changed = { ...set };
    for (const [name, factor] of Object.entries(times)) changed[name] = factor * recorded[name];
    return { ...recorded, schedule, ...changed };
  }

  /* A state, which run and which settings, as the fragment of an address, and back; null for any other fragment. */
  const fragment = ({ run, settings }) => `#${new URLSearchParams({ run, ...settings })}`;
  function stateOf(fragment, runs) {
    const given = Object.fromEntries(new URLSearchParams(fragment.slice(1)));
    if (!(given.run in runs) || !Object.hasOwn(SCHEDULES, given.schedule ?? "")) return null;
    const settings = { ...settingsOf({}), schedule: given.schedule }; // in the order in which they are written
    for (const name of Object.keys(SWITCHES)) settings[name] = given[name] === "true";
    for (const name of Object.keys(SLIDERS)) {
      // addresses from before AdamW was there have no rate of it
      const value = reachable(name, Number(given[name] ?? (name === "adamLr" ? ADAM_LR : NaN)));
      if (!Number.isFinite(value)) return null;
      settings[name] = value;
    }
    return { run: Number(given.run), settings };
  }

  /* λ, α and mean c² of each step, and the initial norm: all that the curves need. */
  function drive(run, settings) {
    const scheduled = settings.schedule === "scheduled";
    const noise = run.batchSize / settings.batchSize; // E|g|² of pure noise is ∝ 1/N
    const lr = normEquation.scheduledLr(settings.lr, run, settings.schedule);
    const cSq = Float64Array.from(lr, (_, t) => noise * (scheduled ? run.cSq[Math.floor(t / run.every)] : run.meanCSq));
    const decay = (peak) => (settings.decayFollows ? normEquation.followingDecay(peak, run, settings.schedule) : peak);
    const weightDecay = decay(settings.weightDecay);
    const adamw = {
      lr: lr.map((x) => (x / settings.lr) * settings.adamLr),
      weightDecay: decay(normEquation.adamwDecay(settings.adamLr, settings)),
    };
    return { lr, weightDecay, cSq, adamw, startNormSq: settings.startFactor ** 2 * run.normSq[0] };
  }

  /* All curves of both charts, as points [step, value]. */
  function curves(run, settings) {
    const scheduled = settings.schedule === "scheduled";
    const { momentum } = settings;
    const { lr, weightDecay, cSq, adamw, startNormSq } = drive(run, settings);
    const at = (t) => ({ momentum, weightDecay: weightDecay[t] ?? weightDecay });
    const equation = normEquation.normCurve(startNormSq, cSq, lr, { weightDecay, momentum });
    const simulated = normEquation.simulate(startNormSq, cSq, lr, { weightDecay, momentum });
    const adamwNormSq = normEquation.adamwCurve(startNormSq, run.size, adamw.lr, adamw);
    const steps = run.normSq.map((_, i) => i * run.every);
    const points = (value) => steps.map((t) => [t, value(t)]);
    const middle = (i) => (i + 0.5) * run.every;
    return {
      norm: {
        recorded: scheduled ? run.normSq.map((n, i) => [steps[i], n]) : [],
        target: points((t) => normEquation.equilibriumNormSq(cSq[t], lr[t], at(t))),
        equation: points((t) => equation[t]),
        simulated: points((t) => simulated.normSq[t]),
        adamw: settings.adamw ? points((t) => adamwNormSq[t]) : [],
      },
      ratio: {
        recorded: scheduled ? run.ratio.map((r, i) => [middle(i), r]) : [],
        target: points((t) => normEquation.equilibriumRatio(lr[t], at(t))),
        equation: points((t) => (lr[t] * Math.sqrt(cSq[t])) / equation[t]),
        simulated: points((t) => lr[t] * Math.sqrt(simulated.gradNormSq[t] / simulated.normSq[t])),
        // of the SGD that turns as much
        adamw: settings.adamw ? points((t) => (1 - momentum) * adamw.lr[t] * Math.sqrt(run.size / adamwNormSq[t])) : [],
      },
    };
  }

  /* The numbers under the charts, those of AdamW last; λ and α are those of the peak where they follow a schedule. */
  function readings(run, settings) {
    const cSq = (run.meanCSq * run.batchSize) / settings.batchSize;
    return {
      ratio: normEquation.equilibriumRatio(settings.lr, settings),
      relaxation: normEquation.relaxationSteps(settings.lr, settings),
      normSq: normEquation.equilibriumNormSq(cSq, settings.lr, settings),
      ...adamwReadings(run, settings),
    };
  }

  function adamwReadings({ size }, settings) {
    const lr = settings.adamLr;
    const at = { weightDecay: normEquation.adamwDecay(lr, settings) };
    return {
      adamwDecay: at.weightDecay,
      adamwRelaxation: normEquation.adamwRelaxation(lr, at),
      adamwNormSq: normEquation.adamwNormSq(size, lr, at),
    };
  }

  const extent = (points) => {
    const values = points.map(([, y]) => y).filter((y) => y > 0 && Number.isFinite(y));
    return [Math.min(...values), Math.max(...values)];
  };

  /* A chart of one group of curves, and of what the equation said before the last change. `floor` is the least
  value worth a place on its axis. */
  function chart(title, group, before, run, size, floor) {
    const drawn = ["recorded", "target", "before", "simulated", "adamw", "equation"];
    const [low, high] = extent([...group.recorded, ...group.equation, ...group.simulated, ...group.adamw, ...before]);
    const beside = group.adamw.length ? `, AdamW goes to ${digits(group.adamw.at(-1)[1])}` : "";
    const last = (name) => digits(group[name].at(-1)[1]);
    const steps = run.epochs * run.stepsPerEpoch;
    return charts.svg({
      ...size, title,
      label: `${title} over ${steps} steps: the equation goes from ${digits(group.equation[0][1])} to ${last("equation")}, the simulation ends at ${last("simulated")}${beside}.`,
      x: { range: [0, steps], ticks: charts.stepTicks(steps, size.width), title: "step" },
      y: charts.logAxis(Math.max(low, floor), Math.max(high, 2 * floor), title),
      series: drawn.map((name) => ({
        name, points: name === "before" ? before : group[name], kind: name === "simulated" ? "dots" : "line", radius: 1.7,
      })),
    });
  }

  /* Draws both charts of a state, with the one before it where there is one, into a pair of elements. */
  function drawPair(pair, runs, state, before) {
    const { run, ...shown } = { run: runs[state.run], ...curves(runs[state.run], state.settings) };
    const earlier = before && curves(runs[before.run], before.settings);
    // λ starts and ends at 0, where a logarithm has no end
    const floor = normEquation.equilibriumRatio(state.settings.lr, state.settings) / 20;
    for (const [i, [group, title, least]] of [["norm", "|w|²", 0], ["ratio", "λ|g|/|w|", floor]].entries()) {
      const width = pair.children[i].clientWidth;
      // on a phone, where they stay in sight, two charts leave room for the sliders
      const height = Math.round(Math.max(170, Math.min(0.75 * width, 0.38 * innerHeight, width < 600 && innerWidth < 700 ? 0.24 * innerHeight : 320)));
      pair.children[i].innerHTML = chart(title, shown[group], earlier?.[group].equation ?? [], run, { width, height }, least);
    }
  }

  function sliderMarkup(name) {
    const { label, range: [low, high] } = SLIDERS[name];
    return `<label class="slider"><span>${label}</span>
      <input type="range" name="${name}" min="${low}" max="${high}" step="1"><b></b></label>`;
  }

  const LEGEND = [
    ["target", "equilibrium"], ["equation", "norm equation"], ["simulated", "simulation"], ["recorded", "recorded run"],
    ["adamw", "norm equation of AdamW"], ["before", "norm equation before the last change"],
  ];

  /* Charts with their legend and readings: what is shown in the figure, and beside a button of the page. */
  function viewMarkup() {
    const keys = LEGEND.map(([name, text]) => `<span class="key"><i class="${name}"></i>${text}</span>`);
    return `<div class="pair"><div class="chart"></div><div class="chart"></div></div>
      <p class="legend">${keys.join("")}</p>
      <p class="readings"><span class="when"></span>
        <span>√(2λα(1−ρ)) = <b data-reading="ratio"></b></span>
        <span>relaxation time <b data-reading="relaxation"></b></span>
        <span>|w|² in equilibrium <b data-reading="normSq"></b></span>
      </p>
      <p class="readings of-adamw"><span>AdamW: α = <b data-reading="adamwDecay"></b></span>
        <span>relaxation time of |w|² <b data-reading="adamwRelaxation"></b></span>
        <span>|w|² in equilibrium <b data-reading="adamwNormSq"></b></span>
      </p>`;
  }

  function markup(runs) {
    const options = runs.map((run, i) => `<option value="${i}">${charts.escape(run.name)}</option>`);
    const choices = Object.entries(SCHEDULES).map(([value, text]) => `<label><input type="radio" name="schedule" value="${value}"> ${text}</label>`);
    const switches = Object.entries(SWITCHES).map(([name, text]) => `<label><input type="checkbox" name="${name}"> ${text}</label>`);
    return `<div class="view">${viewMarkup()}</div>
      <form class="controls">
        <fieldset><legend>Over time, λ</legend>
          ${choices.join("\n")}
        </fieldset>
        <label class="choice"><span>Recorded layer</span><select name="run">${options.join("")}</select></label>
        <fieldset><legend>Options</legend>
          ${switches.join("\n")}
        </fieldset>
        ${Object.keys(SLIDERS).map(sliderMarkup).join("")}
        <button type="button" name="reset">Back to the recorded settings</button>
      </form>`;
  }

  /* Shows settings in the form: slider positions, numbers beside them, and the same for screen readers. */
  function showSettings(form, { run, settings }, runs) {
    form.elements.run.value = run;
    form.elements.schedule.value = settings.schedule;
    for (const name of Object.keys(SWITCHES)) form.elements[name].checked = settings[name];
    // what is constant does not fall
    form.elements.decayFollows.disabled = settings.schedule === "constant";
    form.elements.adamLr.parentElement.hidden = !settings.adamw;
    for (const [name, slider] of Object.entries(SLIDERS)) {
      const input = form.elements[name];
      input.value = slider.position(settings[name]);
      const text = slider.shown ? slider.shown(settings[name], runs[run]) : digits(settings[name], 4).replace(",", "\u202f");
      input.setAttribute("aria-valuetext", text);
      input.parentElement.querySelector("b").textContent = text;
    }
  }

  function showReadings(view, run, settings) {
    const found = readings(run, settings);
    const time = (steps) => `${digits(steps)} steps, ${digits(steps / run.stepsPerEpoch, 2)} epochs`;
    const texts = Object.entries(found).map(([name, x]) => [name, name.toLowerCase().endsWith("relaxation") ? time(x) : digits(x)]);
    view.querySelector(".when").textContent = settings.schedule === "constant" ? "At any time:" : "At the peak of λ:";
    view.querySelector(".of-adamw").hidden = !settings.adamw;
    for (const [name, text] of texts) {
      view.querySelector(`[data-reading=${name}]`).textContent = text;
    }
  }

  /* Builds the figure in place of the element's fallback, and keeps it up to date. */
  function start(figure) {
    const { runs } = JSON.parse(figure.querySelector("script").textContent);
    figure.innerHTML = markup(runs);
    const form = figure.querySelector("form");
    const recorded = (run) => ({ run, settings: settingsOf(runs[run]) });
    let state = stateOf(location.hash, runs) ?? recorded(0);
    let before = null;
    let writing = null;
    let held = false; // while a slider is dragged, what was before it stays what it was
    const views = [figure.querySelector(".view")];
    const redraw = charts.redrawn(figure, () => {
      showSettings(form, state, runs);
      for (const view of views) {
        drawPair(view.querySelector(".pair"), runs, state, before);
        showReadings(view, runs[state.run], state.settings);
        view.querySelector(".key:has(.recorded)").hidden = state.settings.schedule !== "scheduled";
        view.querySelector(".key:has(.before)").hidden = !before;
        view.querySelector(".key:has(.adamw)").hidden = !state.settings.adamw;
      }
    });
    const change = (next) => {
      if (!held) before = state;
      state = next;
      // the address is that of what is shown, once it stays: browsers ignore changes that come too often
      clearTimeout(writing);
      writing = setTimeout(() => history.replaceState(null, "", fragment(state)), 200);
      redraw();
    };
    form.addEventListener("input", ({ target }) => {
      const { name, value } = target;
      const given = target.type === "checkbox" ? target.checked : SLIDERS[name]?.value(Number(value)) ?? value;
      if (name === "run") change(recorded(Number(value)));
      else change({ ...state, settings: { ...state.settings, [name]: given } });
      held = true;
    });
    for (const event of ["change", "pointerdown"]) form.addEventListener(event, () => (held = false));
    form.elements.reset.addEventListener("click", () => change(recorded(state.run)));
    addEventListener("hashchange", () => {
      const next = stateOf(location.hash, runs);
      if (next) change(next);
    });
    offer((button, asked) => {
      views[1] ??= document.createElement("div");
      views[1].className = "interactive view beside";
      views[1].innerHTML ||= viewMarkup();
      button.parentElement.append(views[1]);
      change({ run: state.run, settings: experiment(runs[state.run], asked) });
      // no further than to see all of it, and the button stays in sight
      requestAnimationFrame(() => views[1].scrollIntoView({ block: "nearest" }));
    });
    redraw();
  }

  /* The experiments of the page: each button shows, right below, what becomes of the recorded settings. */
  function offer(show) {
    for (const button of document.querySelectorAll("button[data-explore]")) {
      button.hidden = false;
      button.addEventListener("click", () => show(button, JSON.parse(button.dataset.explore)));
    }
  }

  globalThis.explorer = { SLIDERS, settingsOf, reachable, experiment, fragment, stateOf, curves, readings };
  document.querySelectorAll("[data-interactive=explorer]").forEach(start);
})();
