// What kind of head each head is at the step shown: a type's score, the largest of its nulls.

const TOP_TYPES = 3;

function makeHeadTypes(run) {
  const types = run.headTypes;
  const body = make("tbody");
  const caption = make("caption");
  const head = make(
    "thead",
    {},
    make(
      "tr",
      {},
      ["head", "is called", "highest scores above their nulls (the largest null)"].map((name) =>
        make("th", { scope: "col" }, name),
      ),
    ),
  );
  const table = make("table", { class: "types" }, caption, head, body);
  const element = make(
    "div",
    { class: "viewer" },
    make("h3", {}, run.name),
    make("div", { class: "scroll" }, table),
  );

  function draw() {
    const at = findNearest(types.steps, state.step);
    caption.textContent = `Step ${formatStep(types.steps[at])}`;
    const rows = types.heads.map(([layer, head], place) => {
      const names = types.names[at][place].map((name) => name.replaceAll("_", " "));
      const line = make(
        "tr",
        { class: layer === state.layer && head === state.head ? "chosen" : null },
        make(
          "th",
          { scope: "row" },
          make(
            "button",
            { type: "button", class: "plain", onclick: () => showHead(layer, head) },
            callHead(layer, head),
          ),
        ),
        make("td", {}, names.join(", ") || "no name"),
        make("td", {}, listTopTypes(types, at, place)),
      );
      return line;
    });
    body.replaceChildren(...rows);
  }
  draw();
  return { element, update: draw };
}

// The head in the attention viewer, which may be far above.
function showHead(layer, head) {
  change({ layer, head });
  document.getElementById("attention").scrollIntoView({ block: "start" });
}

function listTopTypes(types, at, place) {
  const { values, shape } = types.scores;
  const [, steps, heads, kinds] = shape;
  const start = (at * heads + place) * kinds;
  const nulls = steps * heads * kinds;
  const scored = types.types
    .map((name, kind) => [values[start + kind], values[nulls + start + kind], name])
    .filter(([score, none]) => score > none);
  scored.sort((one, other) => other[0] - one[0]);
  return (
    scored
      .slice(0, TOP_TYPES)
      .map(
        ([score, none, name]) =>
          `${name.replaceAll("_", " ")} ${score.toFixed(2)} (${none.toFixed(2)})`,
      )
      .join("; ") || "none above its null"
  );
}
