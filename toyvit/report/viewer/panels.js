// Figures from their data: blocks of panels in grids, a title, and a caption in two parts.

const INCH = 72; // CSS pixels of a panel's inch

function makeFigure(figure, { onStep = null } = {}) {
  const updates = [];
  const blocks = figure.blocks.map((block) => makeBlock(block, updates, onStep));
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
    make("div", { class: "blocks" }, blocks),
    bar,
    caption,
  );
  return { element, update: () => updates.forEach((update) => update()) };
}

function makeBlock(block, updates, onStep) {
  const columns = Math.max(...block.panels.map((row) => row.length));
  const grid = make("div", { class: "grid" });
  const hasHeaders = block.row_headers.length > 0;
  const isWide = block.panels.flat().some((panel) => panel && panel.kind === "CurvePanel");
  const cell = isWide
    ? `minmax(min(100%, 260px), 1fr)`
    : `minmax(70px, ${Math.round(block.cell[0] * INCH)}px)`;
  grid.style.gridTemplateColumns = `${hasHeaders ? "max-content " : ""}repeat(${columns}, ${cell})`;
  if (block.column_headers.length) {
    if (hasHeaders) grid.append(make("span"));
    block.column_headers.forEach((name) => grid.append(make("span", { class: "header" }, name)));
  }
  block.panels.forEach((row, place) => {
    if (hasHeaders) grid.append(make("span", { class: "header" }, block.row_headers[place] || ""));
    row.forEach((panel) =>
      grid.append(panel ? makePanel(panel, block, updates, onStep) : make("span")),
    );
  });
  const bar = block.scale ? makeBar(block.scale) : null;
  return make(
    "div",
    { class: "block" },
    block.title ? make("h4", {}, block.title) : null,
    grid,
    bar,
  );
}

function makePanel(panel, block, updates, onStep) {
  if (panel.kind === "CurvePanel") {
    const isOverSteps = panel.x.label.startsWith("training step");
    const height = Math.max(150, Math.round(block.cell[1] * INCH));
    const chart = makeChart(panel, { height, isOverSteps, onStep: isOverSteps ? onStep : null });
    updates.push(chart.update);
    return chart.figure;
  }
  if (panel.kind === "MapPanel") return drawMap(panel, block);
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

function drawMap(panel, block) {
  const rows = panel.values.length;
  const columns = panel.values[0].length;
  const width = Math.round(block.cell[0] * INCH);
  const height = panel.square
    ? Math.round((width * rows) / columns)
    : Math.round(block.cell[1] * INCH);
  const { canvas, context } = makeCanvas(width, height, {
    role: "img",
    "aria-label": describeMap(panel),
  });
  context.imageSmoothingEnabled = false;
  const values = panel.rows === null ? panel.values : [...panel.values].reverse();
  context.drawImage(paint(values, panel.scale), 0, 0, width, height);
  drawGroups(context, panel, width, height, rows, columns);
  const axes = make(
    "p",
    { class: "axes" },
    `across: ${panel.x.label}; ${panel.rows === null ? "down" : "up"}: ${panel.y.label}`.replaceAll(
      "\n",
      " ",
    ),
  );
  const bar = panel.has_bar ? makeBar(panel.scale) : null;
  return make(
    "div",
    { class: "panel" },
    panel.title ? make("h4", {}, panel.title) : null,
    canvas,
    axes,
    bar,
  );
}

function describeMap(panel) {
  return `${panel.title || "map"}: ${panel.y.label} down, ${panel.x.label} across`.replaceAll(
    "\n",
    " ",
  );
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
