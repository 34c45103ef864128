// The table of runs: filtered, sorted, two of them chosen to be seen side by side.

const COLUMNS = [
  ["name", "run"],
  ["recipe", "recipe"],
  ["status", "status"],
  ["lastStep", "last step"],
  ["accuracy", "last accuracy"],
];

function linkRuns(runs) {
  const token = new URLSearchParams(location.search).get("token") || "";
  const parts = [...runs.map((run) => ["run", String(run)]), ["token", token]];
  return `/page?${new URLSearchParams(parts)}`;
}

function makeTable() {
  const { rows } = JSON.parse(document.getElementById("data").textContent);
  const view = { filter: "", sort: "name", sign: 1, chosen: new Set() };
  const filter = make("input", {
    type: "search",
    id: "filter",
    oninput: () => {
      view.filter = filter.value;
      draw();
    },
  });
  const compare = make(
    "button",
    { type: "button", onclick: () => location.assign(linkRuns([...view.chosen])) },
    "side by side",
  );
  const count = make("span", { class: "hint", "aria-live": "polite" });
  const body = make("tbody");
  const heads = COLUMNS.map(([key, title]) => {
    const button = make(
      "button",
      {
        type: "button",
        class: "plain",
        onclick: () => {
          view.sign = view.sort === key ? -view.sign : 1;
          view.sort = key;
          draw();
        },
      },
      title,
    );
    return make("th", { scope: "col" }, button);
  });
  const table = make(
    "table",
    { class: "types" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "compare"), heads)),
    body,
  );
  const bar = make(
    "div",
    { class: "controls" },
    make("label", { for: "filter" }, "filter"),
    filter,
    compare,
    count,
  );
  document
    .getElementById("page")
    .replaceChildren(
      make("main", {}, make("h1", {}, "Runs"), bar, make("div", { class: "scroll" }, table)),
    );

  function fits(row) {
    const text = COLUMNS.map(([key]) => String(row[key] ?? ""))
      .join(" ")
      .toLowerCase();
    return view.filter
      .toLowerCase()
      .split(/\s+/)
      .every((word) => text.includes(word));
  }
  function order(one, other) {
    const [a, b] = [one[view.sort] ?? "", other[view.sort] ?? ""];
    return (
      view.sign *
      (typeof a === "number" && typeof b === "number"
        ? a - b
        : String(a).localeCompare(String(b), "en", { numeric: true }))
    );
  }
  function draw() {
    const shown = rows.filter(fits).sort(order);
    body.replaceChildren(...shown.map((row) => makeRow(row, view, update)));
    count.textContent = `${shown.length} of ${rows.length} runs`;
    update();
  }
  function update() {
    compare.disabled = view.chosen.size !== 2;
  }
  draw();
  document.body.dataset.state = "ready";
}

function makeRow(row, view, update) {
  if (row.problem)
    return make(
      "tr",
      {},
      make("td"),
      make("td", {}, row.name),
      make("td", { colspan: 4 }, row.problem),
    );
  const box = make("input", {
    type: "checkbox",
    "aria-label": `compare ${row.name}`,
    onchange: () => {
      if (box.checked) view.chosen.add(row.run);
      else view.chosen.delete(row.run);
      update();
    },
  });
  box.checked = view.chosen.has(row.run);
  const link = make("a", { href: linkRuns([row.run]) }, row.name);
  const step = `${formatStep(row.lastStep)} of ${formatStep(row.steps)}`;
  const accuracy = row.accuracy === null ? "–" : row.accuracy.toFixed(3);
  return make(
    "tr",
    {},
    make("td", {}, box),
    make("td", {}, link),
    make("td", {}, row.recipe),
    make("td", {}, row.status),
    make("td", {}, step),
    make("td", {}, accuracy),
  );
}

makeTable();
