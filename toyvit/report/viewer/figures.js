// All figures of a report, drawn when they are opened, and what is not measured yet.

const drawers = []; // of figures that are closed

// Everything that is closed, opened and drawn at once: a printer does not wait.
function openAll() {
  for (const draw of drawers) draw();
  for (const details of document.querySelectorAll("details")) details.open = true;
}

function makeFigures(run) {
  const updates = [];
  const items = run.figures.map((figure) => {
    if (figure.kind === "TooLarge")
      return make(
        "p",
        { class: "missing" },
        `${figure.name} is too large for this page: `,
        makeCommand(`toyvit report ${run.path} --all`),
        " draws it into a file.",
      );
    const title = make("summary", {}, figure.title);
    const details = make("details", { id: `figure-${figure.name}` }, title);
    const draw = () => {
      if (details.children.length > 1) return;
      const drawn = makeFollowing(figure, title);
      details.append(drawn.element);
      updates.push(drawn.update);
      drawn.update();
    };
    details.addEventListener("toggle", () => details.open && draw());
    drawers.push(draw);
    return details;
  });
  return {
    element: make("div", { class: "figures" }, make("h3", {}, run.name), items, makeMissing(run)),
    update: () => updates.forEach((update) => update()),
  };
}

// A figure, or where it is of one checkpoint and there are more of them, the nearest to the slider.
function makeFollowing(figure, title) {
  const versions = figure.others ? sortByStep([figure, ...figure.others]) : [figure];
  const drawn = new Map();
  const element = make("div");
  let shown = null;
  function update() {
    const steps = versions.map((version) => version.steps[0]);
    const version = figure.others ? versions[findNearest(steps, state.step)] : figure;
    if (!drawn.has(version)) {
      const whole = { ...version, others: versions.filter((other) => other !== version) };
      drawn.set(version, makeFigure(whole, { onStep: (step) => change({ step }) }));
    }
    if (shown !== version) {
      element.replaceChildren(drawn.get(version).element);
      title.textContent = version.title;
      shown = version;
    }
    drawn.get(version).update();
  }
  return { element, update };
}

function makeMissing(run) {
  const missing = Object.entries(run.unmeasured || {});
  if (!missing.length) return null;
  const items = missing.map(([name, computes]) =>
    make(
      "li",
      {},
      make("strong", {}, name),
      `, ${computes}: `,
      makeCommand(`toyvit measure ${run.path} --analyses ${name}`),
    ),
  );
  return make(
    "details",
    {},
    make("summary", {}, `Not measured yet: ${missing.length} analyses that fit this run`),
    make("ul", {}, items),
  );
}
