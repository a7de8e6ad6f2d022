// The layers of the scene: what is on the map, how opaque, on which side, and the panel for it.
import { ask, byId, element, query } from "./dom.js";
import { EXTRA, MISS, Shapes, Tiles, map } from "./map.js";
import { KINDS, listed } from "./listed.js";
import { SOURCES, classColor, className, shownClasses, state, tell, when } from "./state.js";

const NAMES = { image: "Image", area: "Outside of the area", labels: "Labels", prediction: "Prediction", draft: "Draft", errors: "Errors", scores: "Scores", splits: "Splits", chips: "Chips", suggestions: "Suggestions", suspects: "Suspects" };
const ORDER = ["image", "labels", "draft", "prediction", "scores", "errors", "area", "splits", "chips", "suggestions", "suspects"];
const START = { image: [true, 1], labels: [false, 0.55], prediction: [false, 0.55], draft: [false, 0.55], errors: [false, 0.8], scores: [false, 0.7], area: [true, 0.4], splits: [false, 0.35], chips: [false, 0.8], suggestions: [false, 1], suspects: [true, 1] };

// By name: {shown, opacity, side, on: the Leaflet layer, message, choice}. It outlives the scene.
const settings = Object.fromEntries(ORDER.map((name) => [name, { shown: START[name][0], opacity: START[name][1], side: ["image", "area", "splits", "suggestions", "suspects"].includes(name) ? "both" : "right", message: "" }]));
settings.image.bands = null;
settings.image.stretch = false;
settings.scores.choice = "margin";
settings.errors.choice = "";

const SPLITS = { train: "#1d6fd1", validation: "#ffb000", test: "#9c36b5" };

const shapesOf = {}; // by layer: {version, columns, rows}

for (const [place, name] of ORDER.entries()) {
  const pane = map.createPane(`rv-${name}`);
  pane.style.zIndex = 210 + place;
}
map.getPane("overlayPane").style.zIndex = 500;

const DRAWN = ["chips", "suggestions", "suspects"]; // shapes, whatever the task is

const isTiled = (name) => ["image", "scores", "area", "splits", "draft"].includes(name) || (state.project.counted === "pixels" && !DRAWN.includes(name));

// Of the model or of the draft, as far as this scene has both.
function errorsOf() {
  const { of } = state.scene.layers.errors;
  return state.of in of ? state.of : Object.keys(of)[0];
}

// What the server has said of a layer: its version, and whether it is up to date.
const layerOf = (name) => (name === "errors" ? state.scene.layers.errors.of[errorsOf()] : state.scene.layers[name]);

function parameters(name) {
  const found = { scene: state.scene.id, v: layerOf(name).version };
  if (name === "image") {
    if (settings.image.bands) found.bands = settings.image.bands.join(",");
    if (settings.image.stretch) found.stretch = 1;
  }
  if (name === "scores") found.score = settings.scores.choice;
  if ((name === "labels" || name === "prediction" || name === "draft") && state.hidden.size)
    found.classes = shownClasses().map((one) => one.id).filter((id) => !state.hidden.has(id)).join(",");
  if (name === "errors") {
    if (errorsOf() !== "prediction") found.of = errorsOf();
    if (state.pair) Object.assign(found, state.pair);
    else if (settings.errors.choice !== "") found.truth = settings.errors.choice;
  }
  return found;
}

// Makes the map show what the settings say.
export function refresh() {
  for (const name of ORDER) {
    const one = settings[name];
    const there = state.scene && state.scene.layers[name];
    const scene = there ? `${state.scene.id} ${state.scene.height} ${state.scene.width}` : null;
    if (one.on && (!there || !one.shown || one.scene !== scene)) {
      one.on.remove();
      one.on = null;
    }
    const pane = map.getPane(`rv-${name}`);
    pane.style.opacity = one.opacity;
    if (!there || !one.shown) continue;
    if (!one.on) {
      const { height, width } = state.scene;
      one.on = isTiled(name) ? new Tiles(name, height, width, `rv-${name}`) : new Shapes(height, width, `rv-${name}`);
      one.scene = scene;
      if (isTiled(name)) one.on.ask(parameters(name));
      one.on.addTo(map);
      one.message = "";
    } else if (isTiled(name)) one.on.ask(parameters(name));
    if (!isTiled(name)) showShapes(name);
  }
  clip();
}

export async function loadShapes(name) {
  const scene = state.scene;
  const version = scene.layers[name].version;
  const known = shapesOf[name];
  if (known && known.scene === scene.id && known.version === version) return known;
  const found = await ask(`/api/shapes/${name}?${query({ scene: scene.id, v: version })}`);
  const place = Object.fromEntries(found.columns.map((column, index) => [column, index]));
  return (shapesOf[name] = { scene: scene.id, version, place, rows: found.rows, left_out: found.left_out });
}

async function showShapes(name) {
  const one = settings[name];
  try {
    const drawn = await drawing(name);
    one.on?.show?.(drawn);
    if (one.message) {
      one.message = "";
      panel();
    }
  } catch (error) {
    one.message = error.message;
    panel();
  }
}

async function drawing(name) {
  const visible = (id) => !state.hidden.has(id);
  if (name === "suspects") return suspectShapes();
  if (name === "suggestions")
    return state.suggestions.windows.filter((one) => one.scenes.includes(state.scene.id)).map((one) => [...one.window, { line: "#4dd2ff", width: one.id === state.suggestion ? 4 : 2, text: String(one.rank) }]);
  if (name === "chips") {
    const { rows } = await loadShapes("chips");
    return rows.map((row) => [...row, { line: "#ffffff", edge: false }]);
  }
  const filled = state.project.counted === "cells";
  if (name === "errors") return filled ? wrongCells() : wrongBoxes();
  const { rows, place } = await loadShapes(name);
  return rows
    .filter((row) => visible(row[4]) && (filled || name === "labels" || row[place.score] >= state.threshold))
    .map((row) => {
      const color = classColor(row[4]);
      return [...row.slice(0, 4), filled ? { fill: color } : { line: color, dash: name === "labels" ? [5, 4] : [] }];
    });
}

// The suspects of the scene that the list shows, the one that is looked at above all others.
function suspectShapes() {
  const here = listed().filter((one) => one.scene === state.scene.id);
  const now = here.find((one) => one.id === state.suspect);
  return [...here.filter((one) => one !== now), ...(now ? [now] : [])].flatMap((one) => {
    const line = one.verdict === "reject" ? "#c9cec9" : KINDS[one.kind]?.color ?? "#ffffff";
    const width = one === now ? 4 : 2;
    const outline = [...one.window, { line, width, dash: one.verdict === "reject" ? [2, 4] : [], fill: one.verdict === "accept" ? `${line}55` : null }, one.rings];
    if (!one.proposed_rings || (one !== now && one.kind !== "missing")) return [outline];
    const points = one.proposed_rings.flat();
    const box = [Math.min(...points.map(([x]) => x)), Math.min(...points.map(([, y]) => y)), Math.max(...points.map(([x]) => x)), Math.max(...points.map(([, y]) => y))];
    const proposed = [...box, { line: "#ffffff", width, dash: [6, 5] }, one.proposed_rings];
    return one.kind === "missing" ? [proposed, outline] : [outline, proposed];
  });
}

async function wrongCells() {
  const { rows, place } = await loadShapes("prediction");
  const of = settings.errors.choice === "" ? null : Number(settings.errors.choice);
  return rows
    .filter((row) => {
      const [truth, predicted] = [row[place.truth], row[4]];
      if (truth === null) return false;
      if (state.pair) return truth === state.pair.truth && predicted === state.pair.predicted;
      return truth !== predicted && (of === null || truth === of || predicted === of);
    })
    .map((row) => [...row.slice(0, 4), { fill: of !== null && row[4] === of ? EXTRA : MISS }]);
}

async function wrongBoxes() {
  const of = settings.errors.choice === "" ? null : Number(settings.errors.choice);
  const [labels, found] = await Promise.all([loadShapes("labels"), loadShapes("prediction")]);
  const extra = found.rows.filter((row) => row[found.place.hit] === 0 && row[found.place.score] >= state.threshold && (of === null || row[4] === of));
  const missed = labels.rows.filter((row) => isMissed(row[labels.place.hit]) && (of === null || row[4] === of));
  return [...extra.map((row) => [...row.slice(0, 4), { line: EXTRA }]), ...missed.map((row) => [...row.slice(0, 4), { line: MISS, dash: [5, 4] }])];
}

export const isMissed = (hit) => hit === null || (hit >= 0 && hit < state.threshold);

// Cuts layers at the divider. Panes move with the map, so the cut is in their coordinates.
export function clip() {
  const box = map.getSize();
  const share = Number(byId("swipe").getAttribute("aria-valuenow")) / 100;
  byId("swipe").hidden = !state.swipe;
  byId("swipe").style.left = `${100 * share}%`;
  const [a, b] = [map.containerPointToLayerPoint([0, 0]), map.containerPointToLayerPoint(box)];
  const middle = a.x + share * box.x;
  for (const name of ORDER) {
    const side = state.swipe ? settings[name].side : "both";
    const [left, right] = side === "left" ? [a.x, middle] : side === "right" ? [middle, b.x] : [0, 0];
    map.getPane(`rv-${name}`).style.clipPath = side === "both" ? "" : `polygon(${left}px ${a.y}px, ${right}px ${a.y}px, ${right}px ${b.y}px, ${left}px ${b.y}px)`;
  }
}

map.on("move zoomend resize", clip);

export function setSwipe(on) {
  state.swipe = on;
  byId("swipe-button").setAttribute("aria-pressed", on);
  clip();
  panel();
}

export function toggle(name, shown) {
  if (!state.scene?.layers[name]) return;
  settings[name].shown = shown ?? !settings[name].shown;
  refresh();
  panel();
}

export const available = () => ORDER.filter((name) => state.scene?.layers[name]);

// The panel: a row for each layer of the scene.
export function panel() {
  const list = byId("layers");
  const focused = document.activeElement?.id;
  list.replaceChildren(...available().map((name, index) => row(name, index)));
  if (state.scene && !state.scene.layers.prediction) list.append(element("li", { class: "note" }, "There are no predictions of this scene yet."));
  classPanel();
  if (focused?.startsWith("layer-")) byId(focused)?.focus();
}

function row(name, index) {
  const one = settings[name];
  const layer = layerOf(name);
  const badge = layer.state && layer.state !== "fresh" ? element("span", { class: "badge", title: "The build is not up to date" }, layer.state) : null;
  const box = element("input", { type: "checkbox", id: `layer-${name}`, checked: one.shown, onchange: (event) => toggle(name, event.target.checked) });
  const options = one.shown ? optionsOf(name, one) : null;
  const message = one.message ? element("div", { class: "message", role: "alert" }, one.message) : null;
  return element("li", {}, element("label", { title: `Key ${index + 1}` }, box, element("span", { class: "name" }, NAMES[name]), badge), options, message);
}

function optionsOf(name, one) {
  const opacity = element("input", {
    type: "range", min: "0", max: "1", step: "0.05", value: String(one.opacity), id: `layer-${name}-opacity`, "aria-label": `Opacity of ${NAMES[name]}`,
    oninput: (event) => {
      one.opacity = Number(event.target.value);
      map.getPane(`rv-${name}`).style.opacity = one.opacity;
    },
  });
  const parts = [opacity];
  if (state.swipe)
    parts.push(
      choice(`layer-${name}-side`, `Side of ${NAMES[name]}`, [["both", "both sides"], ["left", "left"], ["right", "right"]], one.side, (value) => {
        one.side = value;
        clip();
      }),
    );
  const classes = shownClasses().map((each) => [String(each.id), each.name]);
  if (name === "scores") parts.push(choice("layer-scores-choice", "What is shown", [["margin", "uncertainty"], ["highest", "highest score"], ...classes], one.choice, (value) => change(one, value)));
  if (name === "errors") {
    if (Object.keys(state.scene.layers.errors.of).length > 1)
      parts.push(choice("layer-errors-of", "Whose errors", Object.entries(SOURCES).map(([of, title]) => [of, title]), errorsOf(), (of) => tell("of", of)));
    parts.push(choice("layer-errors-choice", "Errors of", [["", "all classes"], ...classes], state.pair ? "" : one.choice, (value) => {
      state.pair = null;
      change(one, value);
      tell("pair");
    }));
    if (state.pair) parts.push(element("span", {}, `${className(state.pair.truth)} → ${className(state.pair.predicted)}`));
    else if (one.choice !== "" || state.project.counted === "boxes") parts.push(element("span", {}, swatch(MISS), " missed ", swatch(EXTRA), " false"));
  }
  if (name === "splits") parts.push(element("span", {}, Object.entries(SPLITS).map(([split, color]) => [swatch(color), ` ${split} `]).flat()));
  if (name === "suspects") parts.push(element("span", {}, Object.values(KINDS).map(({ color, title }) => [swatch(color), ` ${title} `]).flat()));
  if (name === "image") parts.push(...imageOptions(one));
  return element("div", { class: "options" }, parts);
}

function imageOptions(one) {
  const { bands, dtype } = state.scene;
  const parts = [];
  if (bands.length > 3) {
    const now = one.bands ?? [0, 1, 2];
    for (const [place, color] of ["red", "green", "blue"].entries())
      parts.push(choice(`layer-image-${color}`, `Band shown as ${color}`, bands.map((band, index) => [String(index), band]), String(now[place]), (value) => {
        one.bands = now.map((band, index) => (index === place ? Number(value) : band));
        refresh();
        panel();
      }));
  }
  if (dtype === "uint8")
    parts.push(element("label", {}, element("input", { type: "checkbox", id: "layer-image-stretch", checked: one.stretch, onchange: (event) => {
      one.stretch = event.target.checked;
      refresh();
    } }), "stretch contrast"));
  return parts;
}

function change(one, value) {
  one.choice = value;
  refresh();
  panel();
}

function choice(id, label, values, now, chosen) {
  const found = element("select", { id, "aria-label": label, onchange: (event) => chosen(event.target.value) }, values.map(([value, text]) => element("option", { value }, text)));
  found.value = now;
  return found;
}

const swatch = (color) => element("span", { class: "swatch", style: { background: color } });

function classPanel() {
  byId("classes").replaceChildren(
    ...shownClasses().map((one) =>
      element("li", {}, element("label", {}, element("input", { type: "checkbox", id: `layer-class-${one.id}`, checked: !state.hidden.has(one.id), onchange: (event) => {
        if (event.target.checked) state.hidden.delete(one.id);
        else state.hidden.add(one.id);
        refresh();
      } }), swatch(one.color), one.name)),
    ),
  );
}

when("layer-error", ({ name, message }) => {
  if (settings[name].message === message) return;
  settings[name].message = message;
  panel();
});

// What another scene or version no longer says.
export function forgetMessages() {
  for (const name of ORDER) settings[name].message = "";
}

export function newScene() {
  const count = state.scene.bands.length;
  if (settings.image.bands?.some((band) => band >= count)) settings.image.bands = null;
}
