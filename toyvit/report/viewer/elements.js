// Elements of the page. Texts are always text nodes: nothing that a run is called becomes markup.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined));
  return element;
}

let controls = 0;

// A control with its label: `options` are [value, text].
function makeSelect(label, options, value, onChange) {
  const id = `control-${controls++}`;
  const select = make("select", { id });
  const fill = (choices, chosen) => {
    const items = choices.map(([key, text]) => make("option", { value: key }, text));
    select.replaceChildren(...items);
    select.value = String(chosen);
  };
  fill(options, value);
  select.addEventListener("change", () => onChange(select.value));
  const box = make("span", { class: "control" }, make("label", { for: id }, label), select);
  return { box, select, fill };
}

function makeCheck(label, value, onChange) {
  const id = `control-${controls++}`;
  const input = make("input", { id, type: "checkbox" });
  input.checked = value;
  input.addEventListener("change", () => onChange(input.checked));
  return make("span", { class: "control" }, input, make("label", { for: id }, label));
}

function makeRange(label, most, value, onChange) {
  const id = `control-${controls++}`;
  const input = make("input", { id, type: "range", min: 0, max: most, step: 1 });
  input.value = value;
  input.addEventListener("input", () => onChange(Number(input.value)));
  const words = make("output", { for: id });
  const box = make(
    "span",
    { class: "control wide" },
    make("label", { for: id }, label),
    input,
    words,
  );
  return { box, input, words };
}

// A canvas of so many CSS pixels, sharp on every screen; `context` is scaled to CSS pixels.
function makeCanvas(width, height, attributes = {}) {
  const canvas = make("canvas", attributes);
  const context = sizeCanvas(canvas, width, height);
  return { canvas, context };
}

function sizeCanvas(canvas, width, height) {
  const density = Math.min(3, window.devicePixelRatio || 1);
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  canvas.style.width = `${width}px`;
  canvas.style.aspectRatio = `${width} / ${height}`;
  const context = canvas.getContext("2d");
  context.scale(density, density);
  return context;
}

function formatStep(step) {
  return step.toLocaleString("en-US");
}

function formatShare(share) {
  if (!Number.isFinite(share)) return "not measured";
  return share >= 0.1 || share === 0
    ? `${(100 * share).toFixed(0)} %`
    : `${(100 * share).toPrecision(2)} %`;
}

function formatNumber(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return String(Number(value.toPrecision(4)));
}

function callHead(layer, head) {
  return `layer ${layer}, head ${head}`;
}

function callLayer(layer) {
  return layer ? `after block ${layer - 1}` : "embedding";
}
