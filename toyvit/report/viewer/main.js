// The page: its sections in order, one slider for all of them.

const FRAME = 160; // milliseconds between checkpoints when it plays
let playing = 0; // the timer, which outlives a page that is built anew

async function main() {
  const host = document.getElementById("page");
  if (typeof DecompressionStream === "undefined") return;
  const page = JSON.parse(document.getElementById("data").textContent);
  await Promise.all(page.runs.map(unpackCurves));
  const steps = listSteps(page);
  const link = location.hash; // before it is written over
  state.step = firstStep(page, steps);
  recall(link);
  limitState(page.runs, steps);
  buildFirst(host, page, steps); // what happened is on the screen before the rest is unpacked
  await new Promise((resolve) => setTimeout(resolve));
  await Promise.all(page.runs.map(unpackLooks));
  shareScale(page.runs);
  chooseView(page.runs[0]);
  recall(link);
  limitState(page.runs, steps);
  build(host, page, steps);
  window.addEventListener("hashchange", () => {
    recall(location.hash);
    limitState(page.runs, steps);
    notify();
  });
  window.addEventListener("toyvit-change", (event) => {
    const steps = listSteps(page);
    change({ step: steps[findNearest(steps, event.detail.step)] });
  });
  // Paper is light: what is drawn dark is drawn again, and after printing as it was.
  window.addEventListener("beforeprint", () => {
    paper.isUsed = true;
    build(host, page, steps);
    openAll();
  });
  window.addEventListener("afterprint", () => {
    paper.isUsed = false;
    build(host, page, steps);
  });
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => paper.isUsed || build(host, page, steps));
}

async function unpackCurves(run) {
  if (run.curves) run.curves.matrix = (await readArray(run.curves.values)).values;
}

async function unpackLooks(run) {
  if (run.headTypes) run.headTypes.scores = await readArray(run.headTypes.scores);
  if (!run.looks) return;
  Object.assign(run.looks, await readArrays(run.looks, LOOKS));
  if (run.looks.answers) run.looks.answers.symbols = await readArray(run.looks.answers.symbols);
  prepareLooks(run.looks);
}

// Scores of all runs are coloured on one scale.
function shareScale(runs) {
  const shown = runs.filter((run) => run.looks);
  const top = Math.max(...shown.map((run) => run.looks.top));
  shown.forEach((run) => (run.looks.top = top));
}

function listSteps(page) {
  const all = page.runs.flatMap((run) => [
    ...(run.curves ? run.curves.steps : []),
    ...(run.looks ? run.looks.steps : []),
  ]);
  return [...new Set(all)].sort((one, other) => one - other);
}

// Where the page opens: at the end of the rise if there is one, else at the last step.
function firstStep(page, steps) {
  const rise = page.runs[0].changes && page.runs[0].changes.rise;
  const goal = rise ? rise[1] : steps[steps.length - 1] || 0;
  return steps.length ? steps[findNearest(steps, goal)] : 0;
}

// The token and the head that the page opens with: the query, or CLS; the head that matters most.
function chooseView(run) {
  const { looks } = run;
  if (!looks) return;
  state.token = looks.marks
    ? looks.marks.query[0]
    : looks.prefix.length && looks.readout === "cls"
      ? 0
      : looks.tokens - 1;
  state.lens = looks.layers;
  const cuts = findRows(run, "head_ablation", "accuracy", { ablation: "zero" }).map(
    ({ axes, row }) => {
      const { steps, matrix } = run.curves;
      return [matrix[(row + 1) * steps.length - 1], axes];
    },
  );
  const known = cuts
    .filter(([value]) => !Number.isNaN(value))
    .sort((one, other) => one[0] - other[0]);
  if (known.length) Object.assign(state, { layer: known[0][1].layer, head: known[0][1].head });
}

function buildFirst(host, page, steps) {
  watchers.clear();
  clearInterval(playing);
  playing = 0;
  forgetCharts();
  const headline = makeHeadline(page.runs[0], page);
  const slider = makeStepBar(page, steps);
  host.replaceChildren(make("main", {}, headline.element), slider.element);
  [headline, slider].forEach((part) => watch(part.update));
  notify();
}

function build(host, page, steps) {
  drawers.length = 0;
  buildFirst(host, page, steps);
  const makers = [
    makeCurves,
    makeAttentionSection,
    makeLensSection,
    makeHeadsSection,
    makeFiguresSection,
  ];
  const sections = makers.map((maker) => maker(page));
  host.querySelector("main").append(...sections.map((section) => section.element), makeAbout(page));
  sections.forEach((section) => watch(section.update));
  notify();
  document.body.dataset.state = "ready";
}

function makeStepBar(page, steps) {
  const range = makeRange("step", Math.max(0, steps.length - 1), 0, (at) =>
    change({ step: steps[at] }),
  );
  const play = make("button", { type: "button", id: "play", onclick: toggle }, "▶ play");
  function stop() {
    clearInterval(playing);
    playing = 0;
    play.textContent = "▶ play";
  }
  function toggle() {
    if (playing) return stop();
    if (findNearest(steps, state.step) === steps.length - 1) change({ step: steps[0] });
    play.textContent = "❚❚ pause";
    playing = setInterval(() => {
      const at = findNearest(steps, state.step);
      if (at + 1 >= steps.length) stop();
      else change({ step: steps[at + 1] });
    }, FRAME);
    return null;
  }
  const others = page.runs.slice(1).map((run, place) => [place + 1, run.name]);
  const beside = others.length
    ? makeSelect("compare with", [[-1, "no other run"], ...others], state.beside, (value) =>
        change({ beside: Number(value) }),
      ).box
    : null;
  const scores = make("span", { class: "now-score", "aria-live": "off" });
  const element = make(
    "nav",
    { class: "steps", "aria-label": "training step" },
    play,
    range.box,
    scores,
    beside,
  );
  element.hidden = steps.length < 1;
  range.input.id = "step";
  range.box.querySelector("label").htmlFor = "step";

  function update() {
    if (!steps.length) return;
    range.input.value = findNearest(steps, state.step);
    range.input.setAttribute("aria-valuetext", `step ${formatStep(state.step)}`);
    range.words.textContent = formatStep(state.step);
    const shown = [page.runs[0], ...(state.beside > 0 ? [page.runs[state.beside]] : [])];
    const values = shown.map((run) => lookUpValue(run, "performance", "accuracy", {}, state.step));
    const words = values.map((value, at) => {
      const isNamed = !at || shown[at].score !== shown[0].score;
      return `${isNamed ? `${shown[at].score} ` : ""}${value ? value.value.toFixed(3) : "–"}`;
    });
    scores.textContent = values.some(Boolean) ? words.join(" / ") : "";
  }
  return { element, update };
}

// A section with one viewer for the run shown, and one for the run beside it.
function makeViewers(page, { id, title, lead, fits, makeViewer, makeControls = null, missing }) {
  const holder = make("div", { class: "columns" });
  const first = page.runs.find(fits);
  const head = make("h2", { id: `${id}-title` }, title);
  const section = make("section", { id, "aria-labelledby": `${id}-title` }, head);
  if (!first) {
    section.append(make("p", { class: "missing" }, ...missing(page.runs[0])));
    return { element: section, update() {} };
  }
  const controls = makeControls ? makeControls(first) : null;
  section.append(
    make("p", { class: "hint" }, lead),
    ...(controls ? [controls.element] : []),
    holder,
  );
  const viewers = new Map();
  let shown = null;

  function update() {
    const places = [state.run, state.beside].filter(
      (place, at, all) => place >= 0 && fits(page.runs[place]) && all.indexOf(place) === at,
    );
    if (shown !== String(places)) {
      shown = String(places);
      places.forEach(
        (place) => viewers.has(place) || viewers.set(place, makeViewer(page.runs[place])),
      );
      const elements = places.map((place) => viewers.get(place).element);
      const words = missing(page.runs[state.run]);
      holder.replaceChildren(
        ...(elements.length ? elements : [make("p", { class: "missing" }, ...words)]),
      );
    }
    if (controls) controls.update();
    places.forEach((place) => viewers.get(place).update());
  }
  return { element: section, update };
}

function makeAttentionSection(page) {
  return makeViewers(page, {
    id: "attention",
    title: "Attention",
    lead:
      "Point at a patch to see where it attends; click to keep it, arrow keys move it. " +
      "Green: attended to; orange frame: the token chosen.",
    fits: (run) => Boolean(run.looks),
    makeViewer: makeAttention,
    makeControls: (run) => makeAttentionControls(run.looks),
    missing: (run) => [
      "Attention is not on this page: no checkpoint could be read, the run's pictures are not " +
        "here, or one picture at one checkpoint is larger than the page may be. ",
      makeCommand(`toyvit verify ${run.path}`),
    ],
  });
}

function makeLensSection(page) {
  return makeViewers(page, {
    id: "lens",
    title: "Lens",
    lead:
      "What each patch would answer if the model read it out there, at the layer chosen: the " +
      "logit lens. An early layer need not speak the language of the last.",
    fits: (run) => Boolean(run.looks && run.looks.answers && run.looks.classes),
    makeViewer: makeLens,
    makeControls: (run) => makeLensControls(run.looks),
    missing: () => [
      "The lens shows classes: this run's answers are none, or its pictures are not here.",
    ],
  });
}

function makeHeadsSection(page) {
  return makeViewers(page, {
    id: "heads",
    title: "Heads",
    lead: "A head has a name where its score stands clear of the largest null of its type.",
    fits: (run) => Boolean(run.headTypes),
    makeViewer: makeHeadTypes,
    missing: (run) => [
      "Types of heads are not measured: ",
      makeCommand(`toyvit measure ${run.path} --analyses heads`),
    ],
  });
}

function makeFiguresSection(page) {
  return makeViewers(page, {
    id: "figures",
    title: "Figures",
    lead:
      "Every figure that the measures of this run allow. Each says what to see, and what would " +
      "be there if there were nothing to see.",
    fits: (run) => run.figures.length > 0 || Object.keys(run.unmeasured || {}).length > 0,
    makeViewer: makeFigures,
    missing: (run) => ["Nothing is measured yet: ", makeCommand(`toyvit measure ${run.path}`)],
  });
}

function tellLooks(looks) {
  const pictures = `${looks.pictures.shape[0]} test pictures`;
  const checkpoints = `${looks.steps.length} of ${looks.all} checkpoints`;
  const share = looks.digits === 3 ? "0.02" : "3";
  return `${pictures} at ${checkpoints}, shares of attention to ${share} % of themselves`;
}

// What the page shows, and how finely.
function makeAbout(page) {
  const items = page.runs.map((run) => {
    const { looks, curves } = run;
    const seen = looks ? tellLooks(looks) : "no attention and no lens";
    const measured = curves
      ? `curves at ${curves.steps.length} of ${curves.all} measured steps`
      : "no curves";
    return make("li", {}, `${run.name} (${run.path}): ${seen}; ${measured}.`);
  });
  const budget = formatNumber(page.budget / 1e6);
  const chosen = `What is on it was chosen to keep it under ${budget} MB.`;
  const size = `The page is one file and loads nothing. ${chosen}`;
  return make(
    "footer",
    {},
    make("h2", {}, "About this page"),
    make("ul", {}, items),
    make("p", {}, size),
  );
}

main();
