"use strict";
// Filters of the table of numbers and of the episodes. Texts of a model are only ever set as text.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const byId = (id) => document.getElementById(id);
  const distinct = (values) => [...new Set(values)];

  // A labelled choice; `choices` are [value, words].
  function addChoice(form, label, choices, changed, start) {
    const box = element("label", label);
    const select = element("select");
    select.name = label;
    for (const [value, words] of choices) {
      const option = element("option", words);
      option.value = value;
      select.append(option);
    }
    if (start !== undefined) select.value = start;
    select.addEventListener("change", changed);
    box.append(select);
    form.append(box);
    return select;
  }
  // A labelled text to type; Enter must not send the form, which would load the page again.
  function addText(form, label, hint, changed) {
    const box = element("label", label);
    const input = element("input");
    input.type = "search";
    input.name = label;
    input.placeholder = hint;
    input.addEventListener("input", changed);
    form.addEventListener("submit", (event) => event.preventDefault());
    box.append(input);
    form.append(box);
    return input;
  }
  const same = (values) => values.map((value) => [String(value), String(value)]);
  const orAll = (values) => [["", "all"], ...same(values)];

  // ---- numbers: [arm, suite, measure, seed, temperature, iteration, value, low, high, n, compute]
  const numbers = read("number-data");
  const words = numbers.words;
  const most = 400;
  const shown = (value) => (value === null ? "" : String(Number(value.toPrecision(4))));
  function startNumbers() {
    const form = byId("number-filters");
    const of = (place) => distinct(numbers.rows.map((row) => row[place]));
    const inWords = (place) => of(place).map((index) => words[index]);
    const measures = inWords(2);
    const arm = addChoice(form, "arm", orAll(inWords(0)), show);
    const suite = addChoice(form, "suite", orAll(inWords(1)), show);
    const measure = addChoice(form, "measure", orAll(measures), show, measures.includes(numbers.headline) ? numbers.headline : "");
    const temperature = addChoice(form, "temperature", orAll(of(4)), show);
    const titles = ["arm", "seed", "suite", "temperature", "iteration", numbers.ledger, "measure", "value", "low", "high", "n"];
    byId("number-head").append(...titles.map((title) => element("th", title)));
    function show() {
      const wanted = numbers.rows.filter((row) =>
        (!arm.value || words[row[0]] === arm.value) && (!suite.value || words[row[1]] === suite.value) &&
        (!measure.value || words[row[2]] === measure.value) && (!temperature.value || String(row[4]) === temperature.value));
      const rows = wanted.slice(0, most).map((row) => {
        const line = element("tr");
        const compute = row[10] === null ? "" : Number(row[10]).toExponential(2);
        const cells = [words[row[0]], row[3], words[row[1]], row[4], row[5], compute, words[row[2]],
          shown(row[6]), shown(row[7]), shown(row[8]), row[9] === null ? "" : row[9]];
        line.append(...cells.map((cell) => element("td", cell)));
        return line;
      });
      byId("number-rows").replaceChildren(...rows);
      byId("number-count").textContent = wanted.length > most
        ? `${most} of ${wanted.length} rows; all are in numbers.csv.` : `${wanted.length} rows`;
    }
    show();
  }

  // ---- episodes
  const data = read("episode-data");
  const outcomes = {
    all: ["all", () => true],
    solved: ["solved", (episode) => episode.end === "solved"],
    unsolved: ["not solved", (episode) => episode.end !== "solved"],
    old: ["wrong under the shifted rule, right under the training rule", (episode) => episode.old],
    misread: ["read wrongly", (episode) => episode.turns.some((turn) => data.reading.some((check) => turn.k[check] === false))],
    later: ["solved after a first wrong answer", (episode) => episode.end === "solved" && episode.turns.some((turn) => !turn.c)],
  };
  function startEpisodes() {
    if (!data.episodes.length) {
      byId("sides").append(element("p", "No episodes were kept."));
      byId("next").disabled = byId("previous").disabled = true;
      return;
    }
    startLegend();
    const form = byId("episode-filters");
    const arms = distinct(data.episodes.map((episode) => episode.arm));
    const trained = arms.filter((arm) => arm !== data.beginning);
    const suites = distinct(data.tasks.map((task) => task[0]));
    const changed = () => { place = 0; show(); };
    const suite = addChoice(form, "suite", suites.map((name) => [name, data.suites[name] || name]), changed, data.first_suite);
    const hand = addText(form, "hand", "seed or cards", changed);
    const seed = addChoice(form, "seed", same(distinct(data.episodes.map((episode) => episode.seed))), changed);
    const left = addChoice(form, "left", same(arms), changed, trained[0]);
    const right = addChoice(form, "right", [["", "nothing"], ...same(arms)], changed, trained[1] || arms.find((arm) => arm !== trained[0]) || "");
    const ofOutcome = addChoice(form, "outcome", Object.entries(outcomes).map(([key, [title]]) => [key, title]), changed);
    const whose = addChoice(form, "outcome of", [["left", "the left"], ["right", "the right"], ["either", "either"]], changed);
    let place = 0;
    const found = new Map(data.episodes.map((episode) => [`${episode.task}/${episode.arm}/${episode.seed}`, episode]));
    const episodeOf = (task, arm) => (arm ? found.get(`${task}/${arm}/${seed.value}`) : undefined);
    const described = data.tasks.map(([, name], index) => {
      const asked = data.episodes.find((episode) => episode.task === index && episode.turns.length);
      return `${name}\n${asked ? data.texts[asked.turns[0].q] : ""}`.toLowerCase();
    });
    function wantedTasks() {
      const passes = outcomes[ofOutcome.value][1];
      const typed = hand.value.trim().toLowerCase();
      return data.tasks.map((task, index) => index).filter((index) => {
        if (data.tasks[index][0] !== suite.value || !described[index].includes(typed)) return false;
        const both = [episodeOf(index, left.value), episodeOf(index, right.value)];
        const meant = whose.value === "left" ? [both[0]] : whose.value === "right" ? [both[1]] : both;
        return meant.some((episode) => episode && passes(episode));
      });
    }
    function show() {
      const tasks = wantedTasks();
      place = Math.max(0, Math.min(place, tasks.length - 1));
      byId("previous").disabled = place <= 0;
      byId("next").disabled = place >= tasks.length - 1;
      byId("episode-count").textContent = tasks.length ? `${place + 1} of ${tasks.length}` : "none of the embedded tasks";
      byId("episode-task").textContent = tasks.length ? data.tasks[tasks[place]][1] : "";
      const sides = tasks.length ? [left.value, right.value].filter(Boolean).map((arm) => side(arm, episodeOf(tasks[place], arm))) : [];
      byId("sides").replaceChildren(...sides);
    }
    byId("previous").addEventListener("click", () => { place -= 1; show(); });
    byId("next").addEventListener("click", () => { place += 1; show(); });
    show();
  }

  function side(arm, episode) {
    const box = element("article", undefined, "side");
    box.append(element("h4", arm));
    if (!episode) {
      box.append(element("p", "Not kept for this seed.", "note"));
      return box;
    }
    const state = element("p", undefined, "verdict");
    state.append(element("span", episode.end.replaceAll("_", " "), episode.end === "solved" ? "right" : "wrong"),
      ` · reward ${episode.reward} · iteration ${episode.iteration}`);
    box.append(state, ...episode.turns.map(turnBox));
    return box;
  }

  function turnBox(turn) {
    const box = element("section", undefined, "turn");
    const question = element("details");
    question.append(element("summary", `Step ${turn.n[0]}, attempt ${turn.n[1]}: the question`), element("pre", data.texts[turn.q]));
    if (turn.n[1] === 1 && turn.n[0] === 1) question.open = true;
    box.append(question);
    for (const digest of turn.i || []) {
      const picture = element("img");
      picture.alt = "the picture of the question";
      picture.src = `data:image/png;base64,${data.pictures[digest]}`;
      box.append(picture);
    }
    box.append(answer(turn));
    const verdict = element("p", undefined, "verdict");
    verdict.append(element("span", turn.o.replaceAll("_", " "), turn.c ? "right" : "wrong"), ` (${turn.r}) ${data.texts[turn.f]}`);
    const checks = Object.entries(turn.k).map(([name, passed]) => `${name.replaceAll("_", " ")}: ${passed ? "yes" : "no"}`);
    const known = (turn.l || []).filter((value) => value !== null);
    if (known.length) checks.push(`mean log-probability ${(known.reduce((sum, value) => sum + value, 0) / known.length).toFixed(2)}`);
    box.append(verdict, element("p", checks.join(" · "), "note"));
    return box;
  }

  // ---- tokens: the levels, and the log-probability that each lies over
  const levels = [["sure", -0.1], ["likely", -1], ["unlikely", -3], ["rare", -Infinity]];
  const levelOf = (value) => (value === null ? "unknown" : levels.find(([, least]) => value > least)[0]);

  function startLegend() {
    const inWords = (value) => `${String(value).replace("-", "−")} (${Math.round(100 * Math.exp(value))} %)`;
    const meanings = levels.map(([name, least], index) =>
      [name, name, least === -Infinity ? `up to ${inWords(levels[index - 1][1])}` : `over ${inWords(least)}`]);
    const items = [...meanings, ["unknown", "not recorded", ""]];
    byId("legend").append("Tokens by log-probability: ", ...items.map(([level, name, meaning]) => {
      const item = element("span", undefined, "item");
      item.append(element("span", name, `token ${level}`), ` ${meaning}`);
      return item;
    }));
  }

  function answer(turn) {
    const box = element("pre", undefined, "answer");
    if (!turn.e) {
      box.textContent = data.texts[turn.a];
      return box;
    }
    const characters = Array.from(data.texts[turn.a]);
    let start = 0;
    turn.e.forEach((end, index) => {
      const value = turn.l[index];
      const token = element("span", characters.slice(start, end).join(""), `token ${levelOf(value)}`);
      token.title = value === null ? "not recorded" : `log-probability ${value}`;
      box.append(token);
      start = end;
    });
    box.append(characters.slice(start).join(""));
    return box;
  }

  startNumbers();
  startEpisodes();
})();
