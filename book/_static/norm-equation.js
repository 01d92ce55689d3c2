/* The arithmetic of the explorer: the norm equation, its fixed point, and a simulation beside it.

Pure functions of numbers and arrays, the same as in lib/theory.py, against which they are tested.
Notation: lr is λ, weightDecay α (above 0; a number, or one for each step), momentum ρ, cSq the mean of (|g||w|)². Times
are in steps.
*/
(function () {
  "use strict";

  /* A setting at a step. */
  const at = (setting, t) => setting[t] ?? setting;

  /* |w|² at the start of each step. With z = |w|⁴ and λ̃ = λ/(1−ρ): dz/dt = −4λ̃αz + 2λ̃²c², solved
  exactly over each step, on which λ and c are constant. cSq and lr have a value for each step. */
  function normCurve(startNormSq, cSq, lr, { weightDecay, momentum }) {
    const normSq = new Float64Array(lr.length);
    let z = startNormSq ** 2;
    for (let t = 0; t < lr.length; t++) {
      normSq[t] = Math.sqrt(z);
      const rate = lr[t] / (1 - momentum);
      const exponent = -4 * rate * at(weightDecay, t);
      z = Math.exp(exponent) * z - (Math.expm1(exponent) * rate * cSq[t]) / (2 * at(weightDecay, t));
    }
    return normSq;
  }

  /* The same of AdamW, if gradients are noise. With r = |w|²/size, size the number of weights: dr/dt = −2λαr + λ². */
  function adamwCurve(startNormSq, size, lr, { weightDecay }) {
    const normSq = new Float64Array(lr.length);
    let r = startNormSq / size;
    for (let t = 0; t < lr.length; t++) {
      normSq[t] = size * r;
      const exponent = -2 * lr[t] * at(weightDecay, t);
      r = Math.exp(exponent) * r - (Math.expm1(exponent) * lr[t]) / (2 * at(weightDecay, t));
    }
    return normSq;
  }

  /* λ|g|/|w| in equilibrium, √(2λα(1−ρ)) with its term of next order. */
  function equilibriumRatio(lr, { weightDecay, momentum }) {
    const x = lr * weightDecay;
    return Math.sqrt(x * (1 - momentum) * (2 - x / (1 + momentum)));
  }

  /* |w|² in equilibrium: |w|⁴ = λc²/(2α(1−ρ)). */
  function equilibriumNormSq(cSq, lr, { weightDecay, momentum }) {
    return Math.sqrt((lr * cSq) / (2 * weightDecay * (1 - momentum)));
  }

  /* Steps in which a deviation of |w|⁴ from equilibrium falls to 1/e. */
  function relaxationSteps(lr, { weightDecay, momentum }) {
    return (1 - momentum) / (4 * lr * weightDecay);
  }

  /* |w|² of AdamW in equilibrium: λ·size/(2α), if gradients are noise. */
  const adamwNormSq = (size, lr, { weightDecay }) => (size * lr) / (2 * weightDecay);

  /* Steps in which a deviation of AdamW's |w|² from equilibrium falls to 1/e. */
  const adamwRelaxation = (lr, { weightDecay }) => 1 / (2 * lr * weightDecay);

  /* The α with which AdamW of a peak rate, and of β₁ = ρ, turns in equilibrium as heavy-ball does: its λα is λα/(1−ρ). */
  const adamwDecay = (adamLr, { lr, weightDecay, momentum }) => (lr * weightDecay) / (1 - momentum) / adamLr;

  /* λ over its peak at an epoch: as the book has it, up from 0 to the peak and down to 0 at the end; or another way. */
  const SHAPES = {
    scheduled: (epoch, { epochs, peakEpoch }) => (epoch < peakEpoch ? epoch / peakEpoch : (epochs - epoch) / (epochs - peakEpoch)),
    constant: () => 1,
    flat: (epoch, { epochs }) => Math.min((12 * epoch) / epochs, 1, 3 * (1 - epoch / epochs)),
    cosine: (epoch, { epochs }) => (1 + Math.cos((Math.PI * epoch) / epochs)) / 2,
  };

  /* λ for each step, taken at its middle. */
  function scheduledLr(peakLr, run, shape) {
    const { epochs, stepsPerEpoch } = run;
    return Float64Array.from(
      { length: epochs * stepsPerEpoch },
      (_, t) => peakLr * SHAPES[shape]((t + 0.5) / stepsPerEpoch, run),
    );
  }

  /* When λ begins to fall, in epochs. */
  const FALLS = {
    scheduled: ({ peakEpoch }) => peakEpoch, constant: ({ epochs }) => epochs,
    flat: ({ epochs }) => (2 * epochs) / 3, cosine: () => 0,
  };

  /* α for each step, where it falls in proportion to λ, at its middle. */
  function followingDecay(weightDecay, run, shape) {
    const { epochs, stepsPerEpoch } = run;
    const factor = (epoch) => (epoch < FALLS[shape](run) ? 1 : SHAPES[shape](epoch, run));
    return Float64Array.from({ length: epochs * stepsPerEpoch }, (_, t) => weightDecay * factor((t + 0.5) / stepsPerEpoch));
  }

  /* mulberry32: uniform numbers in [0, 1), the same in every browser. */
  function uniforms(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  /* Standard normal numbers, by Box and Muller. */
  function normals(seed) {
    const uniform = uniforms(seed);
    let spare = null;
    return () => {
      if (spare !== null) {
        const kept = spare;
        spare = null;
        return kept;
      }
      const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
      const angle = 2 * Math.PI * uniform();
      spare = radius * Math.sin(angle);
      return radius * Math.cos(angle);
    };
  }

  /* Fills g with a random vector orthogonal to w, of mean |g|² = c²/|w|²; returns its |g|². */
  function drawGradient(g, w, normSq, cSq, normal) {
    let along = 0;
    for (let i = 0; i < w.length; i++) {
      g[i] = normal();
      along += g[i] * w[i];
    }
    // w.length − 1 directions are orthogonal to w
    const scale = Math.sqrt(cSq / (normSq * (w.length - 1)));
    let gradNormSq = 0;
    for (let i = 0; i < w.length; i++) {
      g[i] = scale * (g[i] - (along / normSq) * w[i]);
      gradNormSq += g[i] ** 2;
    }
    return gradNormSq;
  }

  /* Heavy-ball with coupled decay on random gradients: |w|² and |g|² at each step. */
  function simulate(startNormSq, cSq, lr, { weightDecay, momentum, seed = 1, size = 64 }) {
    const normal = normals(seed);
    const w = new Float64Array(size).fill(Math.sqrt(startNormSq / size));
    const buffer = new Float64Array(size);
    const g = new Float64Array(size);
    const normSq = new Float64Array(lr.length);
    const gradNormSq = new Float64Array(lr.length);
    for (let t = 0; t < lr.length; t++) {
      normSq[t] = w.reduce((sum, x) => sum + x * x, 0);
      gradNormSq[t] = drawGradient(g, w, normSq[t], cSq[t], normal);
      for (let i = 0; i < size; i++) {
        buffer[i] = momentum * buffer[i] + g[i] + at(weightDecay, t) * w[i];
        w[i] -= lr[t] * buffer[i];
      }
    }
    return { normSq, gradNormSq };
  }

  globalThis.normEquation = {
    normCurve, equilibriumRatio, equilibriumNormSq, relaxationSteps, scheduledLr, followingDecay, uniforms, simulate,
    adamwCurve, adamwNormSq, adamwRelaxation, adamwDecay,
  };
})();
