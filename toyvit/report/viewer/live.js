// The live section: it asks the server that the page came from. In a page from disk it is not.

const TOKEN = new URLSearchParams(location.search).get("token") || "";
const NEWS = 5000; // milliseconds between questions whether there is something new

async function askServer(path, options = {}) {
  const headers = { "X-ToyViT-Token": TOKEN, "Content-Type": "application/json" };
  const response = await fetch(path, { ...options, headers });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

let unpackings = 0;

// An array that came with an answer, by the way of those that came with the page.
function unpackText(reference, texts) {
  const name = `live-${unpackings++}`;
  document.body.append(make("data", { id: `array-${name}`, hidden: true }, texts[reference.array]));
  return unpack({ ...reference, array: name });
}

async function unpackAnswer(answer) {
  const { looks } = answer;
  const names = LOOKS.filter((name) => looks[name]);
  const arrays = await Promise.all(names.map((name) => unpackText(looks[name], answer.arrays)));
  names.forEach((name, place) => (looks[name] = arrays[place]));
  return prepareLooks(looks);
}

function makeLive(runs) {
  const head = make("h2", { id: "live-title" }, "Try it");
  const lead = make(
    "p",
    { class: "hint" },
    "Computed now, from the weights at the slider's step: any test picture, any head, edge or " +
      "block changed. The picture shows the head, the token and the lens layer that are chosen " +
      "above.",
  );
  const holder = make("div", {});
  const section = make("section", { id: "live", "aria-labelledby": "live-title" }, head, lead);
  const panels = new Map();
  const shown = { run: 0 };
  const show = () => {
    if (!panels.has(shown.run)) panels.set(shown.run, makeLivePanel(runs[shown.run]));
    holder.replaceChildren(panels.get(shown.run).element);
    panels.get(shown.run).update();
  };
  if (runs.length > 1) {
    const choice = makeSelect(
      "run",
      runs.map((run, place) => [place, run.name]),
      0,
      (value) => {
        shown.run = Number(value);
        show();
      },
    );
    section.append(make("div", { class: "controls" }, choice.box));
  }
  section.append(holder);
  show();
  return { element: section, update: () => panels.get(shown.run).update() };
}

function makeLivePanel(run) {
  if (run.problem || !run.checkpoints.length) {
    return {
      element: make("p", { class: "missing" }, run.problem || "There is no checkpoint yet."),
      update() {},
    };
  }
  const asked = {
    isDrawn: false,
    picture: state.picture,
    pixels: null,
    way: "zero",
    source: 1,
    heads: new Set(),
    blocks: new Set(),
    edges: [],
  };
  const view = { shows: "attention" };
  const now = {
    looks: {},
    answer: null,
    results: null,
    interventions: null,
    last: "",
    isBusy: false,
    page: state.picture,
  };
  const status = make("p", { class: "reading", "aria-live": "polite" });
  const picture = makeNumber("test picture", asked.picture, (value) => {
    asked.picture = value;
    update();
  });
  const number = picture.querySelector("input");
  if (run.pictures) number.max = run.pictures - 1;
  const shows = makeSelect(
    "on the picture",
    [
      ["attention", "attention"],
      ["lens", "lens"],
    ],
    view.shows,
    (value) => {
      view.shows = value;
      update();
    },
  );
  const pad = run.drawn ? makePad(run.drawn, (pixels) => takePixels(pixels)) : null;
  const kind = pad
    ? makeSelect(
        "picture",
        [
          ["test", "of the test split"],
          ["drawn", "drawn"],
        ],
        "test",
        (value) => {
          asked.isDrawn = value === "drawn";
          if (asked.isDrawn && !asked.pixels) takePixels(pad.read());
          update();
        },
      )
    : null;
  const body = make("div", {});
  const element = make(
    "div",
    {},
    make("div", { class: "controls" }, kind && kind.box, picture, shows.box),
    pad && pad.element,
    status,
    body,
  );

  function takePixels(pixels) {
    asked.pixels = pixels.map((share) => run.black + share * (1 - run.black));
    update();
  }
  function buildQuestion() {
    const heads = [...asked.heads].map((key) => key.split(",").map(Number));
    const isPatched = asked.way === "patch";
    const patched = isPatched ? heads : [];
    const blocks = [...asked.blocks];
    return {
      run: run.run,
      step: run.checkpoints[findNearest(run.checkpoints, state.step)],
      picture: asked.isDrawn ? asked.pixels : asked.picture,
      ...(isPatched ? {} : { ablation: asked.way, heads }),
      edges: asked.edges,
      ...(patched.length || blocks.length
        ? { patch: { picture: asked.source, heads: patched, blocks } }
        : {}),
    };
  }
  async function ask() {
    const built = buildQuestion();
    const question = JSON.stringify(built);
    if (now.isBusy || question === now.last) return;
    now.isBusy = true;
    now.last = question;
    try {
      const answer = await askServer("/api/look", { method: "POST", body: question });
      Object.assign(now.looks, await unpackAnswer(answer));
      now.answer = answer;
      now.isChanged = Boolean(built.patch || built.edges.length || built.heads?.length);
      status.textContent = "";
    } catch (error) {
      now.answer = null;
      status.textContent = `Not answered: ${error.message}`;
    }
    now.isBusy = false;
    update();
  }
  function update() {
    if (now.page !== state.picture) {
      now.page = state.picture;
      asked.picture = state.picture;
      number.value = state.picture;
    }
    picture.hidden = asked.isDrawn;
    if (pad) pad.element.hidden = !asked.isDrawn;
    if (now.answer) draw();
    ask();
  }
  function draw() {
    if (!now.results) {
      now.results = makeResults(now.looks, view);
      now.interventions = makeInterventions(now.looks, asked, update);
      body.append(now.interventions.element, now.results.element);
    }
    now.interventions.update();
    now.results.draw(now.answer);
    status.textContent = tellChange(now.looks, now.answer, now.isChanged);
    element.dataset.step = now.answer.step;
  }
  return { element, update };
}

// Whether a run has new checkpoints or measures, again and again while the page is looked at.
function followRuns({ runs, hasTable }, host) {
  const notice = make("button", {
    type: "button",
    class: "news",
    onclick: () => location.reload(),
  });
  const look = async () => {
    const changes = [];
    for (const run of document.hidden ? [] : runs) {
      const news = await askServer(`/api/news?run=${run.run}`);
      if (news.checkpoints !== run.checkpoints.length)
        changes.push(`new checkpoints of ${run.name}, to step ${formatStep(news.lastStep)}`);
      else if (news.measured !== run.measured) changes.push(`new measures of ${run.name}`);
    }
    notice.textContent = `${changes.join("; ")}: reload`;
    notice.hidden = !changes.length;
    setTimeout(follow, NEWS);
  };
  const follow = () =>
    look().catch((error) => {
      const hasEnded = error instanceof TypeError; // as `fetch` says it; else it was refused
      notice.textContent = hasEnded ? "the server has ended" : error.message;
      notice.hidden = false;
      if (!hasEnded) setTimeout(follow, NEWS);
    });
  notice.hidden = true;
  const home = hasTable
    ? make("a", { href: `/?token=${encodeURIComponent(TOKEN)}` }, "all runs")
    : null;
  host.before(make("div", { class: "top" }, home, notice));
  setTimeout(follow, NEWS);
}

// The page builds itself anew when colours change: the section is put in again each time.
function startLive() {
  const host = document.getElementById("page");
  const { live } = JSON.parse(document.getElementById("data").textContent);
  const place = () => {
    if (document.body.dataset.state !== "ready") return;
    const section = makeLive(live.runs);
    host.querySelector("#heads").before(section.element);
    watch(section.update);
  };
  new MutationObserver(place).observe(host, { childList: true });
  followRuns(live, host);
}

startLive();
