// What is to be changed in the model's pass: heads, whole blocks, edges of attention.

const WAYS = [
  ["zero", "zero"],
  ["mean", "their mean over test pictures"],
  ["patch", "what they write on another picture"],
];

function makeInterventions(looks, asked, onChange) {
  const source = makeNumber("other picture", asked.source, (value) => {
    asked.source = value;
    onChange();
  });
  const way = makeSelect("chosen heads write", WAYS, asked.way, (value) => {
    asked.way = value;
    onChange();
  });
  const buttons = [];
  const toggle = (set, key) => {
    if (!set.delete(key)) set.add(key);
    onChange();
  };
  const press = (set, key, text, label) => {
    const button = make(
      "button",
      { type: "button", "aria-label": label, onclick: () => toggle(set, key) },
      text,
    );
    buttons.push([button, set, key]);
    return button;
  };
  const rows = Array.from({ length: looks.layers }, (_, layer) => {
    const heads = Array.from({ length: looks.heads }, (_, head) =>
      press(asked.heads, `${layer},${head}`, `head ${head}`, `change ${callHead(layer, head)}`),
    );
    const block = press(
      asked.blocks,
      layer,
      "block's output",
      `take the output of block ${layer} from the other picture`,
    );
    return make(
      "div",
      { class: "multiples-row" },
      make("span", { class: "header" }, `layer ${layer}`),
      heads,
      block,
    );
  });
  const edges = makeEdges(looks, asked, onChange);
  const reset = make(
    "button",
    {
      type: "button",
      onclick: () => {
        asked.heads.clear();
        asked.blocks.clear();
        asked.edges = [];
        onChange();
      },
    },
    "change nothing",
  );
  const words = make(
    "p",
    { class: "hint" },
    "Press heads to change what they write; a block's output is taken from the other picture.",
  );
  const element = make(
    "div",
    { class: "interventions" },
    make("div", { class: "controls" }, way.box, source, reset),
    words,
    make("div", { class: "multiples" }, rows),
    edges.element,
  );

  function update() {
    for (const [button, set, key] of buttons) button.setAttribute("aria-pressed", set.has(key));
    edges.update();
  }
  return { element, update };
}

// Which query may not look at which key: the token and the head that the page has chosen.
function makeEdges(looks, asked, onChange) {
  const tokens = Array.from({ length: looks.tokens }, (_, token) => [
    token,
    nameToken(looks, token),
  ]);
  const key = makeSelect("may not look at", tokens, 0, () => 0);
  const words = make("span", {});
  const here = () => [
    Math.min(state.layer, looks.layers - 1),
    Math.min(state.head, looks.heads - 1),
    Math.min(state.token, looks.tokens - 1),
  ];
  const forbid = make(
    "button",
    {
      type: "button",
      onclick: () => {
        const edge = [...here(), Number(key.select.value)];
        if (asked.edges.some((other) => String(other) === String(edge))) return;
        asked.edges.push(edge);
        onChange();
      },
    },
    "forbid",
  );
  const list = make("ul", { class: "edges" });

  function update() {
    const [layer, head, query] = here();
    words.textContent = `${callHead(layer, head)}: ${nameToken(looks, query)}`;
    const items = asked.edges.map((edge) => {
      const [edgeLayer, edgeHead, from, to] = edge;
      const drop = make(
        "button",
        {
          type: "button",
          "aria-label": "allow again",
          onclick: () => {
            asked.edges.splice(asked.edges.indexOf(edge), 1);
            onChange();
          },
        },
        "✕",
      );
      return make(
        "li",
        {},
        `${callHead(edgeLayer, edgeHead)}: ${nameToken(looks, from)} may not look at `,
        `${nameToken(looks, to)} `,
        drop,
      );
    });
    list.replaceChildren(...items);
  }
  return {
    element: make("div", {}, make("div", { class: "controls" }, words, key.box, forbid), list),
    update,
  };
}

function makeNumber(label, value, onChange) {
  const id = `control-${controls++}`;
  const input = make("input", { id, type: "number", min: 0, step: 1, value });
  input.addEventListener("change", () => {
    const number = Math.max(0, Math.floor(Number(input.value)) || 0);
    const most = input.max === "" ? Infinity : Number(input.max);
    input.value = Math.min(number, most);
    onChange(Number(input.value));
  });
  return make("span", { class: "control" }, make("label", { for: id }, label), input);
}
