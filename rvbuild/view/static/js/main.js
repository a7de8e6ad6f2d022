// The page: what happens at the start, at keys and clicks, and when the server tells of something new.
import { apply, buildPanel, press, said, takeHosts } from "./build.js";
import { ask, byId, element, query } from "./dom.js";
import { evaluationPanel } from "./evaluation.js";
import { available, clip, forgetMessages, newScene, panel, refresh, setSwipe, toggle } from "./layers.js";
import { fit, map, placeText, unmark, zoomTo } from "./map.js";
import { lookAtPlaces, placesAreDue, step } from "./places.js";
import { decide, loadSuspects, stepSuspects, suspectsPanel, takeVerdict, undo } from "./suspects.js";
import { loadSuggestions, stepSuggestions, suggestionsPanel } from "./suggestions.js";
import { sources, state, tell, when } from "./state.js";
import { trainingPanel } from "./training.js";

const KEYS = [
  ["1 … 9", "show or hide a layer"], ["s", "swipe on or off"], [", .", "previous, next scene"], ["f", "show the whole scene"],
  ["n p", "next, previous place"], ["j k", "next, previous suspect or suggestion"],
  ["a r c", "accept, reject, clear the verdict"], ["u", "undo the last verdict"], ["e w v g b t", "evaluation, places, suspects, suggestions, build, training"], ["arrows + -", "move and zoom the map"], ["?", "this list"],
];
const TABS = ["evaluation", "places", "suspects", "suggestions", "build", "training"];

const TAB_KEYS = { e: "evaluation", w: "places", v: "suspects", g: "suggestions", b: "build", t: "training" };
const VERDICT_KEYS = { a: "accept", r: "reject", c: "" };

function message(text, bad = false) {
  const box = byId("map-message");
  box.hidden = !text;
  box.textContent = text;
  box.className = bad ? "bad" : "";
}

function showProject() {
  const { project } = state;
  byId("project-name").textContent = project.name ?? "rvbuild view";
  byId("project-task").textContent = project.task ? project.task.replaceAll("_", " ") : "";
  document.title = project.name ? `${project.name} · rvbuild` : "rvbuild view";
  const box = byId("problems");
  box.hidden = !project.problems.length;
  box.textContent = project.problems.join("\n");
  const choice = byId("scene");
  const groups = ["train", "validation", "test"].map((split) => [split, (project.scenes ?? []).filter((scene) => scene.split === split)]).filter(([, scenes]) => scenes.length);
  choice.replaceChildren(...groups.map(([split, scenes]) => element("optgroup", { label: split }, scenes.map((scene) => element("option", { value: scene.id }, scene.labelled ? scene.id : `${scene.id} (no labels)`)))));
  if (state.scene) choice.value = state.scene.id;
  buildPanel();
}

// Loads a scene, or the same one again because its files have changed.
let turn = 0; // whoever asks last for a scene gets it
let wanted = null;

// Shows a scene, unless it is shown already and no other is on its way.
const haveScene = (id) => (wanted !== id || state.scene?.id !== id ? goScene(id) : null);

async function goScene(id, { keep = false } = {}) {
  const mine = ++turn;
  wanted = byId("scene").value = id;
  try {
    const scene = await ask(`/api/scene?${query({ scene: id })}`);
    if (mine !== turn) return;
    const same = state.scene?.id === id && state.scene.height === scene.height && state.scene.width === scene.width;
    state.scene = scene;
    newScene();
    forgetMessages();
    message("");
    if (!same) {
      unmark();
      popup?.remove();
    }
    if (!same || !keep) {
      if (!same) fit();
    }
    refresh();
  } catch (error) {
    if (mine !== turn) return;
    if (state.scene?.id !== id) state.scene = null;
    refresh();
    message(`${id}: ${error.message}`, true);
  }
  facts();
  panel();
  evaluationPanel();
  const params = new URLSearchParams(location.hash.slice(1));
  params.set("scene", id);
  history.replaceState(null, "", `#${params}`);
}

function facts() {
  const { scene } = state;
  byId("scene-facts").textContent = scene ? `${scene.width.toLocaleString("en")} × ${scene.height.toLocaleString("en")} px, ${scene.bands.length} × ${scene.dtype}, ${scene.crs ?? "no CRS"}, ${scene.split} · ${scene.images.join(", ")}${scene.labels.length ? ` · labels: ${scene.labels.join(", ")}` : ""}` : "";
}

async function loadResults() {
  if (!sources().includes(state.of)) state.of = "prediction";
  let [evaluation, training] = await Promise.all([ask(`/api/evaluation?of=${state.of}`), ask("/api/training")]);
  if (!evaluation.evaluation && !state.chosen && sources().includes("draft")) {
    const draft = await ask("/api/evaluation?of=draft");
    if (draft.evaluation) [state.of, evaluation] = ["draft", draft];
  }
  state.evaluation = evaluation;
  state.training = training;
  evaluationPanel();
  trainingPanel();
  placesAreDue();
  await Promise.all([loadSuspects(), loadSuggestions()]);
}

async function loadTraining() {
  state.training = await ask("/api/training");
  trainingPanel();
}

async function takeProject(project) {
  const before = state.project;
  state.project = project.loaded ? project : { ...before, ...project, artifacts: [], classes: before.classes ?? [], scenes: before.scenes ?? [] };
  if (!before.loaded && project.score_thresh) state.threshold = project.score_thresh;
  showProject();
  if (!project.loaded) return;
  const id = wanted ?? new URLSearchParams(location.hash.slice(1)).get("scene");
  const scene = project.scenes.find((one) => one.id === id) ?? project.scenes.find((one) => one.split !== "train") ?? project.scenes[0];
  if (scene) await goScene(scene.id, { keep: true });
  else message("The project has no scenes.");
  await loadResults().catch((error) => message(error.message, true));
}

function openTab(name, focus = false) {
  for (const tab of TABS) {
    const chosen = tab === name;
    byId(`tab-${tab}`).setAttribute("aria-selected", chosen);
    byId(`tab-${tab}`).tabIndex = chosen ? 0 : -1;
    byId(tab).hidden = !chosen;
  }
  if (focus) byId(`tab-${name}`).focus();
  if (name === "places") lookAtPlaces();
}

function neighbour(by) {
  const ids = state.project.scenes.map((scene) => scene.id);
  if (ids.length) goScene(ids[(ids.indexOf(byId("scene").value) + by + ids.length) % ids.length]);
}

// The divider of the swipe.
function setDivider(share) {
  byId("swipe").setAttribute("aria-valuenow", Math.round(1000 * Math.min(1, Math.max(0, share))) / 10);
  clip();
}
byId("swipe").addEventListener("pointerdown", (event) => {
  const handle = event.currentTarget;
  handle.setPointerCapture(event.pointerId);
  const move = (moved) => {
    const box = byId("map-box").getBoundingClientRect();
    setDivider((moved.clientX - box.left) / box.width);
  };
  handle.addEventListener("pointermove", move);
  handle.addEventListener("pointerup", () => handle.removeEventListener("pointermove", move), { once: true });
  event.preventDefault();
  handle.focus();
});
byId("swipe").addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -2, ArrowRight: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 }[event.key];
  if (by === undefined) return;
  setDivider((Number(event.currentTarget.getAttribute("aria-valuenow")) + by) / 100);
  event.preventDefault();
});

// One click tells what is there.
let popup = null;
map.on("click", async ({ latlng }) => {
  const { scene } = state;
  const [row, col] = [Math.floor(latlng.lat), Math.floor(latlng.lng)];
  if (!scene || row < 0 || col < 0 || row >= scene.height || col >= scene.width) return;
  try {
    const found = await ask(`/api/at?${query({ scene: scene.id, row, col })}`);
    const lines = [placeText(col + 0.5, row + 0.5), found.values.map((value, index) => `${found.bands[index]}: ${value ?? "no data"}`).slice(0, 12).join(", ")];
    if ("label" in found) lines.push(`label: ${found.label ?? "none"}`);
    if ("prediction" in found) lines.push(`prediction: ${found.prediction ?? "none"}`);
    popup?.remove();
    popup = window.L.popup({ autoPan: false }).setLatLng(latlng).setContent(element("div", {}, lines.map((line) => element("div", {}, line)))).openOn(map);
  } catch (error) {
    message(error.message, true);
  }
});

// A choice that was made with the pointer does not keep the keys.
let pointed = false;
document.addEventListener("pointerdown", () => (pointed = true), true);
document.addEventListener("keydown", () => (pointed = false), true);
document.addEventListener("change", (event) => pointed && event.target.tagName === "SELECT" && event.target.blur(), true);

const takesLetters = (target) => target.tagName === "SELECT" || target.tagName === "TEXTAREA" || (target.tagName === "INPUT" && !["checkbox", "range"].includes(target.type));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || takesLetters(event.target) || byId("help").open) return;
  const layer = available()[Number(event.key) - 1];
  if (layer) toggle(layer);
  else if (event.key === "s") setSwipe(!state.swipe);
  else if (event.key === ",") neighbour(-1);
  else if (event.key === ".") neighbour(1);
  else if (event.key === "f") fit();
  else if (event.key === "n" || event.key === "p") {
    openTab("places");
    step(event.key === "n" ? 1 : -1);
  } else if (event.key === "j" || event.key === "k") {
    const by = event.key === "j" ? 1 : -1;
    if (!byId("suggestions").hidden) stepSuggestions(by);
    else {
      openTab("suspects");
      stepSuspects(by);
    }
  } else if (VERDICT_KEYS[event.key] !== undefined && !byId("suspects").hidden) decide(VERDICT_KEYS[event.key]);
  else if (event.key === "u" && !byId("suspects").hidden) undo();
  else if (TAB_KEYS[event.key]) openTab(TAB_KEYS[event.key]);
  else if (event.key === "?") byId("help").showModal();
  else return;
  event.preventDefault();
});

for (const tab of TABS) byId(`tab-${tab}`).addEventListener("click", () => openTab(tab));
document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const now = TABS.findIndex((tab) => byId(`tab-${tab}`) === document.activeElement);
  if (by && now >= 0) openTab(TABS[(now + by + TABS.length) % TABS.length], true);
});
byId("keys").append(...KEYS.flatMap(([key, text]) => [element("dt", {}, key), element("dd", {}, text)]));
byId("help-button").addEventListener("click", () => byId("help").showModal());
byId("build-button").addEventListener("click", () => tell("build", "build"));
byId("state-button").addEventListener("click", () => openTab("build"));
byId("swipe-button").addEventListener("click", () => setSwipe(!state.swipe));
byId("scene").addEventListener("change", (event) => goScene(event.target.value));
byId("previous-scene").addEventListener("click", () => neighbour(-1));
byId("next-scene").addEventListener("click", () => neighbour(1));

when("go-scene", (id) => goScene(id));
when("pair", (how) => how?.go && openTab("places"));
when("of", async (of) => {
  [state.of, state.chosen] = [of, true];
  state.pair = null;
  refresh();
  panel();
  await loadResults().catch((error) => message(error.message, true));
});
when("show-place", async (place) => {
  await haveScene(place.scene);
  if (state.scene?.id === place.scene) {
    if (!state.pair) toggle("errors", true);
    zoomTo(place.window);
  }
});

when("show-suspect", async (suspect) => {
  await haveScene(suspect.scene);
  if (state.scene?.id === suspect.scene && state.suspect === suspect.id) zoomTo(suspect.window, false);
});
when("show-suggestion", async (suggestion) => {
  if (suggestion.scenes.length) await haveScene(suggestion.scenes.includes(state.scene?.id) ? state.scene.id : suggestion.scenes[0]);
  if (suggestion.scenes.includes(state.scene?.id) && state.suggestion === suggestion.id) zoomTo(suggestion.window, false);
});
when("build", (stage) => {
  if (stage === "build") openTab("build");
  press(stage);
});

function listen() {
  const events = new EventSource("/api/events");
  let lost = false;
  events.addEventListener("open", async () => {
    if (lost) await takeProject(await ask("/api/project"));
    lost = false;
    if (byId("map-message").dataset.lost) message("");
    delete byId("map-message").dataset.lost;
  });
  events.addEventListener("error", () => {
    lost = true;
    message("The server has ended. Start rvbuild view again.", true);
    byId("map-message").dataset.lost = "1";
  });
  events.addEventListener("project", (event) => takeProject(JSON.parse(event.data)));
  events.addEventListener("hosts", (event) => takeHosts(JSON.parse(event.data)));
  events.addEventListener("verdict", (event) => takeVerdict(JSON.parse(event.data)));
  events.addEventListener("training", () => loadTraining().catch((error) => message(error.message, true)));
  events.addEventListener("suspects", () => loadSuspects().catch((error) => message(error.message, true)));
  events.addEventListener("build", (event) => {
    state.build = { follows: state.build.follows, ...JSON.parse(event.data) };
    buildPanel();
    suspectsPanel();
    suggestionsPanel();
  });
  events.addEventListener("build-event", (event) => {
    apply(JSON.parse(event.data));
    buildPanel();
    for (const stage of ["review", "suggest"]) if (byId(`${stage}-said`)) byId(`${stage}-said`).textContent = said(stage);
  });
}

map.setView([0, 0], 0);
try {
  state.build = await ask("/api/build");
  await takeProject(await ask("/api/project"));
} catch (error) {
  message(error.message, true);
}
listen();
document.body.dataset.ready = "1";
tell("ready");
