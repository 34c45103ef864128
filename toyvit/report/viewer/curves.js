// Any measured curve, with its chance level and baselines as lines.

const MOST_LINES = 160;
const MOST_DASHES = 4; // lines of several runs that are told apart by their dashes

// Rows of the matrix of curves: those of a quantity whose axes lie where `where` says.
function findRows(run, analysis, quantity, where, split = "test") {
  if (!run.curves) return [];
  const group = run.curves.groups.find(
    (one) => one.analysis === analysis && one.quantity === quantity && one.split === split,
  );
  if (!group) return [];
  return group.places.flatMap((place, at) => {
    const axes = Object.fromEntries(group.axes.map((name, axis) => [name, place[axis]]));
    const fits = Object.entries(where).every(
      ([name, value]) => String(axes[name]) === String(value),
    );
    return fits ? [{ group, axes, row: group.first + at }] : [];
  });
}

function findRow(run, analysis, quantity, where, split = "test") {
  return findRows(run, analysis, quantity, where, split)[0] || null;
}

// The measured value at a step, or nothing where it was not measured there.
function lookUpValue(run, analysis, quantity, where, step) {
  const found = findRow(run, analysis, quantity, where);
  if (!found) return null;
  const { steps, matrix } = run.curves;
  const at = findNearest(steps, step);
  const value = matrix[found.row * steps.length + at];
  return Number.isNaN(value) ? null : { value, step: steps[at] };
}

function readRow(run, row) {
  const { steps, matrix } = run.curves;
  const points = { x: [], y: [] };
  steps.forEach((step, at) => {
    const value = matrix[row * steps.length + at];
    if (Number.isNaN(value)) return;
    points.x.push(step);
    points.y.push(value);
  });
  return points;
}

function buildCurve(run, found, look) {
  return {
    ...readRow(run, found.row),
    label: "",
    end_label: "",
    style: "solid",
    marker: "",
    width: 2,
    opacity: 1,
    band: null,
    ...look,
  };
}

function namePlace(axes) {
  const parts = { ...axes };
  const words = [];
  if ("layer" in parts && "head" in parts && parts.head !== null) {
    words.push(callHead(parts.layer, parts.head));
    delete parts.layer;
    delete parts.head;
  }
  for (const [name, value] of Object.entries(parts))
    if (value !== null) words.push(`${name.replaceAll("_", " ")} ${value}`);
  return words.join(", ");
}

// The same for the end of a line: L1 H3.
function abbreviatePlace(axes) {
  const letters = { layer: "L", head: "H" };
  const parts = Object.entries(axes).filter(([, value]) => value !== null);
  return parts.map(([name, value]) => `${letters[name] || ""}${value}`).join(" ");
}

function listQuantities(run) {
  return (run.curves ? run.curves.groups : [])
    .filter((group) => !group.quantity.endsWith("_chance"))
    .map((group) => {
      const split = group.split === "test" ? "" : `, ${group.split} pictures`;
      return [
        [group.analysis, group.quantity, group.split].join("|"),
        `${group.analysis}: ${group.quantity.replaceAll("_", " ")}${split}`,
      ];
    });
}

function makeCurves(page) {
  const section = make(
    "section",
    { id: "curves", "aria-labelledby": "curves-title" },
    make("h2", { id: "curves-title" }, "Curves"),
  );
  const run = page.runs[0];
  const quantities = listQuantities(run);
  if (!quantities.length) {
    section.append(
      make(
        "p",
        { class: "missing" },
        "No curve is measured: ",
        makeCommand(`toyvit measure ${run.path}`),
      ),
    );
    return { element: section, update() {} };
  }
  const view = {
    steps: "linear",
    values: "linear",
    filters: {},
    isBand: isSetting(page.runs) && page.runs.length > 3,
  };
  const holder = make("div", {});
  const filters = make("span", { class: "filters" });
  const about = make("p", { class: "hint" });
  let chart = null;
  const keys = quantities.map(([key]) => key);
  if (!keys.includes(state.curve))
    state.curve = keys.find((key) => key === "performance|accuracy|test") || keys[0];
  let drawn = null;

  const quantity = makeSelect("measure", quantities, state.curve, (value) =>
    change({ curve: value }),
  );
  const steps = makeSelect(
    "steps",
    [
      ["linear", "linear"],
      ["steps", "logarithmic from 10"],
    ],
    "linear",
    (value) => {
      view.steps = value;
      draw();
    },
  );
  const values = makeSelect(
    "values",
    [
      ["linear", "linear"],
      ["log", "logarithmic"],
    ],
    "linear",
    (value) => {
      view.values = value;
      draw();
    },
  );
  const band = isSetting(page.runs)
    ? makeCheck("median and range of runs", view.isBand, (isOn) => {
        view.isBand = isOn;
        draw();
      })
    : null;
  section.append(
    make("div", { class: "controls" }, quantity.box, filters, steps.box, values.box, band),
    holder,
    about,
  );

  function draw() {
    const [analysis, name, split] = state.curve.split("|");
    drawn = state.curve;
    const rows = findRows(run, analysis, name, view.filters, split);
    const group = run.curves.groups.find(
      (one) => [one.analysis, one.quantity, one.split].join("|") === state.curve,
    );
    fillFilters(filters, group, view, draw);
    const lines = rows.slice(0, MOST_LINES);
    const curves =
      page.runs.length > 1
        ? compareRuns(page, lines, analysis, name, split, view.isBand)
        : drawLines(run, lines, name);
    const chances = listChances(run, analysis, name, view.filters, split);
    const unit = group.unit ? ` (${group.unit})` : "";
    const panel = {
      title: `${analysis}: ${name.replaceAll("_", " ")}`,
      x: {
        label: "training step",
        scale: view.steps,
        low: null,
        high: null,
        ticks: null,
        names: null,
      },
      y: {
        label: `${name.replaceAll("_", " ")}${unit}`,
        scale: view.values,
        low: null,
        high: null,
        ticks: null,
        names: null,
      },
      curves: [...curves, ...chances],
      levels: analysis === "performance" && split === "test" ? listBaselines(run, name) : [],
      spans: listSpans(run),
      marks: listMarks(run),
    };
    if (chart) chart.plot.destroy();
    chart = makeChart(panel, { height: 340, onStep: (step) => change({ step }) });
    holder.replaceChildren(chart.figure);
    const isLog = view.values === "log";
    const hasZero = panel.curves.some((curve) => curve.y.some((value) => value <= 0));
    const ignored = isLog && hasZero ? "Drawn linear: some values are 0 or below. " : "";
    const more =
      rows.length > MOST_LINES
        ? `The first ${MOST_LINES} of ${rows.length} curves: choose fewer above. `
        : "";
    const computes = group.computes ? `${analysis} computes ${group.computes}. ` : "";
    const nothing = group.null ? `Where there is nothing to find: ${group.null}. ` : "";
    const many = curves.some((curve) => curve.isContext)
      ? "In colour: the lines that go farthest from the middle of all. Point at any to see it " +
        "alone, or choose one of the heads above. "
      : "";
    const how = "Drag to zoom, double click to see all.";
    about.textContent = `${more}${computes}${nothing}${ignored}${many}${how}`;
  }
  draw();
  return {
    element: section,
    update() {
      if (!keys.includes(state.curve)) state.curve = drawn; // a link may name any
      if (drawn !== state.curve) {
        quantity.select.value = state.curve;
        view.filters = {};
        draw();
      } else chart.update();
    },
  };
}

// A line a place; where there are many, the outstanding ones in colour.
function drawLines(run, lines, name) {
  const curves = lines.map(({ axes, row, group }) =>
    buildCurve(
      run,
      { row, group },
      {
        label: namePlace(axes) || name,
        end_label: lines.length > 1 ? abbreviatePlace(axes) : "",
        name_alone: abbreviatePlace(axes),
      },
    ),
  );
  return dressCurves(curves, pickOutstanding(curves));
}

// Whether runs are seeds of one setting, so that their median and range mean something.
function isSetting(runs) {
  return runs.length > 1 && runs.every((run) => run.setting === runs[0].setting);
}

function pickDash(place) {
  return ["solid", "dashed", "dotted", "dashdot"][place % 4];
}

// A choice for each axis of a quantity; one of layer and head together, where it has both.
function fillFilters(host, group, view, draw) {
  const axes = group.axes.map((axis, at) => [axis, group.places.map((place) => place[at])]);
  const isOfHeads = group.axes.includes("layer") && group.axes.includes("head");
  const rest = axes.filter(([axis]) => !(isOfHeads && ["layer", "head"].includes(axis)));
  const selects = rest.map(([axis, values]) => {
    const texts = [...new Set(values.map(String))];
    const options = texts.map((text) => [text, text === "null" ? "none" : text]);
    return makeFilter(axis.replaceAll("_", " "), options, view.filters[axis] ?? "", (value) => {
      setFilter(view.filters, axis, value);
      draw();
    });
  });
  if (isOfHeads) selects.unshift(makeHeadFilter(new Map(axes), view, draw));
  host.replaceChildren(...selects);
}

function makeFilter(label, options, value, onChange) {
  return makeSelect(label, [["", "all"], ...options], value, onChange).box;
}

function setFilter(filters, axis, value) {
  if (value === "" || value === undefined) delete filters[axis];
  else filters[axis] = value;
}

// All heads, those of a layer, or one.
function makeHeadFilter(axes, view, draw) {
  const heads = axes.get("head");
  const places = axes.get("layer").map((layer, at) => `${layer} ${heads[at]}`);
  const options = [...new Set(places)].map((place) => {
    const [layer, head] = place.split(" ");
    return [place, head === "null" ? `layer ${layer}, no one head` : callHead(layer, head)];
  });
  const layers = [...new Set(axes.get("layer").map(String))].filter((layer) => layer !== "null");
  const whole = layers.map((layer) => [layer, `all of layer ${layer}`]);
  const { layer, head } = view.filters;
  const chosen = [layer, head].filter((part) => part !== undefined).join(" ");
  return makeFilter("heads", [...whole, ...options], chosen, (value) => {
    const [layer, head] = value.split(" ");
    setFilter(view.filters, "layer", layer);
    setFilter(view.filters, "head", head);
    draw();
  });
}

// What the mask alone gives a score: measured beside it, drawn grey.
function listChances(run, analysis, name, where, split) {
  const known = findRows(run, analysis, `${name}_chance`, {}, split);
  const rows = known.filter((row) =>
    Object.entries(where).every(
      ([axis, value]) => !(axis in row.axes) || String(row.axes[axis]) === value,
    ),
  );
  const seen = new Set();
  return rows.flatMap((row) => {
    const curve = buildCurve(run, row, {
      label: seen.size ? "" : "chance: what evenly spread attention gives",
      colour: "grey",
      style: "dotted",
      width: 1.5,
    });
    const key = curve.y.slice(0, 3).join();
    if (seen.has(key)) return [];
    seen.add(key);
    return [curve];
  });
}

// A colour a run and a dash a place, of many places the outstanding ones; or, of all runs, the
// median and the range.
function compareRuns(page, lines, analysis, name, split, isBand) {
  const most = isBand ? MOST_COLOURED : MOST_DASHES;
  const own = lines.map((line) => buildCurve(page.runs[0], line, {}));
  const isNamed = lines.length > 1;
  const outstanding = pickOutstanding(own, most);
  const curves = lines.flatMap((line, at) => {
    const rank = outstanding.indexOf(at);
    const isContext = rank < 0;
    const place = namePlace(line.axes);
    const curves = page.runs.flatMap((run, place) => {
      const row = findRow(run, analysis, name, line.axes, split);
      const label = [run.name, namePlace(line.axes)].filter(Boolean).join(": ");
      const look = { colour: CYCLE[place % CYCLE.length], style: pickDash(isContext ? 0 : rank) };
      const short = abbreviatePlace(line.axes);
      const names = { label, end_label: isNamed && !isContext ? short : "", name_alone: short };
      return row ? [buildCurve(run, row, { ...names, ...look, isContext })] : [];
    });
    if (!isBand || curves.length < 2) return curves;
    const colour = CYCLE[(isContext ? at : rank) % CYCLE.length];
    const { end_label, name_alone } = curves[0];
    return [{ ...spanCurves(curves, place || name, colour), isContext, end_label, name_alone }];
  });
  return curves
    .map((curve) => (curve.isContext ? { ...curve, width: 1, band: null } : curve))
    .sort((one, other) => other.isContext - one.isContext);
}

function spanCurves(curves, label, colour) {
  const steps = curves[0].x.filter((step) => curves.every((curve) => curve.x.includes(step)));
  const columns = steps.map((step) =>
    curves.map((curve) => curve.y[curve.x.indexOf(step)]).sort((a, b) => a - b),
  );
  const middle = (values) => (values[(values.length - 1) >> 1] + values[values.length >> 1]) / 2;
  const band = [
    columns.map((values) => values[0]),
    columns.map((values) => values[values.length - 1]),
  ];
  return {
    x: steps,
    y: columns.map(middle),
    label: `${label}: median of ${curves.length} runs; band: least to most`,
    end_label: "",
    colour,
    style: "solid",
    marker: "",
    width: 2,
    opacity: 1,
    band,
  };
}
