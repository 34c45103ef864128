// The lens's map of a picture beside the true one, where every patch shows something that has a
// class: their overlap, and that of who knows places only.

const MAP_SIZE = 150;

function makeSegmentation(run) {
  const { looks } = run;
  const { names } = looks.answers;
  const truth = makeMap("What each patch shows");
  const answer = makeMap("What the lens calls it");
  const words = make("p", { class: "reading" });
  const legend = make(
    "ul",
    { class: "legend" },
    names.map((name, label) => {
      const { canvas, context } = makeCanvas(12, 12, { class: "swatch", "aria-hidden": "true" });
      context.fillStyle = colourLabel(label, names.length);
      context.fillRect(0, 0, 12, 12);
      return make("li", {}, canvas, label ? nameClass(looks.answers, label) : "no object");
    }),
  );
  const element = make(
    "div",
    { class: "segmentation" },
    make("div", { class: "maps" }, truth.figure, answer.figure),
    legend,
    words,
  );

  function update(labels, right, layer) {
    drawLabels(truth, right, looks);
    drawLabels(answer, labels, looks);
    const own = formatNumber(measureOverlap(labels, right, names.length));
    const chance = formatNumber(measureOverlap(looks.masks.commonest, right, names.length));
    const whole = lookUpValue(run, "segmentation", "iou", { layer }, state.step);
    const position = lookUpValue(run, "segmentation", "iou_of_position", {}, state.step);
    words.replaceChildren(
      `Overlap in this picture, ${callLayer(layer)}: ${own}; chance, who calls each place what ` +
        `it shows most often: ${chance}. `,
      whole
        ? `All measured pictures, step ${formatStep(whole.step)}: ${formatNumber(whole.value)}, ` +
            `chance ${formatNumber(position && position.value)}. `
        : "Over many pictures it is not measured: ",
      ...(whole ? [] : [makeCommand(`toyvit measure ${run.path} --analyses segmentation`), " "]),
      "Overlap is intersection over union, a mean over classes, 0 to 1.",
    );
  }
  return { element, update };
}

function makeMap(title) {
  const { canvas, context } = makeCanvas(MAP_SIZE, MAP_SIZE, { role: "img" });
  canvas.setAttribute("aria-label", title);
  return { canvas, context, figure: make("figure", {}, canvas, make("figcaption", {}, title)) };
}

// The first class is what is there where nothing is: it is left pale.
function colourLabel(label, n) {
  if (label === 0) return nameColour("faint");
  if (n - 1 <= CYCLE.length) return nameColour(CYCLE[label - 1]);
  return nameColour(`sequential ${(label - 1) / (n - 2)}`);
}

function drawLabels({ context }, labels, looks) {
  const [rows, columns] = looks.grid;
  const [width, height] = [MAP_SIZE / columns, MAP_SIZE / rows];
  context.clearRect(0, 0, MAP_SIZE, MAP_SIZE);
  labels.forEach((label, patch) => {
    context.fillStyle = colourLabel(label, looks.answers.names.length);
    const [x, y] = [(patch % columns) * width, Math.floor(patch / columns) * height];
    context.fillRect(x + 0.5, y + 0.5, width - 1, height - 1);
  });
}

// Mean over classes of the patches that are and are called so, of those that are or are called so;
// classes that are neither there nor given are left out.
function measureOverlap(labels, right, n) {
  const shares = [];
  for (let label = 0; label < n; label++) {
    const both = labels.filter((one, patch) => one === label && right[patch] === label).length;
    const either = labels.filter((one, patch) => one === label || right[patch] === label).length;
    if (either) shares.push(both / either);
  }
  return shares.reduce((sum, share) => sum + share, 0) / shares.length;
}
