// Maps: matrices in colours, with ticks, guides, and strips that say which token is of which kind.

const MAP_FONT = "10px system-ui, sans-serif";
const BELOW = 14; // pixels for the ticks below
const MOST_TICKS = 4; // where none are declared

function drawMap(panel, block, updates) {
  const rows = panel.values.length;
  const columns = panel.values[0].length;
  const width = Math.round(block.cell[0] * INCH);
  const height = panel.square
    ? Math.round((width * rows) / columns)
    : Math.round(block.cell[1] * INCH);
  const across = listTicks(panel.x, panel.columns, columns);
  const down = listTicks(panel.y, panel.rows, rows);
  const left = measureTicks(down);
  const { canvas, context } = makeCanvas(left + width, height + BELOW, {
    role: "img",
    "aria-label": describeMap(panel, across, down),
  });
  const isUpward = panel.rows !== null;
  const place = (at, n, size) => ((at + 0.5) * size) / n;
  const placeX = (at) => left + place(at, columns, width);
  const placeY = (at) => (isUpward ? height - place(at, rows, height) : place(at, rows, height));
  context.imageSmoothingEnabled = false;
  const values = isUpward ? [...panel.values].reverse() : panel.values;
  context.drawImage(paint(values, panel.scale), left, 0, width, height);
  context.save();
  context.translate(left, 0);
  drawGroups(context, panel, width, height, rows, columns);
  context.restore();
  for (const guide of panel.guides)
    drawGuide(context, panel, guide, [placeX, placeY], { left, width, height });
  writeTicks(context, across, down, { placeX, placeY, left, width, height });
  const axes = make(
    "p",
    { class: "axes" },
    `across: ${panel.x.label}; ${isUpward ? "up" : "down"}: ${panel.y.label}`.replaceAll("\n", " "),
  );
  const box = make("div", { class: "map" }, canvas);
  if (panel.columns && panel.x.label.startsWith("training step"))
    updates.push(followStep(box, panel.columns, (at) => placeX(at) / (left + width)));
  return make(
    "div",
    { class: "panel of-map" },
    panel.title ? make("h4", {}, panel.title) : null,
    box,
    axes,
    panel.has_bar ? makeBar(panel.scale) : null,
  );
}

// (place, name) of ticks: those of the axis, else some of the numbers that lines stand for.
function listTicks(axis, numbers, n) {
  if (axis.ticks) {
    const names = axis.names || axis.ticks.map(formatNumber);
    return axis.ticks.map((tick, at) => [tick, names[at]]);
  }
  const most = Math.min(MOST_TICKS, n);
  const apart = (n - 1) / Math.max(1, most - 1);
  const places = Array.from({ length: most }, (_, at) => Math.round(at * apart));
  return places.map((at) => [at, numbers ? formatTick(axis, numbers[at]) : String(at)]);
}

function formatTick(axis, number) {
  return axis.label.startsWith("training step") ? formatStep(number) : formatNumber(number);
}

function measureTicks(ticks) {
  const { context } = makeCanvas(1, 1);
  context.font = MAP_FONT;
  return 4 + Math.ceil(Math.max(...ticks.map(([, name]) => context.measureText(name).width)));
}

function writeTicks(context, across, down, { placeX, placeY, left, width, height }) {
  context.font = MAP_FONT;
  context.fillStyle = nameColour("black");
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const [at, name] of down)
    context.fillText(name, left - 3, Math.max(5, Math.min(height - 5, placeY(at))));
  context.textAlign = "center";
  let end = -Infinity; // of the name before
  for (const [at, name] of across) {
    const half = context.measureText(name).width / 2;
    const x = Math.max(half, Math.min(left + width - half, placeX(at)));
    if (x - half < end + 4) continue;
    context.fillText(name, x, height + BELOW / 2 + 1);
    end = x + half;
  }
}

// Where a number stands among those of the columns: between the two that are next to it.
function findBetween(numbers, number) {
  const after = numbers.findIndex((other) => other >= number);
  if (after < 0) return numbers.length - 1;
  if (after === 0) return 0;
  const [low, high] = [numbers[after - 1], numbers[after]];
  return after - 1 + (number - low) / (high - low);
}

function drawGuide(context, panel, guide, [placeX, placeY], { left, width, height }) {
  const x = placeX(panel.columns ? findBetween(panel.columns, guide) : guide);
  const y = placeY(panel.rows ? findBetween(panel.rows, guide) : guide);
  context.strokeStyle = "#ffffff";
  context.setLineDash([2, 2]);
  context.beginPath();
  context.moveTo(x, 0);
  context.lineTo(x, height);
  context.moveTo(left, y);
  context.lineTo(left + width, y);
  context.stroke();
  context.setLineDash([]);
}

// A line at the step that the page shows, as in charts.
function followStep(box, steps, place) {
  const line = make("div", { class: "now" });
  box.append(line);
  return () => {
    line.hidden = state.step < steps[0] || state.step > steps[steps.length - 1];
    line.style.left = `${100 * place(findBetween(steps, state.step))}%`;
  };
}

function describeMap(panel, across, down) {
  const ends = (ticks) => `${ticks[0][1]} to ${ticks[ticks.length - 1][1]}`;
  const x = `${panel.x.label} across, ${ends(across)}`;
  const way = panel.rows === null ? "down" : "up";
  const y = `${panel.y.label || "rows"} ${way}, ${ends(down)}`;
  return `${panel.title || "map"}: ${x}; ${y}`.replaceAll("\n", " ");
}

// Strips along the upper and the left edge: which tokens are of which kind.
function drawGroups(context, panel, width, height, rows, columns) {
  for (const group of panel.groups) {
    context.fillStyle = nameColour(group.colour);
    for (const token of group.tokens) {
      context.fillRect((token * width) / columns, 0, width / columns, 3);
      context.fillRect(0, (token * height) / rows, 3, height / rows);
    }
  }
}

// Which tokens the strips of a block's maps are of.
function listGroupKeys(block) {
  const groups = new Map();
  for (const panel of block.panels.flat())
    for (const group of (panel && panel.groups) || []) groups.set(group.name, group.colour);
  const items = [...groups].map(([name, colour]) =>
    make("li", {}, makeSwatch({ colour, isStrip: true }), name),
  );
  return items.length ? make("ul", { class: "legend" }, make("li", {}, "strips:"), items) : null;
}
