/* Charts as SVG text, for the figures that a reader can change. Colours are the stylesheet's.

A chart: {width, height, x: axis, y: axis, title, label, series}. An axis: {range: [low, high], ticks,
log (true or not), format (of a tick), title}. A series: {kind: "line" or "dots", points: [[x, y], …],
name (a class of the stylesheet), style, marker, titles}. Points outside the frame are cut off.
*/
(function () {
  "use strict";

  const MARGIN = { left: 52, right: 12, top: 30, bottom: 40 };
  /* Markers of matplotlib, by its letters, within a radius of 1. */
  const MARKERS = {
    o: "M-1,0a1,1 0 1,0 2,0a1,1 0 1,0 -2,0Z",
    s: "M-.9,-.9H.9V.9H-.9Z",
    D: "M0,-1.2L1.2,0L0,1.2L-1.2,0Z",
    "^": "M0,-1.1L1.1,.9H-1.1Z",
    v: "M0,1.1L1.1,-.9H-1.1Z",
    P: "M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
    X: "M-1.1,-.6L-.6,-1.1L0,-.5L.6,-1.1L1.1,-.6L.5,0L1.1,.6L.6,1.1L0,.5L-.6,1.1L-1.1,.6L-.5,0Z",
    p: "M0,-1.15L1.1,-.35L.68,.95H-.68L-1.1,-.35Z",
  };

  let frames = 0; // each has a clip path of its own name

  const escape = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

  /* 1, 2 and 5 times powers of ten, from the last one up to low to the first one from high on. */
  function roundNumbers(low, high) {
    const numbers = [];
    for (let d = Math.floor(Math.log10(low)) - 1; d <= Math.ceil(Math.log10(high)) + 1; d++) {
      for (const m of [1, 2, 5]) numbers.push(Number(`${m}e${d}`));
    }
    const first = numbers.findLastIndex((x) => x <= low);
    return numbers.slice(first, Math.max(numbers.findIndex((x) => x >= high), first + 1) + 1);
  }

  /* A logarithmic axis that holds low and high, with at most seven ticks. */
  function logAxis(low, high, title) {
    const numbers = roundNumbers(low, high);
    const isTen = (x) => x.toExponential().startsWith("1e");
    const ticks = numbers.length > 7 ? numbers.filter(isTen) : numbers;
    const format = (x) => (x < 1e-3 || x >= 1e4 ? x.toExponential().replace("e+", "e") : String(x));
    return { range: [numbers[0], numbers.at(-1)], ticks, log: true, format, title };
  }

  /* Ticks for so many steps: round numbers, about 80 pixels apart or more. */
  function stepTicks(steps, width) {
    const between = roundNumbers(1, steps).find((d) => (steps / d) * 80 <= width - MARGIN.left) ?? steps;
    return Array.from({ length: Math.floor(steps / between) + 1 }, (_, i) => i * between);
  }

  /* Where a value lies between the ends of an axis, as a fraction. */
  function position(axis, value) {
    const [low, high] = axis.range;
    if (axis.log) return Math.log(value / low) / Math.log(high / low);
    return (value - low) / (high - low);
  }

  function gridAndTicks(chart, place) {
    const { left, top } = MARGIN;
    const right = chart.width - MARGIN.right;
    const bottom = chart.height - MARGIN.bottom;
    const format = (axis, tick) => escape(axis.format ? axis.format(tick) : tick.toLocaleString("en"));
    const across = chart.y.ticks.map((tick) => {
      const [, y] = place([chart.x.range[0], tick]);
      return `<line class="grid" x1="${left}" x2="${right}" y1="${y}" y2="${y}"/>
        <text text-anchor="end" x="${left - 6}" y="${y + 4}">${format(chart.y, tick)}</text>`;
    });
    const up = chart.x.ticks.map((tick) => {
      const [x] = place([tick, chart.y.range[0]]);
      return `<line class="grid" x1="${x}" x2="${x}" y1="${top}" y2="${bottom}"/>
        <text text-anchor="middle" x="${x}" y="${bottom + 16}">${format(chart.x, tick)}</text>`;
    });
    return [...across, ...up].join("");
  }

  function draw(series, place) {
    const seen = series.points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
    const at = seen.map((point) => place(point).map((p) => p.toFixed(1)));
    const attributes = `class="${series.kind} ${series.name}" style="${escape(series.style ?? "")}"`;
    if (series.kind === "line") return `<path ${attributes} d="${at.length ? `M${at.join("L")}` : ""}"/>`;
    const radius = series.radius ?? 2;
    const path = MARKERS[series.marker ?? "o"];
    const dots = at.map(([x, y], i) => {
      const title = series.titles ? `<title>${escape(series.titles[i])}</title>` : "";
      // without its own unit a stroke would grow with the marker
      return `<path transform="translate(${x},${y}) scale(${radius})" d="${path}">${title}</path>`;
    });
    return `<g ${attributes}>${dots.join("")}</g>`;
  }

  /* The chart as the text of an svg element. */
  function svg(chart) {
    const { left, right, top, bottom } = MARGIN;
    const inner = { width: chart.width - left - right, height: chart.height - top - bottom };
    const place = ([x, y]) => [
      left + inner.width * position(chart.x, x),
      // far outside the frame is far enough: an SVG cannot draw at infinity
      top + inner.height * (1 - Math.max(-9, Math.min(9, position(chart.y, y)))),
    ];
    const clip = `frame-${++frames}`;
    return `<svg role="img" aria-label="${escape(chart.label)}" width="${chart.width}" height="${chart.height}"
      viewBox="0 0 ${chart.width} ${chart.height}">
      <clipPath id="${clip}"><rect x="${left}" y="${top}" width="${inner.width}" height="${inner.height}"/></clipPath>
      ${gridAndTicks(chart, place)}
      <g clip-path="url(#${clip})">${chart.series.map((s) => draw(s, place)).join("")}</g>
      <text class="title" x="4" y="16">${escape(chart.title)}</text>
      <text text-anchor="end" x="${chart.width - right}" y="${chart.height - 6}">${escape(chart.x.title)}</text>
    </svg>`;
  }

  /* Draws anew, once a frame at most, when told to and whenever the element's width changes. */
  function redrawn(element, redraw) {
    let asked = false;
    const ask = () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        redraw();
      });
    };
    let width = 0;
    new ResizeObserver(() => {
      if (element.clientWidth !== width) ask();
      width = element.clientWidth;
    }).observe(element);
    return ask;
  }

  globalThis.charts = { roundNumbers, logAxis, stepTicks, position, svg, redrawn, MARKERS, escape };
})();
