// Attention of one head on one picture at one checkpoint: on the picture, as matrices, all heads.

const LOOKS = ["pictures", "allowed", "patterns", "sums", "own", "classes", "chances", "final"];

const SIDE_OF_MATRIX = 156; // CSS pixels

// Patterns and scores, decoded on demand: `share(query, key)` and `score(query, key)`.
function prepareLooks(looks) {
  const tokens = looks.tokens;
  const places = new Int32Array(tokens * tokens).fill(-1);
  let n = 0;
  looks.allowed.values.forEach((isAllowed, at) => {
    if (isAllowed) places[at] = n++;
  });
  looks.places = places;
  looks.n = n;
  looks.shares = Float32Array.from({ length: looks.most + 1 }, (_, nats) =>
    nats === looks.most ? 0 : Math.exp(-nats * looks.unit),
  );
  looks.top =
    looks.sums.values.reduce(
      (most, sum) => (Number.isFinite(sum) ? Math.max(most, Math.abs(sum)) : most),
      0,
    ) || 1;
  return looks;
}

function openHead(looks, at, picture, layer, head) {
  const place =
    ((at * looks.pictures.shape[0] + picture) * looks.layers + layer) * looks.heads + head;
  const patterns = looks.patterns.values.subarray(place * looks.n, (place + 1) * looks.n);
  const sums = looks.sums.values.subarray(place * looks.tokens, (place + 1) * looks.tokens);
  const isOwn = looks.own.values[(at * looks.layers + layer) * looks.heads + head] === 1;
  const { tokens, places, shares, unit } = looks;
  return {
    isOwn,
    share(query, key) {
      const at = places[query * tokens + key];
      return at < 0 ? null : shares[patterns[at]];
    },
    score(query, key) {
      const at = places[query * tokens + key];
      return at < 0 || !isOwn ? null : sums[query] - patterns[at] * unit;
    },
  };
}

// What a token's row is (where it looks), or its column (who looks at it).
function pickPair(way, token, other) {
  return way === "from" ? [token, other] : [other, token];
}

function shadeShare(share) {
  return share === null ? [128, 128, 128, 90] : lookUp("tint", Math.sqrt(share));
}

function shadeScore(looks, score) {
  return score === null ? [128, 128, 128, 60] : lookUp("diverging", 0.5 + score / (2 * looks.top));
}

function makeAttention(run) {
  const { looks } = run;
  const pointed = { token: null };
  const pictures = makePictureChoice(looks);
  const onPoint = (token) => {
    if (pointed.token === token) return;
    pointed.token = token;
    draw();
  };
  const onPick = (token) => {
    pointed.token = null;
    change({ token });
  };
  const ground = makeTokenGrid(looks, `Attention of ${run.name} on a picture`, { onPoint, onPick });
  const matrix = makeMatrix(looks, "pattern", onPick);
  const scores = makeMatrix(looks, "score", onPick);
  const multiples = makeMultiples(looks);
  const words = make("p", { class: "reading", "aria-live": "polite" });
  const answer = make("p", { class: "reading" });
  const without = make("p", { class: "reading" });
  const shareBar = makeShareBar(looks.marks);
  const scoreBar = makeBar({
    kind: "diverging",
    low: -looks.top,
    high: looks.top,
    label: "attention score (before softmax, nats)",
    marks: [],
  });
  const element = make(
    "div",
    { class: "viewer" },
    make("h3", {}, run.name),
    pictures.element,
    make(
      "div",
      { class: "views" },
      make("div", {}, ground.canvas, shareBar),
      make(
        "div",
        { class: "beside" },
        make(
          "div",
          { class: "views" },
          make("div", {}, make("h4", {}, "pattern"), matrix.element),
          make("div", {}, make("h4", {}, "score"), scores.element),
        ),
        make("p", { class: "axes" }, "query down, key across; orange: the token's row or column"),
        scoreBar,
        make("h4", {}, "All heads, the same token"),
        multiples.element,
      ),
    ),
    words,
    answer,
    without,
  );

  function draw() {
    const at = findNearest(looks.steps, state.step);
    const token = Math.min(pointed.token ?? state.token, looks.tokens - 1);
    const picture = Math.min(state.picture, looks.pictures.shape[0] - 1);
    const layer = Math.min(state.layer, looks.layers - 1);
    const head = Math.min(state.head, looks.heads - 1);
    const opened = openHead(looks, at, picture, layer, head);
    const share = (other) => opened.share(...pickPair(state.way, token, other));
    ground.draw({
      picture,
      opacity: 0.55,
      selected: token,
      frames: frameMarks(looks, picture),
      fill: (other) => shadeShare(share(other)),
    });
    matrix.draw((query, key) => shadeShare(opened.share(query, key)), token);
    scores.draw((query, key) => shadeScore(looks, opened.score(query, key)), token);
    scores.element.hidden = !opened.isOwn;
    multiples.draw(at, picture, token);
    words.textContent = tellAttention(looks, opened, token, layer, head, looks.steps[at]);
    answer.textContent = tellAnswer(looks, at, picture);
    without.textContent = tellAblation(run, layer, head);
    pictures.update();
  }
  draw();
  return { element, update: draw };
}

// The match of a picture's query, in blue: where the answer stands.
function frameMarks(looks, picture) {
  return looks.marks ? [[looks.marks.match[picture], nameColour("blue")]] : [];
}

function makeShareBar(hasMarks) {
  const bar = makeBar({
    kind: "tint",
    low: 0,
    high: 1,
    label: "attention (share; colour: its square root)",
    marks: [],
  });
  bar.append(make("span", {}, "grey: the mask forbids it"));
  if (hasMarks)
    bar.append(
      make(
        "span",
        {},
        "orange frame: the token chosen; blue frame: the match, which has the answer",
      ),
    );
  return bar;
}

function tellAttention(looks, opened, token, layer, head, step) {
  const pairs = [];
  for (let other = 0; other < looks.tokens; other++) {
    const share = opened.share(...pickPair(state.way, token, other));
    if (share !== null) pairs.push([share, other]);
  }
  pairs.sort((one, other) => other[0] - one[0]);
  const top = pairs.slice(0, 3).map(([share, other]) => {
    const score = opened.score(...pickPair(state.way, token, other));
    const words = score === null ? "" : `, score ${score.toFixed(2)}`;
    return `${nameToken(looks, other)} (${formatShare(share)}${words})`;
  });
  const verb = state.way === "from" ? "attends most to" : "is attended to most by";
  const clamp = opened.isOwn
    ? ""
    : " This head is held to a pattern that is not its own: it has no scores of it.";
  const place = `Step ${formatStep(step)}, ${callHead(layer, head)}`;
  const n = pairs.length;
  const even = state.way === "from" ? ` Spread evenly: 1/${n}, ${formatShare(1 / n)} each.` : "";
  return `${place}: ${nameToken(looks, token)} ${verb} ${top.join("; ")}.${even}${clamp}`;
}

// What is lost without the head: a pattern alone explains nothing.
function tellAblation(run, layer, head) {
  const caution = "A pattern shows where a head reads from, not that the answer rests on it.";
  const base = lookUpValue(run, "performance", "accuracy", {}, state.step);
  const cut = lookUpValue(
    run,
    "head_ablation",
    "accuracy",
    { ablation: "zero", layer, head },
    state.step,
  );
  if (!base || !cut) {
    const command = `toyvit measure ${run.path} --analyses head_ablation`;
    return `${caution} What is lost without this head is not measured: ${command}`;
  }
  const whole = `At step ${formatStep(cut.step)} the ${run.score} is ${base.value.toFixed(3)}`;
  const named = `${callHead(layer, head)} (its output set to zero)`;
  const without = `${cut.value.toFixed(3)} without ${named}`;
  return `${caution} ${whole}, and ${without}.`;
}

function makeMatrix(looks, name, onQuery) {
  const { tokens } = looks;
  const canvas = make("canvas", {
    class: "matrix",
    role: "img",
    "aria-label": `${name}, query down, key across`,
  });
  canvas.width = tokens;
  canvas.height = tokens;
  const marker = make("span", { class: "marker" });
  const element = make("div", { class: "matrix-box" }, canvas, marker);
  element.style.width = `${SIDE_OF_MATRIX}px`;
  const context = canvas.getContext("2d");
  const image = context.createImageData(tokens, tokens);
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    const query = Math.floor(((event.clientY - box.top) * tokens) / box.height);
    const key = Math.floor(((event.clientX - box.left) * tokens) / box.width);
    onQuery(Math.max(0, Math.min(tokens - 1, state.way === "from" ? query : key)));
  });

  function draw(shade, token) {
    for (let query = 0; query < tokens; query++) {
      for (let key = 0; key < tokens; key++)
        image.data.set(shade(query, key), 4 * (query * tokens + key));
    }
    context.putImageData(image, 0, 0);
    const at = `${(100 * token) / tokens}%`;
    const thick = `${100 / tokens}%`;
    const isRow = state.way === "from";
    Object.assign(marker.style, {
      left: isRow ? "0" : at,
      top: isRow ? at : "0",
      width: isRow ? "100%" : thick,
      height: isRow ? thick : "100%",
    });
  }
  return { element, draw };
}

// Every head's attention from (or to) the token, one small map a head.
function makeMultiples(looks) {
  const [rows, columns] = looks.grid;
  const n = looks.prefix.length;
  const above = Math.ceil(n / columns); // rows of the tokens before the patches
  const canvases = [];
  const lines = [];
  for (let layer = 0; layer < looks.layers; layer++) {
    const row = make(
      "div",
      { class: "multiples-row" },
      make("span", { class: "header" }, `layer ${layer}`),
    );
    for (let head = 0; head < looks.heads; head++) {
      const canvas = make("canvas", { class: "multiple", "aria-hidden": "true" });
      canvas.width = columns;
      canvas.height = above + rows;
      canvas.style.aspectRatio = `${canvas.width} / ${canvas.height}`;
      const button = make(
        "button",
        {
          type: "button",
          "aria-label": callHead(layer, head),
          onclick: () => change({ layer, head }),
        },
        canvas,
      );
      canvases.push({ canvas, context: canvas.getContext("2d"), button, layer, head });
      row.append(button);
    }
    lines.push(row);
  }

  function draw(at, picture, token) {
    for (const { canvas, context, button, layer, head } of canvases) {
      const opened = openHead(looks, at, picture, layer, head);
      const image = context.createImageData(canvas.width, canvas.height);
      for (let other = 0; other < looks.tokens; other++) {
        const place = other < n ? other : other - n + above * columns;
        image.data.set(shadeShare(opened.share(...pickPair(state.way, token, other))), 4 * place);
      }
      context.putImageData(image, 0, 0);
      button.setAttribute("aria-pressed", layer === state.layer && head === state.head);
    }
  }
  return { element: make("div", { class: "multiples" }, lines), draw };
}

function makeAttentionControls(looks) {
  const layers = Array.from({ length: looks.layers }, (_, layer) => [layer, `layer ${layer}`]);
  const heads = Array.from({ length: looks.heads }, (_, head) => [head, `head ${head}`]);
  const layer = makeSelect("layer", layers, state.layer, (value) =>
    change({ layer: Number(value) }),
  );
  const head = makeSelect("head", heads, state.head, (value) => change({ head: Number(value) }));
  const way = makeSelect(
    "show",
    [
      ["from", "where the token looks"],
      ["to", "who looks at the token"],
    ],
    state.way,
    (value) => change({ way: value }),
  );
  const update = () => {
    layer.select.value = String(state.layer);
    head.select.value = String(state.head);
    way.select.value = state.way;
  };
  return { element: make("div", { class: "controls" }, layer.box, head.box, way.box), update };
}
