// Colours by the names that figures' data use: Okabe and Ito's palette, and ramps.

const PALETTE = {
  blue: "#0072B2",
  orange: "#D55E00",
  green: "#009E73",
  pink: "#CC79A7",
  sky: "#56B4E9",
  yellow: "#F0E442",
  grey: "#666666",
  pale: "#bbbbbb",
  faint: "#cccccc",
  black: "#000000",
  white: "#ffffff",
};
// The same on a dark ground: blue and grey are lightened, black and white change places.
const ON_DARK = {
  blue: "#4FA8DC",
  orange: "#F08A3C",
  green: "#2FC79A",
  grey: "#a8a8a8",
  pale: "#5c5c5c",
  faint: "#4a4a4a",
  black: "#ffffff",
  white: "#000000",
};
const CYCLE = ["blue", "orange", "green", "pink", "sky", "yellow"];
// Places along matplotlib's viridis, magma, RdBu and grey maps, from low to high.
const RAMPS = {
  sequential: [
    "#440154",
    "#482878",
    "#3e4989",
    "#31688e",
    "#26828e",
    "#1f9e89",
    "#35b779",
    "#6ece58",
    "#b5de2b",
    "#fde725",
  ],
  heat: [
    "#000004",
    "#180f3d",
    "#440f76",
    "#721f81",
    "#9e2f7f",
    "#cd4071",
    "#f1605d",
    "#fd9668",
    "#feca8d",
    "#fcfdbf",
  ],
  diverging: [
    "#67001f",
    "#b2182b",
    "#d6604d",
    "#f4a582",
    "#fddbc7",
    "#f7f7f7",
    "#d1e5f0",
    "#92c5de",
    "#4393c3",
    "#2166ac",
    "#053061",
  ],
  brightness: ["#000000", "#ffffff"],
  ink: ["#ffffff", "#000000"],
};
const LEVELS = 256;
const tables = new Map();

const paper = { isUsed: false }; // while it is printed

function isDark() {
  return !paper.isUsed && window.matchMedia("(prefers-color-scheme: dark)").matches;
}

function nameColour(name) {
  const [scale, place] = name.split(" ");
  if (place !== undefined) {
    const least = isDark() ? 0.3 : 0; // the dark end is not seen on a dark ground
    return cssColour(lookUp("sequential", least + (1 - least) * Number(place)));
  }
  return (isDark() && ON_DARK[scale]) || PALETTE[scale] || PALETTE.grey;
}

function parseHex(text) {
  return [1, 3, 5].map((place) => parseInt(text.slice(place, place + 2), 16));
}

function cssColour([red, green, blue, opacity = 255]) {
  return `rgba(${red}, ${green}, ${blue}, ${opacity / 255})`;
}

// A ramp as a table of red, green, blue and opacity, 0 to 255.
function tabulate(kind) {
  if (!tables.has(kind)) {
    const table = new Uint8ClampedArray(4 * LEVELS);
    for (let level = 0; level < LEVELS; level++) {
      table.set(mix(kind, level / (LEVELS - 1)), 4 * level);
    }
    tables.set(kind, table);
  }
  return tables.get(kind);
}

function mix(kind, share) {
  if (kind === "tint") return [...parseHex(PALETTE.green), 255 * 0.85 * share];
  const stops = RAMPS[kind];
  const at = share * (stops.length - 1);
  const below = Math.min(Math.floor(at), stops.length - 2);
  const [low, high] = [parseHex(stops[below]), parseHex(stops[below + 1])];
  const colour = low.map((value, place) => value + (at - below) * (high[place] - value));
  return [...colour, 255];
}

function lookUp(kind, share) {
  const level = Math.round(Math.max(0, Math.min(1, share)) * (LEVELS - 1));
  return tabulate(kind).subarray(4 * level, 4 * level + 4);
}

// What share of a scale a value has reached.
function placeOnScale(scale, value) {
  if (scale.spacing === "log") {
    return Math.log(Math.max(value, scale.low) / scale.low) / Math.log(scale.high / scale.low);
  }
  return (value - scale.low) / (scale.high - scale.low || 1);
}

// A bar that says what colours mean, with lines at what is marked on it.
function makeBar(scale) {
  const width = 220;
  const { canvas, context } = makeCanvas(width, 14, { "aria-hidden": "true" });
  for (let x = 0; x < width; x++) {
    context.fillStyle = cssColour(lookUp(scale.kind, x / (width - 1)));
    context.fillRect(x, 0, 1, 14);
  }
  for (const [value] of scale.marks || []) {
    context.fillStyle = PALETTE.orange;
    context.fillRect(placeOnScale(scale, value) * width - 1, 0, 2, 14);
  }
  const ends = `${formatNumber(scale.low)} to ${formatNumber(scale.high)}`;
  const marks = (scale.marks || []).map(
    ([value, name]) => `${name}: ${formatNumber(value)} (line)`,
  );
  const words = [scale.label.replaceAll("\n", " "), ends, ...marks].filter(Boolean).join("; ");
  return make("div", { class: "bar" }, canvas, make("span", {}, words));
}
