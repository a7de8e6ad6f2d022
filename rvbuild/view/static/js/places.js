// The places where the model is wrong, the worst first: step through them.
import { ask, byId, element, percent, query } from "./dom.js";
import { refresh, panel, toggle } from "./layers.js";
import { className, state, tell, when } from "./state.js";

let places = [];
let now = -1;
let asked = 0;
let pending = null;

let due = true; // the list is made when it is looked at: all scenes are compared for it

export function placesAreDue() {
  due = true;
  if (!byId("places").hidden) loadPlaces();
}

export const lookAtPlaces = () => (due ? loadPlaces() : pending);

const loadPlaces = (go = false) => (pending = load(go));

async function load(go) {
  const box = byId("places");
  const turn = ++asked;
  due = false;
  if (!state.project.loaded) return;
  box.replaceChildren(element("p", { class: "note", role: "status" }, "Predictions are compared with labels…"));
  try {
    const found = await ask(`/api/places?${query({ ...state.pair, scene: state.only || null, of: state.of === "prediction" ? null : state.of })}`);
    if (turn !== asked) return;
    places = found.places;
  } catch (error) {
    if (turn === asked) box.replaceChildren(element("p", { class: "bad" }, error.message));
    return;
  }
  now = -1;
  draw();
  if (go && places.length) step(1);
}

const pairText = (truth, predicted) => (truth === null ? `${className(predicted)} where there is none` : predicted === null ? `${className(truth)} is missed` : `${className(truth)} → ${className(predicted)}`);

function draw() {
  const box = byId("places");
  const title = `${state.pair ? pairText(state.pair.truth, state.pair.predicted) : "Where predictions and labels differ most"}${state.only ? `, scene ${state.only}` : ""}`;
  const all = state.pair ? element("button", { type: "button", onclick: () => {
    state.pair = null;
    tell("pair", {});
  } }, "Show all errors") : "";
  const pixels = state.project.counted === "pixels";
  const right = state.pair && state.pair.truth === state.pair.predicted;
  const items = places.map((place, index) => {
    const [x0, y0] = place.window;
    const text = pixels ? `${percent(place.share)} of the labelled pixels${right ? "" : " are wrong"}` : place.predicted === null ? "no box" : `score ${place.wrong.toFixed(2)}`;
    return element("li", {}, element("button", { type: "button", "aria-current": index === now ? "true" : null, onclick: () => visit(index) },
      `${index + 1}. ${pairText(place.truth, place.predicted)}`, element("small", {}, `${text} · scene ${place.scene}, column ${Math.round(x0)}, row ${Math.round(y0)}`)));
  });
  const none = places.length ? "" : element("p", { class: "note" }, state.project.artifacts.some((one) => one.stage === "eval" && one.state === "fresh") ? "There is no such place." : "Places are listed once scenes with labels have predictions.");
  box.replaceChildren(element("h2", {}, title), all, element("p", { class: "note" }, "n and p step through the list."), none, element("ol", { class: "list", style: { listStyle: "none", padding: "0" } }, items));
}

export function visit(index) {
  now = index;
  const place = places[index];
  draw();
  byId("places").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  tell("show-place", place);
}

export async function step(by) {
  await lookAtPlaces();
  if (!places.length) return;
  visit((now + by + places.length) % places.length);
}

when("pair", (how) => {
  if (state.pair) toggle("errors", true);
  refresh();
  panel();
  if (how?.go) loadPlaces(true);
  else placesAreDue();
});
