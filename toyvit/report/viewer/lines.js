// Many lines in one chart: the outstanding ones in colour with their names at their ends, the rest
// grey; the one that is pointed at, or chosen in the legend, in colour alone.

const MOST_COLOURED = 6;
const OUTSTANDING = 4; // of more lines than these
const NEAR = 24; // pixels within which a line is pointed at
const FEW = 3; // so many lines are told apart without pointing
const ROOM = 128; // pixels for names at the right edge, at most
const EDGE = 18; // pixels where there are none: half of the last step
const NARROW = 330; // pixels of a chart that has no room for them
const SPOT = 18; // of them before a name
const LABEL_FONT = "11px system-ui, sans-serif";

// The places of the curves that go farthest from the middle of all, at any step.
function pickOutstanding(curves, all = MOST_COLOURED) {
  if (curves.length <= all) return curves.map((curve, place) => place);
  const columns = new Map();
  for (const curve of curves)
    curve.x.forEach((x, at) => {
      if (!columns.has(x)) columns.set(x, []);
      columns.get(x).push(curve.y[at]);
    });
  const middles = new Map([...columns].map(([x, values]) => [x, findMedian(values)]));
  const far = curves.map((curve) =>
    curve.x.reduce((most, x, at) => Math.max(most, Math.abs(curve.y[at] - middles.get(x))), 0),
  );
  const order = curves.map((curve, place) => place).sort((one, other) => far[other] - far[one]);
  return order.slice(0, OUTSTANDING).sort((one, other) => one - other);
}

function findMedian(values) {
  const sorted = [...values].sort((one, other) => one - other);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

// Colours and dashes for curves of which those at `outstanding` stand out.
function dressCurves(curves, outstanding) {
  const dressed = curves.map((curve, place) => {
    const rank = outstanding.indexOf(place);
    const at = rank < 0 ? place : rank;
    const look = { colour: CYCLE[at % CYCLE.length], isContext: rank < 0 };
    return {
      ...curve,
      ...look,
      width: rank < 0 ? 1 : 2,
      end_label: rank < 0 ? "" : curve.end_label,
    };
  });
  return [...dressed].sort((one, other) => other.isContext - one.isContext); // the grey ones below
}

function nameCurve(curve) {
  return curve.label || curve.end_label;
}

// What is pointed at and chosen in a chart, and what its lines look like for it.
function makePointing(curves) {
  // What is grey by itself (chance, nulls) is no line to choose, and stays.
  const named = curves.map((curve) => Boolean(nameCurve(curve)) && curve.colour !== "grey");
  const pointing = {
    at: -1,
    chosen: new Set(),
    isUsed: named.filter(Boolean).length > FEW,
    named,
    widths: curves.map((curve) => (curve.style === "none" ? 0 : curve.width)),
  };
  pointing.isShown = (place) => {
    if (!named[place]) return true;
    return pointing.isQuiet() ? !curves[place].isContext : pointing.isAlone(place);
  };
  pointing.colour = (place) => nameColour(pointing.isShown(place) ? curves[place].colour : "pale");
  pointing.isAlone = (place) => place === pointing.at || pointing.chosen.has(place);
  pointing.isQuiet = () => pointing.at < 0 && !pointing.chosen.size;
  return pointing;
}

function pointAt(plot, pointing, place) {
  if (!pointing.isUsed || place === pointing.at) return;
  pointing.at = place;
  drawLinesAgain(plot, pointing);
}

function drawLinesAgain(plot, pointing) {
  pointing.widths.forEach((width, place) => {
    plot.series[place + 1].width = width && pointing.isAlone(place) ? 3 : width;
  });
  plot.redraw(false);
}

// The line under the pointer, or -1.
function findLine(plot, pointing) {
  const { idx: at, top } = plot.cursor;
  if (at === null || at === undefined || top === null || top < 0) return -1;
  let [best, least] = [-1, NEAR];
  pointing.named.forEach((isNamed, place) => {
    const value = plot.data[place + 1][at];
    if (!isNamed || value === null || value === undefined) return;
    const distance = Math.abs(plot.valToPos(value, "y") - top);
    if (distance < least) [best, least] = [place, distance];
  });
  return best;
}

// The next line in order of the values where the chart's step is, upward or downward.
function findNext(plot, pointing, at, isUp) {
  const value = (place) => plot.data[place + 1][at] ?? -Infinity;
  const order = pointing.named
    .map((isNamed, place) => (isNamed ? place : -1))
    .filter((place) => place >= 0)
    .sort((one, other) => value(one) - value(other));
  const now = order.indexOf(pointing.at);
  if (now < 0) return isUp ? order[0] : order[order.length - 1];
  return order[Math.max(0, Math.min(order.length - 1, now + (isUp ? 1 : -1)))];
}

// Room for the names at the right edge; none where a chart is narrow: the list below has them.
function measureNames(plot, curves) {
  if (plot.width < NARROW) return EDGE;
  const { context } = makeCanvas(1, 1);
  context.font = LABEL_FONT;
  const widths = curves.map((curve) => context.measureText(curve.end_label || "").width);
  const most = Math.max(0, ...widths);
  return most ? Math.min(ROOM, Math.ceil(most) + SPOT) : EDGE;
}

// Names where the lines end, each behind a spot of its line's colour, none on another.
function writeNames(plot, curves, pointing) {
  const { ctx: context, bbox: box } = plot;
  if (plot.width < NARROW) return;
  const density = window.devicePixelRatio || 1;
  context.font = `${11 * density}px system-ui, sans-serif`;
  const named = curves.flatMap((curve, place) => {
    const name = curve.end_label || (pointing.isAlone(place) ? curve.name_alone : "");
    const last = curve.x.findLastIndex(
      (x, at) => x <= plot.scales.x.max && Number.isFinite(curve.y[at] ?? NaN),
    );
    if (!name || !pointing.isShown(place) || last < 0) return [];
    const y = plot.valToPos(curve.y[last], "y", true);
    const isOut = y < box.top - 1 || y > box.top + box.height + 1;
    const text = shorten(context, name, (ROOM - SPOT) * density);
    return isOut ? [] : [[text, y + 4 * density, nameColour(curve.colour)]];
  });
  named.sort((one, other) => other[1] - one[1]);
  const x = box.left + box.width + 14 * density;
  writeApart(context, named, x, 12 * density, box.top + 8 * density);
}

// As much of a name as there is room for: the list below has all of it.
function shorten(context, name, room) {
  let text = name;
  while (text && context.measureText(text).width > room) text = `${text.slice(0, -2)}…`;
  return text;
}

// Names at the right edge, from the lowest upward, none on another; downward again at the top.
function writeApart(context, named, x, height, top) {
  const places = [];
  let above = Infinity;
  for (const [, y] of named) places.push((above = Math.min(y, above - height)));
  const below = places.length ? Math.max(0, top - places[places.length - 1]) : 0;
  named.forEach(([name, , colour], at) => {
    const y = places[at] + below;
    markName(context, colour, x - 0.75 * height, y);
    writeOver(context, name, x, y);
  });
}

function markName(context, colour, x, y) {
  const size = 7 * (window.devicePixelRatio || 1);
  context.fillStyle = colour;
  context.fillRect(x, y - size, size, size);
}
