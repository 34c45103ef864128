// What the page shows now. Its address remembers it: a link leads back to the same view.

const state = {
  step: 0,
  run: 0,
  beside: -1,
  picture: 0,
  layer: 0,
  head: 0,
  token: 0,
  way: "from",
  lens: 0,
  curve: "",
};
const WORDS = ["way", "curve"];
const watchers = new Set();
let isWaiting = false;

function watch(update) {
  watchers.add(update);
}

function change(values) {
  const differs = Object.entries(values).some(([name, value]) => state[name] !== value);
  if (!differs) return;
  Object.assign(state, values);
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    notify();
  });
}

function notify() {
  for (const update of watchers) update();
  remember();
  window.dispatchEvent(new CustomEvent("toyvit-state", { detail: { ...state } })); // for a notebook
}

let remembering = 0;

// Browsers refuse many changes of the address in a short time.
function remember() {
  if (location.protocol === "about:") return; // inside a notebook there is no address
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    const parts = new URLSearchParams(
      Object.entries(state).map(([name, value]) => [name, String(value)]),
    );
    history.replaceState(null, "", `#${parts}`);
  }, 300);
}

function recall(link) {
  const parts = new URLSearchParams(link.slice(1));
  for (const [name, text] of parts) {
    if (!(name in state)) continue;
    if (WORDS.includes(name)) state[name] = text;
    else if (/^-?\d{1,12}$/.test(text)) state[name] = Number(text);
  }
}

// Keep what the address says within what this page has.
function limitState(runs, steps) {
  if (steps.length) state.step = steps[findNearest(steps, state.step)];
  const within = (value, n) => Math.max(0, Math.min(n - 1, value));
  state.run = within(state.run, runs.length);
  if (state.beside >= runs.length || state.beside < -1) state.beside = -1;
  const looks = runs[state.run].looks;
  state.layer = within(state.layer, looks ? looks.layers : 1);
  state.head = within(state.head, looks ? looks.heads : 1);
  state.token = within(state.token, looks ? looks.tokens : 1);
  state.picture = within(state.picture, looks ? looks.pictures.shape[0] : 1);
  state.lens = within(state.lens, looks ? looks.layers + 1 : 1);
  if (!["from", "to"].includes(state.way)) state.way = "from";
}
