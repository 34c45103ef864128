// What a model does with a picture, as it is and changed, side by side.

const MOST_CLASSES = 12; // that are listed
const CHANGED = ["as it is", "changed"];

// Both passes of an answer; `looks` is kept and filled anew with every answer.
function makeResults(looks, view) {
  const onPick = (token) => change({ token });
  const passes = CHANGED.map((title) => {
    const ground = makeTokenGrid(looks, `The picture, ${title}`, { onPick });
    const multiples = makeMultiples(looks);
    const element = make(
      "div",
      { class: "viewer" },
      make("h3", {}, title),
      ground.canvas,
      make("h4", {}, "All heads, the same token"),
      multiples.element,
    );
    return { element, ground, multiples };
  });
  const chances = make("ul", { class: "both" });
  const layers = make("ol", { class: "readout" });
  const answers = make(
    "div",
    { class: "answers" },
    make("h4", {}, "Answers"),
    chances,
    make("h4", {}, "The answer, layer by layer (lens)"),
    layers,
  );
  const element = make(
    "div",
    { class: "results" },
    passes.map((pass) => pass.element),
    answers,
  );

  function draw(answer) {
    passes.forEach((pass, at) => {
      drawPass(looks, pass, at, answer, view);
      pass.multiples.draw(at, 0, Math.min(state.token, looks.tokens - 1));
    });
    chances.replaceChildren(...listChanges(looks, answer));
    layers.replaceChildren(...listLayers(looks));
  }
  return { element, draw };
}

function drawPass(looks, { ground }, at, answer, view) {
  const token = Math.min(state.token, looks.tokens - 1);
  const [layer, head] = [
    Math.min(state.layer, looks.layers - 1),
    Math.min(state.head, looks.heads - 1),
  ];
  const opened = openHead(looks, at, 0, layer, head);
  const frames = frameMarks(looks, 0);
  if (view.shows === "attention" || !looks.classes) {
    ground.draw({
      picture: 0,
      opacity: 0.55,
      selected: token,
      frames,
      fill: (other) => shadeShare(opened.share(...pickPair(state.way, token, other))),
    });
    return;
  }
  const right = answer.picture === null ? [] : looks.answers.right[0];
  const read = (other) => readLens(looks, at, Math.min(state.lens, looks.layers), other);
  const isRight = (other) =>
    read(other).label === (right.length === 1 ? right[0] : right[other - looks.prefix.length]);
  ground.draw({
    picture: 0,
    opacity: 0.35,
    selected: token,
    frames,
    fill: (other) =>
      shadeAnswer(
        answer.picture === null ? "class" : "right",
        read(other).label,
        read(other).chance,
        isRight(other),
      ),
    write: (other) => [
      looks.answers.emoji[read(other).label] || looks.answers.names[read(other).label],
      nameColour("black"),
      10 + 8 * read(other).chance,
    ],
  });
}

function readLens(looks, at, layer, token) {
  const place = (at * (looks.layers + 1) + layer) * looks.classes.shape[3] + token;
  return { label: looks.classes.values[place], chance: looks.chances.values[place] / 255 };
}

// Probabilities of the answer, or of the chosen patch's where every patch has one.
function readChances(looks, part) {
  if (!part.chances) return null;
  if (!Array.isArray(part.chances[0])) return part.chances;
  return part.chances[
    Math.max(0, Math.min(state.token - looks.prefix.length, part.chances.length - 1))
  ];
}

// A share to a tenth of a percent.
function formatPercent(share) {
  return share < 0.0005 ? "<0.1 %" : `${(100 * share).toFixed(1)} %`;
}

function listChanges(looks, answer) {
  const [before, after] = [answer.before, answer.after].map((part) => readChances(looks, part));
  if (!before)
    return [
      make(
        "li",
        {},
        `loss ${formatNumber(answer.before.loss)}, changed ${formatNumber(answer.after.loss)}`,
      ),
    ];
  const labels = before.map((_, label) => label);
  if (labels.length > MOST_CLASSES) {
    labels.sort(
      (one, other) => Math.max(before[other], after[other]) - Math.max(before[one], after[one]),
    );
    labels.length = MOST_CLASSES;
  }
  return labels.map((label) => {
    const tracks = [before, after].map((chances, at) => {
      const fill = make("span", { class: at ? "fill" : "fill old" });
      fill.style.width = `${100 * chances[label]}%`;
      return make("span", { class: "track" }, fill);
    });
    const numbers = make(
      "span",
      { class: "number" },
      `${formatPercent(before[label])} → ${formatPercent(after[label])}`,
    );
    return make(
      "li",
      {},
      make("span", { class: "name" }, nameClass(looks.answers, label)),
      make("span", { class: "tracks" }, tracks),
      numbers,
    );
  });
}

function listLayers(looks) {
  if (!looks.classes || looks.classes.shape[3] === looks.tokens)
    return [make("li", {}, "Every patch has an answer of its own, or answers are no classes.")];
  return Array.from({ length: looks.layers + 1 }, (_, layer) => {
    const words = CHANGED.map((_, at) => {
      const { label, chance } = readLens(looks, at, layer, looks.tokens);
      return `${nameClass(looks.answers, label)} (${formatShare(chance)})`;
    });
    return make("li", {}, `${callLayer(layer)}: ${words.join(" → ")}`);
  });
}

// The answer in a sentence, and the one under a change where there is one.
function tellChange(looks, answer, isChanged) {
  const picture = answer.picture === null ? "The drawn picture" : `Test picture ${answer.picture}`;
  const words = [answer.before, answer.after].map((part) => {
    const chances = readChances(looks, part);
    if (!chances) return `with loss ${formatNumber(part.loss)}`;
    const best = chances.indexOf(Math.max(...chances));
    return `${nameClass(looks.answers, best)} with ${formatShare(chances[best])}`;
  });
  const right =
    answer.picture !== null && looks.answers && looks.answers.right[0].length === 1
      ? ` Right is ${nameClass(looks.answers, looks.answers.right[0][0])}.`
      : "";
  const place = `${picture}, step ${formatStep(answer.step)}`;
  const changed = isChanged ? `; changed, ${words[1]}` : "";
  return `${place}: the model answers ${words[0]}${changed}.${right}`;
}
