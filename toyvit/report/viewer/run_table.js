// The table of runs: any columns, filtered and sorted as `toyvit ls` does, some of them compared.
// The server chooses and orders; the address remembers what was asked.

const FIRST_COLUMNS = ["recipe", "status", "step", "steps", "accuracy"];
const MOST_BESIDE = 8; // runs on one page
const token = new URLSearchParams(location.search).get("token") || "";
const view = {
  columns: [...FIRST_COLUMNS],
  where: [],
  status: "",
  sort: "",
  reverse: "0",
  filter: "",
  chosen: new Set(), // names of runs
  isComparing: false,
};

function linkRuns(runs) {
  const parts = [...runs.map((run) => ["run", String(run)]), ["token", token]];
  return `/page?${new URLSearchParams(parts)}`;
}

// What is asked of the server.
function listQuestion() {
  const { status, sort, reverse } = view;
  const parts = Object.entries({ columns: view.columns.join(","), status, sort, reverse });
  return [...parts, ...view.where.map((condition) => ["where", condition])];
}

function rememberView() {
  const parts = [
    ...listQuestion(),
    ["filter", view.filter],
    ...[...view.chosen].map((name) => ["run", name]),
    ["compare", view.isComparing ? "1" : ""],
  ];
  history.replaceState(null, "", `#${new URLSearchParams(parts.filter(([, text]) => text))}`);
}

function recallView() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const columns = parts.get("columns");
  view.columns = columns ? columns.split(",") : [...FIRST_COLUMNS];
  view.where = parts.getAll("where");
  for (const name of ["status", "sort", "filter"]) view[name] = parts.get(name) || "";
  view.reverse = parts.get("reverse") || "0";
  view.chosen = new Set(parts.getAll("run"));
  view.isComparing = parts.get("compare") === "1";
}

// The answer of the server, or what it refuses in words.
async function ask(path, parts) {
  try {
    const headers = { "X-ToyViT-Token": token };
    const response = await fetch(`${path}?${new URLSearchParams(parts)}`, { headers });
    return await response.json();
  } catch {
    return { error: "the server does not answer: is `toyvit view` still running?" };
  }
}

function makeText(label, attributes) {
  const id = `control-${controls++}`;
  const input = make("input", {
    id,
    type: "text",
    autocomplete: "off",
    spellcheck: "false",
    ...attributes,
  });
  const box = make("span", { class: "control" }, make("label", { for: id }, label), input);
  return { box, input };
}

function makePress(words, onclick, attributes = {}) {
  return make("button", { type: "button", onclick, ...attributes }, words);
}

// A line of controls whose button the enter key presses too.
function makeForm(words, controls, onSubmit) {
  const form = make("form", { class: "controls" }, ...controls, make("button", {}, words));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onSubmit();
  });
  return form;
}

function makeTable() {
  const offered = JSON.parse(document.getElementById("data").textContent);
  const names = make(
    "datalist",
    { id: "names" },
    [...offered.own, ...offered.fields, ...offered.measures].map((name) =>
      make("option", { value: name }),
    ),
  );
  const filter = makeText("filter", { type: "search" });
  filter.input.id = "filter";
  filter.box.querySelector("label").htmlFor = "filter";
  filter.input.addEventListener("input", () => {
    view.filter = filter.input.value;
    draw();
  });
  const states = [["", "any"], ...offered.statuses.map((status) => [status, status])];
  const status = makeSelect("status", states, "", (value) => search({ status: value }));
  const column = makeText("column", { list: "names", placeholder: "model.n_layers" });
  const field = makeText("only runs with", { list: "names", placeholder: "model.n_layers" });
  const value = makeText("=", { placeholder: "2, or 1,2" });
  const addColumn = makeForm("add column", [column.box], () => {
    const name = column.input.value.trim();
    if (name && !view.columns.includes(name)) search({ columns: [...view.columns, name] });
    column.input.value = "";
  });
  const addCondition = makeForm("add condition", [field.box, value.box], () => {
    const condition = `${field.input.value.trim()}=${value.input.value.trim()}`;
    if (!view.where.includes(condition)) search({ where: [...view.where, condition] });
    field.input.value = value.input.value = "";
  });
  const compare = makePress("compare", () => {
    view.isComparing = !view.isComparing;
    draw();
  });
  const beside = makePress("side by side", () => location.assign(linkRuns(listChosen())));
  const none = makePress("choose none", () => {
    view.chosen.clear();
    draw();
  });
  const count = make("span", { class: "hint", "aria-live": "polite" });
  const problem = make("p", { class: "missing", role: "alert", hidden: true });
  const conditions = make("ul", { class: "conditions" });
  const heads = make("tr");
  const body = make("tbody");
  const comparison = make("section", { id: "comparison", "aria-label": "comparison" });
  const table = make("table", { class: "types runs" }, make("thead", {}, heads), body);
  document
    .getElementById("page")
    .replaceChildren(
      make(
        "main",
        {},
        make("h1", {}, "Runs"),
        names,
        make("div", { class: "controls" }, filter.box, status.box, compare, beside, none, count),
        make("div", { class: "forms" }, addColumn, addCondition),
        conditions,
        problem,
        make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "runs" }, table),
        comparison,
      ),
    );
  let answer = { rows: [], problems: [], all: 0 };
  let asked = 0;

  // Ask for runs, with these parts of the question changed; what is refused changes nothing.
  async function search(changes = {}) {
    const before = Object.fromEntries(Object.keys(changes).map((name) => [name, view[name]]));
    Object.assign(view, changes);
    const at = ++asked;
    const reply = await ask("/api/runs", listQuestion());
    if (at !== asked) return;
    problem.hidden = !reply.error;
    problem.textContent = reply.error || "";
    if (reply.error) Object.assign(view, before);
    else answer = reply;
    draw();
  }

  function listChosen() {
    return answer.rows.filter((row) => view.chosen.has(row.name)).map((row) => row.run);
  }

  function draw() {
    const focused = document.activeElement.getAttribute("aria-label");
    filter.input.value = view.filter;
    status.select.value = view.status;
    conditions.replaceChildren(...view.where.map((condition) => makeCondition(condition, search)));
    heads.replaceChildren(
      make("th", { scope: "col" }, "choose"),
      makeHead("path", "run", search),
      ...view.columns.map((name) => makeHead(name, name, search)),
    );
    const shown = answer.rows.filter(fitsWords);
    body.replaceChildren(
      ...shown.map((row) => makeRow(row, update)),
      ...answer.problems.map(makeProblem),
    );
    const damaged = answer.problems.length ? `, ${answer.problems.length} damaged` : "";
    focusAgain(table, focused);
    count.textContent = `${shown.length} of ${answer.all} runs${damaged}`;
    update();
  }

  async function update() {
    const n = listChosen().length;
    beside.disabled = n < 2 || n > MOST_BESIDE;
    compare.disabled = n < 2;
    none.disabled = !view.chosen.size;
    compare.setAttribute("aria-pressed", String(view.isComparing));
    rememberView();
    if (!view.isComparing || n < 2) {
      comparison.replaceChildren();
      return;
    }
    const parts = listChosen().map((run) => ["run", String(run)]);
    const reply = await ask("/api/compare", [...parts, ["columns", view.columns.join(",")]]);
    comparison.replaceChildren(...makeComparison(reply));
  }

  window.addEventListener("hashchange", () => {
    recallView();
    search();
  });
  recallView();
  search().then(() => (document.body.dataset.state = "ready"));
}

// What had the focus before the table was drawn anew has it again.
function focusAgain(table, label) {
  const same = (element) => label && element.getAttribute("aria-label") === label;
  const element = [...table.querySelectorAll("button, input")].find(same);
  if (element) element.focus();
}

function fitsWords(row) {
  const text = [row.name, ...row.texts].join(" ").toLowerCase();
  return view.filter
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

// The title of a column: pressed it sorts, upward and then downward; its cross takes it away.
function makeHead(name, title, search) {
  const isSorted = view.sort === name;
  const isDown = view.reverse === "1";
  const arrow = isSorted ? (isDown ? " ▼" : " ▲") : "";
  const sort = makePress(
    title + arrow,
    () => search({ sort: name, reverse: view.sort === name && view.reverse === "0" ? "1" : "0" }),
    { class: "plain", "aria-label": `sort by ${title}` },
  );
  const remove =
    name === "path"
      ? null
      : makePress("×", () => search({ columns: leaveOut(view.columns, name) }), {
          class: "plain cross",
          "aria-label": `remove column ${name}`,
        });
  const order = isSorted ? (isDown ? "descending" : "ascending") : "none";
  return make("th", { scope: "col", "aria-sort": order }, sort, remove);
}

function leaveOut(items, item) {
  return items.filter((other) => other !== item);
}

function makeCondition(condition, search) {
  const remove = makePress("×", () => search({ where: leaveOut(view.where, condition) }), {
    class: "plain cross",
    "aria-label": `remove condition ${condition}`,
  });
  return make("li", {}, condition, remove);
}

function makeRow(row, update) {
  const box = make("input", {
    type: "checkbox",
    "aria-label": `choose ${row.name}`,
    onchange: () => {
      if (box.checked) view.chosen.add(row.name);
      else view.chosen.delete(row.name);
      update();
    },
  });
  box.checked = view.chosen.has(row.name);
  const link = make("a", { href: linkRuns([row.run]) }, row.name);
  const cells = row.texts.map((text) => make("td", {}, text === "none" ? "–" : text));
  return make("tr", {}, make("td", {}, box), make("td", {}, link), ...cells);
}

function makeProblem({ name, problem }) {
  const words = make("td", { colspan: Math.max(1, view.columns.length) }, problem);
  return make("tr", {}, make("td"), make("td", {}, name), words);
}

// Scores, and what differs between the runs that were chosen.
function makeComparison(reply) {
  const title = make("h2", {}, "Compared");
  if (reply.error) return [title, make("p", { class: "missing", role: "alert" }, reply.error)];
  const heads = ["", ...reply.names].map((name) => make("th", { scope: "col" }, name));
  const rows = reply.rows.map(([what, ...values]) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, what),
      values.map((value) => make("td", {}, value === "none" ? "–" : value)),
    ),
  );
  const lead = "Scores and the columns shown; of the configuration, the fields that differ.";
  return [
    title,
    make("p", { class: "hint" }, lead),
    make(
      "div",
      { class: "scroll", tabindex: "0", role: "group", "aria-label": "compared runs" },
      make(
        "table",
        { class: "types runs" },
        make("thead", {}, make("tr", {}, heads)),
        make("tbody", {}, rows),
      ),
    ),
  ];
}

makeTable();
