// A picture whose patches, and the tokens before them, can be pointed at: the ground of both
// viewers.

const SIDE = 340; // CSS pixels of a picture
const STRIP = 30; // of the cells of CLS and registers above it

function nameToken(looks, token) {
  if (token < looks.prefix.length) return looks.prefix[token];
  const [, columns] = looks.grid;
  const patch = token - looks.prefix.length;
  return `patch in row ${Math.floor(patch / columns) + 1}, column ${(patch % columns) + 1}`;
}

// The picture as a canvas of its own pixels.
function paintPicture(looks, picture) {
  const { values, shape } = looks.pictures;
  const [, rows, columns, colours] = shape;
  const canvas = make("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  const start = picture * rows * columns * colours;
  for (let pixel = 0; pixel < rows * columns; pixel++) {
    for (let colour = 0; colour < 3; colour++) {
      image.data[4 * pixel + colour] =
        values[start + pixel * colours + (colours === 3 ? colour : 0)];
    }
    image.data[4 * pixel + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function makeTokenGrid(looks, label, { onPoint = null, onPick = null, side = SIDE } = {}) {
  const [rows, columns] = looks.grid;
  const strip = looks.prefix.length ? STRIP : 0;
  const height = strip + (side * rows) / columns;
  const canvas = make("canvas", {
    tabindex: 0,
    role: "application",
    "aria-label": `${label}. Arrow keys move from patch to patch.`,
  });
  const context = sizeCanvas(canvas, side, height);
  const cell = side / columns;
  const prefixWidth = strip ? Math.min(110, side / looks.prefix.length) : 0;

  function placeOf(token) {
    if (token < looks.prefix.length) return [token * prefixWidth, 0, prefixWidth - 4, strip - 4];
    const patch = token - looks.prefix.length;
    return [(patch % columns) * cell, strip + Math.floor(patch / columns) * cell, cell, cell];
  }
  function tokenAt(event) {
    const box = canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) * side) / box.width;
    const y = ((event.clientY - box.top) * height) / box.height;
    if (x < 0 || y < 0) return null; // a finger may leave what it touched
    if (y < strip) {
      const token = Math.floor(x / prefixWidth);
      return token < looks.prefix.length ? token : null;
    }
    const column = Math.floor(x / cell);
    const row = Math.floor((y - strip) / cell);
    const inside = column >= 0 && column < columns && row >= 0 && row < rows;
    return inside ? looks.prefix.length + row * columns + column : null;
  }
  if (onPoint) {
    canvas.addEventListener("pointermove", (event) => {
      const token = tokenAt(event);
      if (token !== null) onPoint(token);
    });
    canvas.addEventListener("pointerleave", () => onPoint(null));
  }
  if (onPick) {
    canvas.addEventListener("click", (event) => {
      const token = tokenAt(event);
      if (token !== null) onPick(token);
    });
    canvas.addEventListener("keydown", (event) => {
      const token = moveToken(looks, Math.min(state.token, looks.tokens - 1), event.key);
      if (token === null) return;
      event.preventDefault();
      onPick(token);
    });
  }

  // `fill(token)` is red, green, blue and opacity, or nothing; `write(token)` words in a patch.
  function draw({
    picture,
    fill,
    write = null,
    draw = null,
    selected = null,
    opacity = 1,
    frames = [],
  }) {
    context.clearRect(0, 0, side, height);
    context.imageSmoothingEnabled = false;
    context.globalAlpha = opacity;
    context.drawImage(paintPicture(looks, picture), 0, strip, side, height - strip);
    context.globalAlpha = 1;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let token = 0; token < looks.tokens; token++) {
      const [x, y, width, tall] = placeOf(token);
      const colour = fill(token);
      if (token < looks.prefix.length) {
        context.strokeStyle = nameColour("grey");
        context.lineWidth = 1;
        context.strokeRect(x + 1, y + 1, width - 2, tall - 2);
      }
      if (colour) {
        context.fillStyle = cssColour(colour);
        context.fillRect(x, y, width, tall);
      }
      if (token < looks.prefix.length && !write) {
        context.fillStyle = nameColour("black");
        context.font = "12px system-ui, sans-serif";
        context.fillText(looks.prefix[token], x + width / 2, y + tall / 2);
      }
      if (draw) draw(context, token, placeOf(token));
      if (write) writeToken(context, write(token), x, y, width, tall);
    }
    for (const [token, colour] of frames) frameToken(token, colour, 3);
    if (selected !== null) frameToken(selected, PALETTE.orange, 3);
  }
  function frameToken(token, colour, weight) {
    const [x, y, width, tall] = placeOf(token);
    context.strokeStyle = colour;
    context.lineWidth = weight;
    context.strokeRect(x + weight / 2, y + weight / 2, width - weight, tall - weight);
  }
  return { canvas, draw };
}

function writeToken(context, word, x, y, width, tall) {
  if (!word) return;
  const [text, colour, size] = word;
  context.font = `${Math.max(7, Math.min(size, tall * 0.7))}px system-ui, sans-serif`;
  context.lineWidth = 3;
  context.strokeStyle = isDark() ? "#161616" : "#ffffff";
  context.strokeText(text, x + width / 2, y + tall / 2, width);
  context.fillStyle = colour;
  context.fillText(text, x + width / 2, y + tall / 2, width);
}

function moveToken(looks, token, key) {
  const [rows, columns] = looks.grid;
  const n = looks.prefix.length;
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  if (!(key in moves)) return null;
  if (token < n) {
    if (key === "ArrowDown") return n;
    const next = token + (key === "ArrowRight" ? 1 : key === "ArrowLeft" ? -1 : 0);
    return Math.max(0, Math.min(n, next));
  }
  const next = token + moves[key];
  if (next < n) return n && key === "ArrowUp" ? 0 : token;
  return next < n + rows * columns ? next : token;
}

// Small pictures to choose from.
function makePictureChoice(looks) {
  const [n, rows, columns] = looks.pictures.shape;
  const buttons = Array.from({ length: n }, (_, picture) => {
    const { canvas, context } = makeCanvas(52, (52 * rows) / columns, { "aria-hidden": "true" });
    context.imageSmoothingEnabled = false;
    context.drawImage(paintPicture(looks, picture), 0, 0, 52, (52 * rows) / columns);
    return make(
      "button",
      {
        type: "button",
        "aria-label": `test picture ${picture + 1}`,
        onclick: () => change({ picture }),
      },
      canvas,
    );
  });
  const update = () =>
    buttons.forEach((button, picture) =>
      button.setAttribute("aria-pressed", picture === state.picture),
    );
  return {
    element: make(
      "div",
      { class: "pictures", role: "group", "aria-label": "test pictures" },
      buttons,
    ),
    update,
  };
}

// What a class is called, with its emoji where it has one that is more than the name on a keycap.
function nameClass(answers, label) {
  const [emoji, name] = [answers.emoji[label], answers.names[label]];
  return emoji && !emoji.startsWith(name) ? `${emoji} ${name}` : name;
}

// What the model answers to the picture, in words.
function tellAnswer(looks, at, picture) {
  const { answers, final } = looks;
  if (!answers || !final) return "";
  const n = answers.names.length;
  const width = final.shape[2];
  const right = answers.right[picture];
  if (width !== n || right.length !== 1) return "";
  const start = (at * looks.pictures.shape[0] + picture) * n;
  const chances = Array.from(final.values.subarray(start, start + n));
  const best = chances.indexOf(Math.max(...chances));
  const verdict =
    right[0] === best
      ? "that is right"
      : `the right answer is ${nameClass(answers, right[0])} (${formatShare(chances[right[0]])})`;
  const answer = `${nameClass(answers, best)} with ${formatShare(chances[best])}`;
  return `The model answers ${answer}; ${verdict}.`;
}
