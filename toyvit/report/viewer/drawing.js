// A pad to draw on, or to put a picture's file on; it gives pixels of the model's size, 0 to 1.

const PAD = 224; // pixels of the pad
const PEN = 1 / 11; // of its side
const SMALL = 20; // rows from which on a digit has a margin, as MNIST's have: 20 of 28 pixels

function makePad([rows, columns], onDraw) {
  const canvas = make("canvas", {
    class: "pad",
    role: "img",
    "aria-label": "draw here, white on black",
  });
  canvas.width = PAD;
  canvas.height = Math.round((PAD * rows) / columns);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const pad = { isFitted: true, last: null };
  const tell = () => onDraw(readPad(canvas, rows, columns, pad.isFitted));

  function clear() {
    context.fillStyle = "#000000";
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  function placeOf(event) {
    const box = canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) * canvas.width) / box.width,
      ((event.clientY - box.top) * canvas.height) / box.height,
    ];
  }
  function drawTo(event) {
    const place = placeOf(event);
    context.strokeStyle = "#ffffff";
    context.lineWidth = PAD * PEN;
    context.lineCap = "round";
    context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...(pad.last || place));
    context.lineTo(...place);
    context.stroke();
    pad.last = place;
    tell();
  }
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (!pad.isFitted) clear();
    pad.isFitted = true;
    pad.last = null;
    drawTo(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (pad.last) drawTo(event);
  });
  for (const name of ["pointerup", "pointercancel"])
    canvas.addEventListener(name, () => (pad.last = null));

  const file = make("input", { type: "file", accept: "image/*", id: "picture-file" });
  file.addEventListener("change", async () => {
    if (!file.files.length) return;
    const picture = await createImageBitmap(file.files[0]).catch(() => null);
    if (!picture) return;
    clear();
    context.imageSmoothingEnabled = picture.width > canvas.width;
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    whiteOnBlack(context, canvas);
    pad.isFitted = false;
    tell();
  });
  const wipe = make(
    "button",
    {
      type: "button",
      onclick: () => {
        clear();
        pad.isFitted = true;
        file.value = "";
        tell();
      },
    },
    "clear",
  );
  clear();
  const words = make(
    "p",
    { class: "hint" },
    "Draw a digit, white on black, or choose a picture's file. It is fitted to what the model " +
      "sees, shown below; a file is read in the browser and never sent as such.",
  );
  const controls = make(
    "div",
    { class: "controls" },
    wipe,
    make("label", { for: "picture-file" }, "or a file"),
    file,
  );
  return {
    element: make("div", { class: "drawing" }, canvas, make("div", {}, words, controls)),
    read: () => readPad(canvas, rows, columns, pad.isFitted),
  };
}

// A picture of dark strokes on a light ground is turned over.
function whiteOnBlack(context, canvas) {
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = image;
  const grey = (at) =>
    (0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]) * (data[at + 3] / 255);
  const corners = [0, canvas.width - 1, data.length / 4 - canvas.width, data.length / 4 - 1].map(
    (pixel) => grey(4 * pixel),
  );
  const isLight = corners.reduce((sum, value) => sum + value, 0) > 2 * 255;
  for (let at = 0; at < data.length; at += 4) {
    const value = isLight ? 255 - grey(at) : grey(at);
    data.set([value, value, value, 255], at);
  }
  context.putImageData(image, 0, 0);
}

// Pixels row by row. A drawing is brought to the size and the middle that collected digits have.
function readPad(canvas, rows, columns, isFitted) {
  const small = make("canvas");
  small.width = columns;
  small.height = rows;
  const context = small.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillRect(0, 0, columns, rows);
  const ink = isFitted ? measureInk(canvas) : null;
  if (ink) {
    const goal = rows >= SMALL ? 20 / 28 : 1;
    const scale = goal * Math.min(columns / ink.width, rows / ink.height);
    const [x, y] =
      rows >= SMALL
        ? [ink.middleX, ink.middleY]
        : [ink.left + ink.width / 2, ink.top + ink.height / 2];
    context.drawImage(
      canvas,
      columns / 2 - x * scale,
      rows / 2 - y * scale,
      canvas.width * scale,
      canvas.height * scale,
    );
  } else {
    context.drawImage(canvas, 0, 0, columns, rows);
  }
  const { data } = context.getImageData(0, 0, columns, rows);
  return Array.from({ length: rows * columns }, (_, pixel) => data[4 * pixel] / 255);
}

// Where the strokes are, and the middle of their mass; nothing on an empty pad.
function measureInk(canvas) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const ink = { left: Infinity, right: -1, top: Infinity, bottom: -1 };
  const sums = [0, 0, 0];
  for (let y = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      const mass = data[4 * (y * canvas.width + x)];
      if (mass < 30) continue;
      ink.left = Math.min(ink.left, x);
      ink.right = Math.max(ink.right, x);
      ink.top = Math.min(ink.top, y);
      ink.bottom = y;
      sums[0] += mass;
      sums[1] += mass * x;
      sums[2] += mass * y;
    }
  }
  if (!sums[0]) return null;
  return {
    ...ink,
    width: ink.right - ink.left + 1,
    height: ink.bottom - ink.top + 1,
    middleX: sums[1] / sums[0] + 0.5,
    middleY: sums[2] / sums[0] + 0.5,
  };
}
