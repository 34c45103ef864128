// Figures from their data: blocks of panels in grids, a title, and a caption in two parts.

const INCH = 72; // CSS pixels of a panel's inch

function makeFigure(figure, { onStep = null } = {}) {
  const updates = [];
  const within = { updates, onStep, steps: figure.steps, marked: 0 };
  const blocks = figure.blocks.map((block) => makeBlock(block, within));
  const steps = tellSteps(figure, within.marked);
  const bar = figure.scale ? makeBar(figure.scale) : null;
  const caption = make(
    "figcaption",
    {},
    make("p", {}, make("strong", {}, "See: "), figure.caption.see),
    make("p", {}, make("strong", {}, "If there were nothing to see: "), figure.caption.otherwise),
  );
  const element = make(
    "figure",
    { class: "figure" },
    make("h3", {}, figure.title),
    steps ? make("p", { class: "axes of-steps" }, steps) : null,
    make("div", { class: "blocks" }, blocks),
    bar,
    caption,
  );
  return { element, update: () => updates.forEach((update) => update()) };
}

// Which checkpoints a figure is of, where it is not of all.
function tellSteps(figure, marked) {
  const { steps, others = [] } = figure;
  if (!steps.length) return "";
  if (others.length) {
    const all = sortByStep([figure, ...others]).map((other) => formatStep(other.steps[0]));
    return `Step ${formatStep(steps[0])}: of ${all.join(", ")} the nearest to the slider.`;
  }
  const all = `${steps.length > 1 ? "Steps" : "Step"} ${steps.map(formatStep).join(", ")}`;
  return marked > 1
    ? `${all}: the nearest to the slider is marked; press one to go there.`
    : `${all}: the slider does not move this figure.`;
}

function sortByStep(figures) {
  return [...figures].sort((one, other) => one.steps[0] - other.steps[0]);
}

// What stands above or beside panels; where that is a step, it leads there and is marked when near.
function makeHeader(tag, attributes, text, within) {
  const step = within.steps.find((one) => text.split(":")[0] === `step ${formatStep(one)}`);
  if (step === undefined || !within.onStep) return make(tag, attributes, text);
  const go = () => within.onStep(step);
  const button = make("button", { type: "button", class: "plain", onclick: go }, text);
  within.marked += 1;
  within.updates.push(() => {
    const isNear = within.steps[findNearest(within.steps, state.step)] === step;
    button.setAttribute("aria-current", isNear ? "step" : "false");
  });
  return make(tag, attributes, button);
}

function makeBlock(block, within) {
  const columns = Math.max(...block.panels.map((row) => row.length));
  const grid = make("div", { class: "grid" });
  const hasHeaders = block.row_headers.length > 0;
  const kinds = new Set(block.panels.flat().map((panel) => panel && panel.kind));
  const widest = kinds.has("MapPanel") ? "max-content" : `${Math.round(block.cell[0] * INCH)}px`;
  const cell = kinds.has("CurvePanel")
    ? `minmax(min(100%, 260px), 1fr)`
    : `minmax(${kinds.has("MapPanel") ? 100 : 70}px, ${widest})`;
  grid.style.gridTemplateColumns = `${hasHeaders ? "max-content " : ""}repeat(${columns}, ${cell})`;
  if (block.column_headers.length) {
    if (hasHeaders) grid.append(make("span"));
    block.column_headers.forEach((name) =>
      grid.append(makeHeader("span", { class: "header" }, name, within)),
    );
  }
  block.panels.forEach((row, place) => {
    const name = block.row_headers[place] || "";
    if (hasHeaders) grid.append(makeHeader("span", { class: "header" }, name, within));
    row.forEach((panel) => grid.append(panel ? makePanel(panel, block, within) : make("span")));
  });
  const bar = block.scale ? makeBar(block.scale) : null;
  return make(
    "div",
    { class: "block" },
    block.title ? makeHeader("h4", {}, block.title, within) : null,
    grid,
    listGroupKeys(block),
    bar,
  );
}

function makePanel(panel, block, { updates, onStep }) {
  if (panel.kind === "CurvePanel") {
    const isOverSteps = panel.x.label.startsWith("training step");
    const height = Math.max(150, Math.round(block.cell[1] * INCH));
    const chart = makeChart(panel, { height, isOverSteps, onStep: isOverSteps ? onStep : null });
    updates.push(chart.update);
    return chart.figure;
  }
  if (panel.kind === "MapPanel") return drawMap(panel, block, updates);
  if (panel.kind === "PicturePanel") return drawPicture(panel, block);
  if (panel.kind === "GraphPanel") return drawGraph(panel);
  return make("p", {}, `This page cannot draw a ${panel.kind}.`);
}

// Values (row column) in the colours of a scale, one pixel each, on a canvas of their own.
function paint(values, scale, opacity = 1) {
  const rows = values.length;
  const columns = values[0].length;
  const canvas = make("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const value = values[row][column];
      const at = 4 * (row * columns + column);
      if (Array.isArray(value))
        image.data.set([...value.map((share) => 255 * share), 255 * opacity], at);
      else if (value !== null && !(scale.spacing === "log" && value <= 0)) {
        image.data.set(lookUp(scale.kind, placeOnScale(scale, value)), at);
        image.data[at + 3] *= opacity;
      } else image.data.set([128, 128, 128, 60], at);
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function drawPicture(panel, block) {
  const rows = panel.picture.length;
  const columns = panel.picture[0].length;
  const width = Math.round(block.cell[0] * INCH);
  const size = width / columns;
  const { canvas, context } = makeCanvas(width, rows * size, {
    role: "img",
    "aria-label": panel.title || panel.below || "picture",
  });
  context.imageSmoothingEnabled = false;
  context.drawImage(paint(panel.picture, panel.scale, panel.opacity), 0, 0, width, rows * size);
  if (panel.overlay) {
    context.globalAlpha = panel.overlay.opacity;
    context.drawImage(paint(panel.overlay.values, panel.overlay.scale), 0, 0, width, rows * size);
    context.globalAlpha = 1;
  }
  for (const inlay of panel.inlays) {
    const ends = reduceEnds([{ y: inlay.values.flat() }], "y");
    const scale = { kind: "ink", low: ends[0], high: ends[1] };
    context.globalAlpha = inlay.opacity;
    const place = [inlay.left, inlay.top].map((pixel) => (pixel + 0.5) * size);
    context.drawImage(
      paint(inlay.values, scale),
      ...place,
      inlay.width * size,
      inlay.height * size,
    );
    context.globalAlpha = 1;
  }
  for (const frame of panel.frames) {
    context.globalAlpha = frame.opacity;
    context.strokeStyle = nameColour(frame.colour);
    context.lineWidth = frame.weight;
    context.strokeRect(
      (frame.left + 0.5) * size,
      (frame.top + 0.5) * size,
      frame.width * size,
      frame.height * size,
    );
    context.globalAlpha = 1;
  }
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const word of panel.words) {
    context.font = `${Math.max(8, word.size * 1.3)}px system-ui, sans-serif`;
    context.fillStyle = nameColour(word.colour);
    context.fillText(word.text, (word.x + 0.5) * size, (word.y + 0.5) * size);
  }
  const below = panel.below ? make("p", { class: "axes" }, panel.below) : null;
  return make(
    "div",
    { class: "panel" },
    panel.title ? make("h4", {}, panel.title) : null,
    canvas,
    below,
  );
}

const SVG = "http://www.w3.org/2000/svg";

function makeSvg(tag, attributes, text = null) {
  const element = document.createElementNS(SVG, tag);
  Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  if (text !== null) element.textContent = text;
  return element;
}

// Nodes stand where the data says; an edge is a bent line, as wide as its weight.
function drawGraph(panel) {
  const stretch = 110;
  const right = Math.max(...panel.nodes.map((node) => node.x));
  const top = Math.max(...panel.nodes.map((node) => node.y));
  const at = (node) => [70 + node.x * stretch, 30 + (top - node.y) * 90];
  const svg = makeSvg("svg", {
    viewBox: `0 0 ${140 + right * stretch} ${60 + top * 90}`,
    role: "img",
    "aria-label": panel.title || "circuit",
    class: "graph",
  });
  const nodes = new Map(panel.nodes.map((node) => [node.name, node]));
  for (const edge of panel.edges) {
    const [x, y] = at(nodes.get(edge.sender));
    const [toX, toY] = at(nodes.get(edge.receiver));
    const middle = (y + toY) / 2;
    const aside = Math.abs(x - toX) < 1 && y - toY > 100 ? 90 : 0; // around the nodes between
    const path = makeSvg("path", {
      d: `M ${x} ${y} C ${x + aside} ${middle}, ${toX + aside} ${middle}, ${toX} ${toY}`,
      fill: "none",
      stroke: nameColour((panel.ports[edge.port] || ["grey"])[0]),
      "stroke-width": 1 + 5 * edge.weight,
      opacity: 0.75,
    });
    path.append(
      makeSvg(
        "title",
        {},
        `${edge.sender} to ${edge.receiver} ${edge.port}: ${formatNumber(edge.score)}`,
      ),
    );
    svg.append(path);
  }
  for (const node of panel.nodes) {
    const [x, y] = at(node);
    const group = makeSvg("g", { class: node.used ? "used" : "unused" });
    group.append(
      makeSvg("rect", { x: x - 42, y: y - 18, width: 84, height: 36, rx: 6, class: "node" }),
    );
    node.label.split("\n").forEach((line, place, lines) => {
      const height = y + 4 + (place - (lines.length - 1) / 2) * 13;
      group.append(
        makeSvg("text", { x, y: height, "text-anchor": "middle", class: "node-name" }, line),
      );
    });
    svg.append(group);
  }
  const ports = Object.values(panel.ports).map(([colour, meaning]) =>
    make("li", {}, makeSwatch({ colour, style: "solid" }), meaning),
  );
  return make(
    "div",
    { class: "panel" },
    panel.title ? make("h4", {}, panel.title) : null,
    svg,
    make("ul", { class: "legend" }, ports),
  );
}
