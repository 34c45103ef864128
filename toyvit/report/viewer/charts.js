// Curves over one axis: a `CurvePanel` of the figures' data, drawn by uPlot. A click goes to a
// step.

const DASH_STYLES = {
  solid: [],
  dashed: [7, 4],
  dotted: [2, 3],
  dashdot: [8, 3, 2, 3],
  dense: [4, 2],
  none: [],
};
const NO_VALUES = "\u00a0"; // so that nothing moves when there are some
const MOST_VALUES = 6;
const TWICE = 220; // milliseconds in which a second click makes a double click
const THRESHOLD = 10; // steps to which the axis `steps` is linear
const plots = new Set(); // that are drawn: uPlot remembers each until it is destroyed

function forgetCharts() {
  for (const plot of plots) plot.destroy();
}

function scaleOptions(axis, values) {
  const ends = values.filter((value) => Number.isFinite(value));
  const low = axis.low ?? Math.min(...ends);
  const high = axis.high ?? Math.max(...ends);
  const options = { time: false };
  if (axis.scale === "log" && low > 0) options.distr = 3;
  if (axis.scale === "steps") Object.assign(options, { distr: 4, asinh: THRESHOLD });
  if (axis.low !== null || axis.high !== null || axis.scale === "steps")
    options.range = [low, high];
  return options;
}

function reduceEnds(curves, part) {
  const ends = [Infinity, -Infinity];
  for (const curve of curves) {
    for (const value of curve[part]) {
      if (value === null || !Number.isFinite(value)) continue;
      ends[0] = Math.min(ends[0], value);
      ends[1] = Math.max(ends[1], value);
    }
  }
  return ends;
}

function makeChart(panel, { height = 220, isOverSteps = true, onStep = null } = {}) {
  const host = make("div", { class: "chart" });
  const legend = make("ul", { class: "legend" });
  const readout = make("p", { class: "axes values" }, NO_VALUES);
  const figure = make(
    "div",
    { class: "panel" },
    panel.title ? make("h4", {}, panel.title) : null,
    panel.y.label ? make("p", { class: "axes" }, panel.y.label.replaceAll("\n", " ")) : null,
    host,
    readout,
    legend,
  );
  const levels = panel.levels || [];
  const yEnds = reduceEnds(panel.curves, "y");
  const all = [...yEnds, ...levels.map((level) => level.value)];
  const xEnds = reduceEnds(panel.curves, "x");
  const drawn = panel.curves.filter((curve) => curve.x.length);
  const tables = drawn.map((curve) => [curve.x, curve.y]);
  const data = tables.length ? uPlot.join(tables) : [[0], []];
  const pointing = makePointing(drawn);
  const series = drawn.map((curve, place) => describeSeries(curve, place, pointing));
  const ink = nameColour("black");
  const grid = { stroke: isDark() ? "#3a3a3a" : "#e4e4e4", width: 1 };
  const axis = {
    stroke: ink,
    grid,
    ticks: grid,
    font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif",
  };
  const yAxis = { ...axis, size: 56, values: nameValues };
  const xAxis = { ...axis, label: panel.x.label, size: 30, labelSize: 18, labelGap: 0 };
  nameTicks(xAxis, panel.x);
  nameTicks(yAxis, panel.y);
  const options = {
    width: 600,
    height,
    padding: [null, (plot) => measureNames(plot, drawn), null, null],
    series: [{}, ...series],
    scales: { x: scaleOptions(panel.x, xEnds), y: scaleOptions(panel.y, all) },
    axes: [xAxis, yAxis],
    legend: { show: false },
    cursor: { drag: { x: true, y: false }, points: { show: series.length <= 40 } },
    hooks: {
      drawClear: [(plot) => drawUnder(plot, panel)],
      draw: [
        (plot) => drawOver(plot, panel),
        (plot) => writeNames(plot, drawn, pointing),
        () => placeLine(),
      ],
      setCursor: [
        (plot) => {
          pointAt(plot, pointing, findLine(plot, pointing));
          readout.textContent = readValues(plot, panel.x, drawn, plot.cursor.idx, pointing);
        },
      ],
      destroy: [(plot) => plots.delete(plot)],
    },
  };
  if (!options.scales.y.range)
    options.scales.y.range = (plot, low, high) => spread(all, low, high, options.scales.y.distr);
  const line = make("div", { class: "now" });
  let plot = null;
  plot = new uPlot(options, data, host);
  plots.add(plot);
  fillLegend(legend, panel, plot, drawn, pointing);
  new ResizeObserver(() => {
    const width = Math.floor(host.clientWidth);
    if (width > 40 && width !== plot.width) plot.setSize({ width, height });
    placeLine();
  }).observe(host);

  plot.over.append(line);
  function placeLine() {
    if (!plot) return; // drawn for the first time
    line.hidden = !isOverSteps;
    if (!isOverSteps || !plot.over.clientWidth) return;
    const left = plot.valToPos(state.step, "x");
    line.hidden = !(left >= 0 && left <= plot.over.clientWidth);
    line.style.transform = `translateX(${left}px)`;
  }
  if (onStep) listenForSteps(plot, host, data[0], onStep);
  if (onStep && pointing.isUsed)
    listenForLines(plot, host, pointing, (at) => {
      readout.textContent = readValues(plot, panel.x, drawn, at, pointing);
    });
  host.setAttribute("role", onStep ? "group" : "img"); // arrows go from step to step
  host.setAttribute("aria-label", describeChart(panel));
  return { figure, plot, update: placeLine };
}

// What the curves are at a place, of a few of those that are not grey.
function readValues(plot, axis, curves, at, pointing) {
  if (at === null || at === undefined) return NO_VALUES;
  const values = curves.flatMap((curve, place) => {
    const value = plot.data[place + 1][at];
    const name = pointing.isShown(place) && nameCurve(curve);
    return value === null || value === undefined || !name ? [] : [`${name} ${formatNumber(value)}`];
  });
  const more = values.length > MOST_VALUES ? `, and ${values.length - MOST_VALUES} more` : "";
  const where = `${axis.label.split(" (")[0]} ${formatNumber(plot.data[0][at])}`;
  return `${where}: ${values.slice(0, MOST_VALUES).join(", ")}${more}`;
}

function describeSeries(curve, place, pointing) {
  const colour = () => pointing.colour(place);
  const isLine = curve.style !== "none";
  return {
    label: curve.label,
    stroke: colour,
    alpha: curve.opacity,
    width: isLine ? curve.width : 0,
    dash: DASH_STYLES[curve.style],
    spanGaps: true,
    points: {
      show: curve.marker !== "",
      size: curve.marker === "dot" ? 4 : 7,
      stroke: colour,
      fill: curve.marker === "dot" ? colour : "transparent",
    },
  };
}

// Few digits, but as many as tell neighbours apart: uPlot's own stop at the third decimal.
function nameValues(plot, ticks) {
  return ticks.map((tick) => (tick === null ? "" : formatNumber(tick)));
}

function nameTicks(axis, declared) {
  if (declared.ticks) axis.splits = () => declared.ticks;
  if (declared.names) axis.values = () => declared.names;
  if (declared.scale === "steps") {
    axis.splits = (plot, place, low, high) => {
      const ticks = [0];
      for (let tick = THRESHOLD; tick <= high; tick *= 10) ticks.push(tick);
      return ticks.filter((tick) => tick >= low);
    };
    axis.values = (plot, ticks) => ticks.map((tick) => (tick === null ? "" : formatStep(tick)));
  }
}

// The ends of an axis, levels among them, with a little room.
function spread(values, low, high, distribution) {
  const ends = [low, high, ...values].filter((value) => value !== null && Number.isFinite(value));
  if (!ends.length) return [0, 1];
  const least = Math.min(...ends);
  const most = Math.max(...ends);
  if (distribution === 3) return [least * 0.9, most * 1.1];
  const room = (most - least || Math.abs(most) || 1) * 0.05;
  return [least - room, most + room];
}

function drawUnder(plot, panel) {
  const { ctx: context, bbox: box } = plot;
  context.save();
  for (const span of panel.spans || []) {
    const from = plot.valToPos(span.start, "x", true);
    const to = plot.valToPos(span.end, "x", true);
    context.fillStyle = PALETTE[span.colour] || PALETTE.yellow;
    context.globalAlpha = 0.3;
    const left = Math.max(from, box.left);
    context.fillRect(
      left,
      box.top,
      Math.max(1, Math.min(to, box.left + box.width) - left),
      box.height,
    );
  }
  for (const curve of panel.curves) if (curve.band) drawBand(plot, curve);
  context.restore();
}

function drawBand(plot, curve) {
  const { ctx: context } = plot;
  const [lower, upper] = curve.band;
  const path = new Path2D();
  const points = [
    ...curve.x.map((x, at) => [x, lower[at]]),
    ...curve.x.map((x, at) => [x, upper[at]]).reverse(),
  ];
  points.forEach(([x, y], at) => {
    const place = [plot.valToPos(x, "x", true), plot.valToPos(y, "y", true)];
    if (at) path.lineTo(...place);
    else path.moveTo(...place);
  });
  context.globalAlpha = 0.2;
  context.fillStyle = nameColour(curve.colour);
  context.fill(path);
}

function drawOver(plot, panel) {
  const { ctx: context, bbox: box } = plot;
  const density = window.devicePixelRatio || 1;
  context.save();
  context.beginPath();
  context.rect(box.left, box.top, box.width, box.height);
  context.clip();
  context.font = `${11 * density}px system-ui, sans-serif`;
  for (const level of panel.levels || []) {
    const y = plot.valToPos(level.value, "y", true);
    context.strokeStyle = nameColour("grey");
    context.setLineDash((DASH_STYLES[level.style] || []).map((length) => length * density));
    strokeLine(context, box.left, y, box.left + box.width, y);
    context.setLineDash([]);
  }
  for (const mark of panel.marks || []) {
    const x = plot.valToPos(mark.place, "x", true);
    context.strokeStyle = nameColour(mark.colour);
    context.setLineDash((DASH_STYLES[mark.style] || []).map((length) => length * density));
    strokeLine(context, x, box.top, x, box.top + box.height);
    context.setLineDash([]);
  }
  for (const word of panel.words || []) {
    writeOver(
      context,
      word.text,
      plot.valToPos(word.x, "x", true),
      plot.valToPos(word.y, "y", true),
    );
  }
  context.restore();
}

function strokeLine(context, x, y, toX, toY) {
  context.lineWidth = window.devicePixelRatio || 1;
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(toX, toY);
  context.stroke();
}

function writeOver(context, text, x, y) {
  context.textAlign = "left";
  context.lineWidth = 3 * (window.devicePixelRatio || 1);
  context.strokeStyle = isDark() ? "#161616" : "#ffffff";
  context.strokeText(text, x, y);
  context.fillStyle = nameColour("black");
  context.fillText(text, x, y);
}

function describeChart(panel) {
  const names = panel.curves.map((curve) => curve.label || curve.end_label).filter(Boolean);
  const title = panel.title ? `${panel.title}: ` : "";
  const axes = `${panel.y.label.replaceAll("\n", " ")} against ${panel.x.label}`;
  return `${title}${axes}. ${names.slice(0, 12).join(", ")}`;
}

// A click, or the arrows while the chart has the focus, go to a step.
function listenForSteps(plot, host, steps, onStep) {
  let pressed = null;
  let waiting = 0;
  plot.over.addEventListener("mousedown", (event) => (pressed = event.clientX));
  plot.over.addEventListener("click", (event) => {
    clearTimeout(waiting);
    if (event.detail > 1 || (pressed !== null && Math.abs(event.clientX - pressed) > 4)) return;
    const left = event.clientX - plot.over.getBoundingClientRect().left;
    const step = steps[plot.posToIdx(left)];
    waiting = setTimeout(() => onStep(step), TWICE); // a double click shows all of the axis
  });
  host.tabIndex = 0;
  host.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const at = findNearest(steps, state.step) + moves[event.key];
    if (at >= 0 && at < steps.length) onStep(steps[at]);
  });
}

// The arrows up and down go from line to line while the chart has the focus.
function listenForLines(plot, host, pointing, onLine) {
  host.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: true, ArrowDown: false };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const at = findNearest(plot.data[0], state.step);
    pointAt(plot, pointing, findNext(plot, pointing, at, moves[event.key]));
    onLine(at);
  });
  host.addEventListener("blur", () => pointAt(plot, pointing, -1));
}
