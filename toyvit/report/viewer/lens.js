// What every patch would answer at every layer (the logit lens), and when answers are settled.

function makeLens(run) {
  const { looks } = run;
  const { answers } = looks;
  const ground = makeTokenGrid(looks, `Answers of every patch of ${run.name}`, {
    onPick: (token) => change({ token }),
  });
  const words = make("p", { class: "reading", "aria-live": "polite" });
  const readout = make("ol", { class: "readout" });
  const decided = make("div", { class: "decided" });
  const key = make("p", { class: "hint" });
  const maps = looks.masks ? makeSegmentation(run) : null;
  const symbols = answers.symbols ? paintSymbols(answers.symbols) : null;
  const element = make(
    "div",
    { class: "viewer" },
    make("h3", {}, run.name),
    make(
      "div",
      { class: "views" },
      ground.canvas,
      make(
        "div",
        {},
        make("h4", {}, maps ? "Segmentation" : "The answer itself, layer by layer"),
        maps ? maps.element : readout,
        decided,
        key,
      ),
    ),
    words,
  );
  const width = looks.classes.shape[3];
  const [, n] = looks.classes.shape;

  function placeOf(at, picture, layer, token) {
    return ((at * n + picture) * (looks.layers + 1) + layer) * width + token;
  }
  function draw() {
    const at = findNearest(looks.steps, state.step);
    const picture = Math.min(state.picture, n - 1);
    const layer = Math.min(state.lens, looks.layers);
    const right = answers.right[picture];
    const label = (token) => looks.classes.values[placeOf(at, picture, layer, token)];
    const chance = (token) => looks.chances.values[placeOf(at, picture, layer, token)] / 255;
    const isRight = (token) =>
      label(token) === (right.length === 1 ? right[0] : right[token - looks.prefix.length]);
    ground.draw({
      picture,
      opacity: symbols ? 0.15 : 0.35,
      selected: Math.min(state.token, looks.tokens - 1),
      frames: frameMarks(looks, picture),
      fill: (token) => shadeAnswer(view.colour, label(token), chance(token), isRight(token)),
      draw:
        symbols && view.text !== "name"
          ? (context, token, box) => drawSymbol(context, symbols[label(token)], box, chance(token))
          : null,
      write:
        symbols && view.text !== "name"
          ? null
          : (token) => [
              nameInCell(answers, label(token)),
              nameColour("black"),
              view.text === "name" ? 9 + 9 * chance(token) : 12 + 12 * chance(token),
            ],
    });
    const token = Math.min(state.token, looks.tokens - 1);
    const place = `Step ${formatStep(looks.steps[at])}, ${callLayer(layer)}`;
    const answer = `${nameClass(answers, label(token))} with ${formatShare(chance(token))}`;
    const size = answers.names.length;
    const even = `Chance, one class of ${size}: ${formatShare(1 / size)}.`;
    words.textContent = `${place}: ${nameToken(looks, token)} would answer ${answer}. ${even}`;
    const isEach = view.colour === "right" && width === looks.tokens;
    key.textContent = KEYS[isEach ? "each" : view.colour];
    if (maps) {
      const patches = right.map((_, patch) => label(patch + looks.prefix.length));
      maps.update(patches, right, layer);
      return;
    }
    fillReadout(at, picture);
    fillDecided(decided, run);
  }
  function fillReadout(at, picture) {
    if (width === looks.tokens) {
      readout.replaceChildren(make("li", {}, "Every patch has an answer of its own."));
      return;
    }
    const items = Array.from({ length: looks.layers + 1 }, (_, layer) => {
      const place = placeOf(at, picture, layer, looks.tokens);
      const name = nameClass(answers, looks.classes.values[place]);
      const share = formatShare(looks.chances.values[place] / 255);
      const isRight = looks.classes.values[place] === answers.right[picture][0];
      return make(
        "li",
        { class: isRight ? "right" : "wrong" },
        `${callLayer(layer)}: ${name}, ${share} ${isRight ? "✓" : "✗"}`,
      );
    });
    readout.replaceChildren(...items);
  }
  draw();
  return { element, update: draw };
}

const KEYS = {
  right:
    "Green: what the picture's right answer is; grey: another class. Only the read-out is asked; " +
    "what other patches would say is no mistake. The stronger, the likelier.",
  each: "Green: the patch's own right answer; grey: another class. The stronger, the likelier.",
  class: "A colour a class, six in turn; the stronger, the likelier.",
  confidence: "Dark to yellow: the probability of the likeliest class, 0 to 1.",
};
const view = { colour: "right", text: "symbol" };

function nameInCell(answers, label) {
  return view.text === "name" ? answers.names[label] : answers.emoji[label] || answers.names[label];
}

function shadeAnswer(kind, label, chance, isRight) {
  if (kind === "confidence") return [...lookUp("sequential", chance).subarray(0, 3), 150];
  if (kind === "class")
    return [...parseHex(PALETTE[CYCLE[label % CYCLE.length]]), 40 + 140 * chance];
  return [...parseHex(isRight ? PALETTE.green : PALETTE.grey), 20 + (isRight ? 150 : 70) * chance];
}

// Pictures of classes, dark on clear.
function paintSymbols({ values, shape }) {
  const [n, rows, columns] = shape;
  const [red, green, blue] = isDark() ? [255, 255, 255] : [0, 0, 0];
  return Array.from({ length: n }, (_, label) => {
    const canvas = make("canvas");
    canvas.width = columns;
    canvas.height = rows;
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    for (let pixel = 0; pixel < rows * columns; pixel++) {
      image.data.set([red, green, blue, values[label * rows * columns + pixel]], 4 * pixel);
    }
    context.putImageData(image, 0, 0);
    return canvas;
  });
}

function drawSymbol(context, symbol, [x, y, width, height], chance) {
  context.globalAlpha = 0.25 + 0.75 * chance;
  context.drawImage(symbol, x + width * 0.15, y + height * 0.15, width * 0.7, height * 0.7);
  context.globalAlpha = 1;
}

// At which layer the answers of a class are final, as shares of its pictures.
function fillDecided(host, run) {
  const rows = findRows(run, "lens", "decided", {});
  if (!rows.length) {
    const command = makeCommand(`toyvit measure ${run.path} --analyses lens`);
    host.replaceChildren(
      make("p", { class: "missing" }, "When answers are settled is not measured: ", command),
    );
    return;
  }
  const at = findNearest(run.curves.steps, state.step);
  const sums = new Map();
  for (const { axes, row } of rows) {
    const value = run.curves.matrix[row * run.curves.steps.length + at];
    if (Number.isNaN(value)) continue;
    const [sum, n] = sums.get(axes.layer) || [0, 0];
    sums.set(axes.layer, [sum + value, n + 1]);
  }
  const bars = [...sums]
    .sort((one, other) => one[0] - other[0])
    .map(([layer, [sum, n]]) => {
      const bar = make("span", { class: "fill" });
      bar.style.width = `${(100 * sum) / n}%`;
      return make(
        "li",
        {},
        make("span", { class: "name" }, callLayer(layer)),
        make("span", { class: "track" }, bar),
        make("span", { class: "number" }, formatShare(sum / n)),
      );
    });
  host.replaceChildren(
    make("h4", {}, "From which layer on the answer is final (share of pictures, mean of classes)"),
    make("ul", { class: "bars" }, bars),
  );
}

function makeLensControls(looks) {
  const layers = makeRange("layer", looks.layers, state.lens, (lens) => change({ lens }));
  const colour = makeSelect(
    "colour",
    [
      ["right", "the right answer"],
      ["class", "class"],
      ["confidence", "confidence"],
    ],
    view.colour,
    (value) => {
      view.colour = value;
      notify();
    },
  );
  const text = makeSelect(
    "classes as",
    [
      ["symbol", "symbols"],
      ["name", "names"],
    ],
    view.text,
    (value) => {
      view.text = value;
      notify();
    },
  );
  const update = () => {
    layers.input.value = state.lens;
    layers.words.textContent = callLayer(state.lens);
  };
  update();
  return { element: make("div", { class: "controls" }, layers.box, colour.box, text.box), update };
}
