// The first screen: what the run is, what happened in words, and the curve that shows it.

function makeHeadline(run, page) {
  const facts = (run.verdicts || []).map(([name, value]) => [
    make("dt", {}, name),
    make("dd", {}, value),
  ]);
  const story = (run.story || []).map(([question, answer]) => [
    make("dt", {}, question),
    make("dd", {}, answer),
  ]);
  const numbers = make(
    "details",
    {},
    make("summary", {}, "The same in numbers"),
    make("dl", { class: "facts" }, facts),
  );
  const words = story.length
    ? make("div", {}, make("dl", { class: "story" }, story), numbers)
    : make(
        "p",
        { class: "missing" },
        "Nothing is measured yet: ",
        makeCommand(`toyvit measure ${run.path}`),
      );
  const chart = makeTransitionChart(page);
  const shown = chart ? chart.figure : null;
  const more = makeMoreCharts(run);
  const hint = chart
    ? make(
        "p",
        { class: "hint" },
        "Click a step, or use the slider below: curves, attention, lens and heads go there.",
      )
    : null;
  const element = make(
    "section",
    { id: "headline", "aria-labelledby": "title" },
    make("h1", { id: "title" }, run.name),
    make("p", { class: "lead" }, run.what, run.task ? ` The task: ${run.task}` : null),
    run.status === "finished"
      ? null
      : make(
          "p",
          { class: "missing" },
          `This run is ${run.status}: its last checkpoint is of step ${formatStep(run.lastStep)}.`,
        ),
    makeOthers(page),
    makeProblems(page),
    make(
      "div",
      { class: "split" },
      make("div", {}, make("h2", {}, "What happened"), words),
      make(
        "div",
        {},
        shown,
        hint,
        more.map((other) => other.figure),
      ),
    ),
  );
  return { element, update: () => [chart, ...more].forEach((one) => one && one.update()) };
}

// What the other runs are: how they differ from the first, and what came of them.
function makeOthers(page) {
  const others = page.runs.slice(1).filter((run) => run.difference);
  const items = others.map((run) =>
    make("p", {}, make("strong", {}, run.name), `: ${run.difference}`),
  );
  return items.length ? make("div", { class: "others" }, items) : null;
}

// What could not be read or made, of all runs.
function makeProblems(page) {
  const items = page.runs.flatMap((run) =>
    run.problems.map((problem) => make("li", {}, `${run.name}: ${problem}`)),
  );
  return items.length
    ? make(
        "div",
        { class: "missing" },
        make("strong", {}, "Not on this page"),
        make("ul", {}, items),
      )
    : null;
}

function makeCommand(text) {
  return make("code", { class: "command" }, text);
}

// The score against steps, of every run, with what predictors that know less reach.
function makeTransitionChart(page) {
  const run = page.runs[0];
  const colours = CYCLE;
  const curves = page.runs.flatMap((other, place) => {
    const found = findRow(other, "performance", "accuracy", {});
    if (!found || other.score !== run.score) return [];
    const colour = colours[place % colours.length];
    return [buildCurve(other, found, { label: other.name, colour })];
  });
  if (!curves.length) return null;
  const panel = {
    title: "",
    x: { label: "training step", scale: "linear", low: null, high: null, ticks: null, names: null },
    y: {
      label: `${run.score} on test pictures`,
      scale: "linear",
      low: null,
      high: null,
      ticks: null,
      names: null,
    },
    curves,
    levels: listBaselines(run, "accuracy"),
    spans: listSpans(run),
    marks: listMarks(run),
  };
  return makeChart(panel, { height: 300, onStep: (step) => change({ step }) });
}

// Of the first figure, what is neither score nor loss: the measure that explains the change.
function makeMoreCharts(run) {
  const first = run.figures.find((figure) => figure.kind === "FigureData");
  if (!first) return [];
  const panels = first.blocks
    .flatMap((block) => block.panels.flat())
    .filter(
      (panel) => panel && panel.kind === "CurvePanel" && panel.x.label.startsWith("training step"),
    );
  return panels
    .filter((panel) => !/^(accuracy|loss|R\^2|mean squared)/.test(panel.y.label))
    .slice(0, 2)
    .map((panel) =>
      makeChart(
        {
          ...panel,
          title: panel.title || panel.y.label.replaceAll("\n", " "),
          y: { ...panel.y, label: "" },
        },
        { height: 150, onStep: (step) => change({ step }) },
      ),
    );
}

function listBaselines(run, quantity) {
  return Object.entries(run.baselines || {})
    .filter(([name]) => name.startsWith(`${quantity}.`))
    .map(([name, value]) => ({
      value,
      name: name.slice(quantity.length + 1).replaceAll("_", " "),
      style: "dotted",
    }));
}

function listSpans(run) {
  const changes = run.changes || { rise: null, abrupt: [] };
  if (changes.rise) {
    const [start, end] = changes.rise;
    return [
      {
        start,
        end,
        colour: "yellow",
        label: "10 % to 90 % of the way from the best without the match to the end",
      },
    ];
  }
  const own = changes.abrupt.filter((one) => one.curve === "performance/accuracy");
  return own.map(({ start, end }) => ({
    start,
    end,
    colour: "yellow",
    label: "abrupt change, as detected",
  }));
}

function listMarks(run) {
  const steps = (run.changes || { schedule: [] }).schedule;
  return steps.map((place, at) => ({
    place,
    label: at ? "" : "the learning rate bends or jumps",
    colour: "pink",
    style: "dashdot",
  }));
}
