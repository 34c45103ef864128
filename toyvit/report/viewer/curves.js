// Any measured curve, with its chance level and baselines as lines.

const MOST_LINES = 24;

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
        : lines.map((line, at) =>
            buildCurve(run, line, {
              label: namePlace(line.axes) || name,
              colour: CYCLE[at % CYCLE.length],
              style: pickDash(at),
            }),
          );
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
    const how = "Drag to zoom, double click to see all.";
    about.textContent = `${more}${computes}${nothing}${ignored}${how}`;
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

// Whether runs are seeds of one setting, so that their median and range mean something.
function isSetting(runs) {
  return runs.length > 1 && runs.every((run) => run.setting === runs[0].setting);
}

function pickDash(place) {
  return ["solid", "dashed", "dotted", "dashdot"][Math.floor(place / CYCLE.length) % 4];
}

function fillFilters(host, group, view, draw) {
  const selects = group.axes.map((axis, at) => {
    const values = [...new Set(group.places.map((place) => String(place[at])))];
    const options = [["", "all"], ...values.map((value) => [value, value])];
    return makeSelect(axis.replaceAll("_", " "), options, view.filters[axis] ?? "", (value) => {
      if (value === "") delete view.filters[axis];
      else view.filters[axis] = value;
      draw();
    }).box;
  });
  host.replaceChildren(...selects);
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

// A colour a run and a dash a place; or, of all runs, the median and the range.
function compareRuns(page, lines, analysis, name, split, isBand) {
  return lines.flatMap((line, at) => {
    const curves = page.runs.flatMap((run, place) => {
      const row = findRow(run, analysis, name, line.axes, split);
      const label = [run.name, namePlace(line.axes)].filter(Boolean).join(": ");
      return row
        ? [
            buildCurve(run, row, {
              label,
              colour: CYCLE[place % CYCLE.length],
              style: pickDash(at * CYCLE.length),
            }),
          ]
        : [];
    });
    return isBand && curves.length > 1
      ? [spanCurves(curves, namePlace(line.axes) || name, CYCLE[at % CYCLE.length])]
      : curves;
  });
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
