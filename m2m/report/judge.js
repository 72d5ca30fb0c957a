"use strict";
// The page knows no model: a pair has an id, and the file that is saved has ids and choices only.
(() => {
  const get = (id) => document.getElementById(id);
  const page = document.body.dataset.page;
  const kept = "m2m-judge-" + page;
  const pairs = [...document.querySelectorAll("article")];
  const choices = [...document.querySelectorAll("[data-choice]")];
  const keys = { 1: "a", 2: "both", 3: "neither", 4: "b", a: "a", b: "b", ArrowLeft: "a", ArrowRight: "b" };
  let state = restored();
  let at = unanswered();
  let file = "";

  function fresh() {
    const bytes = crypto.getRandomValues(new Uint8Array(8));
    const judge = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return { judge, name: "", answers: {} };
  }

  function restored() {
    try {
      const stored = JSON.parse(localStorage.getItem(kept));
      if (stored && stored.judge && stored.answers) return stored;
    } catch { /* the browser keeps nothing for a file, or it was damaged */ }
    return fresh();
  }

  function keep() {
    try {
      localStorage.setItem(kept, JSON.stringify(state));
    } catch {
      get("lost").hidden = false;
    }
  }

  function unanswered() {
    const first = pairs.findIndex((pair) => !(pair.id in state.answers));
    return first < 0 ? pairs.length : first;
  }

  function show() {
    const done = Object.keys(state.answers).length;
    const ended = at >= pairs.length;
    pairs.forEach((pair, number) => { pair.hidden = number !== at; });
    get("end").hidden = !ended;
    get("choices").hidden = ended;
    get("back").disabled = at === 0;
    get("place").textContent = ended
      ? `${done} of ${pairs.length} answered`
      : `Pair ${at + 1} of ${pairs.length}`;
    get("progress").value = done;
    for (const button of choices) {
      const chosen = !ended && state.answers[pairs[at].id] === button.dataset.choice;
      button.setAttribute("aria-pressed", String(chosen));
    }
    if (ended) prepare();
    scrollTo(0, 0);
  }

  function prepare() {
    const { judge, name, answers } = state;
    const text = JSON.stringify({ m2m: "judge answers", schema: 1, page, judge, name, answers }, null, 1);
    URL.revokeObjectURL(file);
    file = URL.createObjectURL(new Blob([text + "\n"], { type: "application/json" }));
    get("save").href = file;
    get("save").download = `answers-${page}-${judge.slice(0, 6)}.json`;
    get("json").value = text;
  }

  function choose(choice) {
    if (at >= pairs.length) return;
    state.answers[pairs[at].id] = choice;
    keep();
    document.activeElement.blur(); // no ring around the last choice on the next pair
    at += 1;
    show();
  }

  function move(place) {
    at = Math.max(0, Math.min(pairs.length, place));
    show();
  }

  for (const button of choices) button.addEventListener("click", () => choose(button.dataset.choice));
  get("back").addEventListener("click", () => move(at - 1));
  get("stop").addEventListener("click", () => move(pairs.length));
  get("resume").addEventListener("click", () => move(unanswered() < pairs.length ? unanswered() : 0));
  get("name").addEventListener("input", () => { state.name = get("name").value; keep(); prepare(); });
  get("again").addEventListener("click", () => {
    if (!confirm("Delete the answers on this page, so that another person can begin?")) return;
    state = fresh();
    get("name").value = "";
    keep();
    move(0);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, textarea")) return;
    if (event.key === "Backspace") move(at - 1);
    else if (event.key in keys) choose(keys[event.key]);
    else return;
    event.preventDefault();
  });
  get("name").value = state.name;
  keep();
  show();
})();
