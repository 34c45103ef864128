// What lines, shades and strips mean: the list below a chart or a map.

function fillLegend(legend, panel, plot, curves, pointing) {
  const items = curves.flatMap((curve, place) => {
    const name = nameCurve(curve);
    if (!name || curve.isContext) return [];
    const inner = [makeSwatch(curve), name];
    const item = pointing.isUsed ? [makeChoice(inner, plot, place, pointing)] : inner;
    return [make("li", {}, ...item)];
  });
  items.push(...listLevelKeys(panel.levels || []), ...listMarkKeys(panel.marks || []));
  const grey = curves.filter((curve) => curve.isContext).length;
  if (grey) items.push(make("li", {}, `${grey} more in grey: point at one`));
  for (const span of panel.spans || []) {
    if (span.label)
      items.push(
        make(
          "li",
          {},
          makeSwatch({ colour: span.colour, style: "solid", isSpan: true }),
          span.label,
        ),
      );
  }
  legend.replaceChildren(...items);
  legend.hidden = !items.length;
}

// Lines to compare with, one item a dash: names and values, from the highest downward.
function listLevelKeys(levels) {
  const named = levels.filter((level) => level.name);
  named.sort((one, other) => other.value - one.value);
  return [...new Set(named.map((level) => level.style))].map((style) => {
    const alike = named.filter((level) => level.style === style);
    const texts = alike.map(({ name, value }) => `${name} ${Number(value.toPrecision(3))}`);
    const order = alike.length > 1 ? "from the top: " : "";
    return make("li", {}, makeSwatch({ colour: "grey", style }), order + texts.join(", "));
  });
}

// Upright lines: what happened there.
function listMarkKeys(marks) {
  const named = marks.filter((mark) => mark.label);
  return named.map((mark) => make("li", {}, makeSwatch(mark), mark.label));
}

// A name in the legend: pointed at it shows its line alone, pressed it keeps it so.
function makeChoice(inner, plot, place, pointing) {
  const press = () => {
    if (!pointing.chosen.delete(place)) pointing.chosen.add(place);
    button.setAttribute("aria-pressed", String(pointing.chosen.has(place)));
    drawLinesAgain(plot, pointing);
  };
  const enter = () => pointAt(plot, pointing, place);
  const leave = () => pointAt(plot, pointing, -1);
  const button = make(
    "button",
    {
      type: "button",
      class: "line",
      "aria-pressed": "false",
      onclick: press,
      onfocus: enter,
      onblur: leave,
      onmouseenter: enter,
      onmouseleave: leave,
    },
    ...inner,
  );
  return button;
}

function makeSwatch(curve) {
  const { canvas, context } = makeCanvas(24, 10, { class: "swatch", "aria-hidden": "true" });
  context.strokeStyle = nameColour(curve.colour);
  const ground = !curve.isStrip && PALETTE[curve.colour]; // shades are the same on dark
  context.fillStyle = ground || nameColour(curve.colour);
  if (curve.isSpan || curve.isStrip) {
    context.globalAlpha = curve.isSpan ? 0.4 : 1;
    context.fillRect(0, 0, 24, 10);
  } else if (curve.style === "none") {
    context.arc(12, 5, 3, 0, 7);
    context.fill();
  } else {
    context.lineWidth = 2;
    context.setLineDash(DASH_STYLES[curve.style]);
    context.beginPath();
    context.moveTo(0, 5);
    context.lineTo(24, 5);
    context.stroke();
  }
  return canvas;
}
