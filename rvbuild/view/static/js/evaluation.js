// The evaluation: figures by split, class and scene, the confusion matrix, and the threshold of boxes.
import { byId, element, figure, percent } from "./dom.js";
import { isMissed, loadShapes, refresh } from "./layers.js";
import { SOURCES, classColor, className, shownClasses, sources, state, tell, when } from "./state.js";

const COLUMNS = [["iou", "IoU"], ["ap50", "AP50"], ["ap", "AP"], ["f1", "F1"], ["precision", "precision"], ["recall", "recall"]];
const HEADLINES = [["mean_iou", "mean IoU"], ["mean_ap50", "mean AP50"], ["overall_accuracy", "accuracy"], ["accuracy", "accuracy"]];

export function evaluationPanel() {
  const box = byId("evaluation");
  const { evaluation, splits } = state.evaluation;
  const boxes = state.project.counted === "boxes" ? thresholds() : null;
  if (!evaluation) {
    const failed = state.project.artifacts.find((one) => one.stage === "eval" && one.state === "failed");
    box.replaceChildren(
      sourceChoice(),
      element("p", { class: "note" }, failed ? "The evaluation has failed; the tab “Build” says why." : "There is no evaluation yet. Build the project: it trains, predicts and compares predictions with labels."),
      boxes ?? "",
    );
    return;
  }
  const stale = state.evaluation.state !== "fresh" ? element("p", { class: "wait" }, `This evaluation is not up to date (${state.evaluation.state}).`) : null;
  const names = [...new Set(Object.keys(evaluation.per_scene).map((scene) => splits[scene]))];
  const split = names.length > 1 ? (state.split && names.includes(state.split) ? state.split : (evaluation.summary.split ?? names[0])) : names[0];
  const whole = evaluation.splits?.[split] ?? { overall: evaluation.overall, summary: evaluation.summary.overall };
  const scenes = Object.keys(evaluation.per_scene).filter((scene) => splits[scene] === split);
  const only = scenes.includes(state.only) ? state.only : "";
  const shown = only ? { overall: evaluation.per_scene[only], summary: evaluation.summary.per_scene[only] } : whole;
  const title = only ? `scene ${only}` : `${split} scenes`;
  box.replaceChildren(sourceChoice(), stale ?? "", headline(shown.summary, title, names, split), sceneChoice(scenes, only), classTable(shown.overall), boxes ?? "", confusion(only ? [only] : scenes) ?? "", sceneTable(evaluation, scenes));
}

function sourceChoice() {
  if (sources().length < 2) return "";
  const choice = element("select", { id: "source", "aria-label": "Evaluation of", onchange: (event) => tell("of", event.target.value) }, sources().map((of) => element("option", { value: of }, `of the ${SOURCES[of]}`)));
  choice.value = state.of;
  return element("div", { class: "row" }, choice);
}

function sceneChoice(scenes, only) {
  if (scenes.length < 2) return "";
  const choice = element("select", { id: "only", "aria-label": "Scenes that are evaluated", onchange: (event) => chooseOnly(event.target.value) }, [element("option", { value: "" }, "all scenes"), ...scenes.map((scene) => element("option", { value: scene }, scene))]);
  choice.value = only;
  return element("div", { class: "row" }, choice);
}

function chooseOnly(scene) {
  state.only = scene;
  if (scene) tell("go-scene", scene);
  tell("pair", {});
}

function headline(summary, title, names, split) {
  const [key, name] = HEADLINES.find(([each]) => summary[each] !== undefined && summary[each] !== null) ?? [null, ""];
  const figures = key ? element("p", { class: "headline", id: "headline" }, figure(summary[key]), " ", element("small", {}, `${name}, ${title}`)) : element("p", { class: "note" }, "Nothing here has labels.");
  if (names.length < 2) return figures;
  const choice = element("select", { id: "split", "aria-label": "Split", onchange: (event) => {
    state.split = event.target.value;
    chooseOnly("");
  } }, names.map((name) => element("option", { value: name }, name)));
  choice.value = split;
  return element("div", { class: "row spread" }, figures, choice);
}

function classTable(items) {
  const known = COLUMNS.filter(([key]) => items.some((item) => item.metrics?.[key] !== null && item.metrics?.[key] !== undefined));
  const rows = items
    .filter((item) => item.class_id !== state.project.null_id)
    .map((item) =>
      element("tr", {}, element("td", { class: "name" }, item.class_id >= 0 && item.class_name !== "average" ? element("span", { class: "swatch", style: { background: classColor(item.class_id) } }) : "", item.class_name), known.map(([key]) => element("td", {}, figure(item.metrics[key])))),
    );
  return element("div", { class: "tables" }, element("table", {}, element("thead", {}, element("tr", {}, element("th", {}, "Class"), known.map(([, title]) => element("th", { scope: "col" }, title)))), element("tbody", {}, rows)));
}

function confusion(scenes) {
  const { confusion: matrices } = state.evaluation;
  const chosen = scenes.map((scene) => matrices[scene]).filter(Boolean);
  if (!chosen.length) return null;
  const sum = chosen[0].map((row, i) => row.map((_, j) => chosen.reduce((total, matrix) => total + matrix[i][j], 0)));
  const nothing = state.project.null_id;
  const labels = state.project.classes.filter((one) => one.id !== nothing && sum[one.id].some(Boolean));
  const predictions = state.project.classes.filter((one) => one.id !== nothing || labels.some((label) => sum[label.id][nothing]));
  const cell = (truth, predicted) => {
    const value = sum[truth][predicted];
    const share = value / sum[truth].reduce((a, b) => a + b, 0);
    const right = truth === predicted;
    const pressed = state.pair && state.pair.truth === truth && state.pair.predicted === predicted;
    const title = `${value.toLocaleString("en")} ${state.project.counted} labelled ${className(truth)} are predicted as ${className(predicted)}`;
    const strength = Math.round(8 + 70 * share);
    return element("td", {}, element("button", {
      type: "button", title, "aria-label": `${title}: show the places`, "aria-pressed": Boolean(pressed), disabled: !value, "data-truth": String(truth), "data-predicted": String(predicted),
      style: { background: `color-mix(in srgb, ${right ? "var(--good)" : "#dc267f"} ${value ? strength : 0}%, var(--paper))`, color: strength > 45 ? "#fff" : "inherit" },
      onclick: () => {
        state.pair = pressed ? null : { truth, predicted };
        tell("pair", { go: !pressed });
      },
    }, value ? percent(share) : "·"));
  };
  return element("div", {},
    element("h3", {}, "Confusion"),
    element("p", { class: "note" }, "Rows are labels, columns predictions, as shares of the row. Choose a cell to see its places."),
    element("div", { class: "tables" }, element("table", { class: "confusion" },
      element("thead", {}, element("tr", {}, element("td"), predictions.map((one) => element("th", { scope: "col", title: one.name }, one.id === nothing ? "none" : one.name)))),
      element("tbody", {}, labels.map((label) => element("tr", {}, element("th", { scope: "row", title: label.name }, label.name), predictions.map((one) => cell(label.id, one.id))))))));
}

function sceneTable(evaluation, names) {
  const scenes = names.map((scene) => [scene, evaluation.summary.per_scene?.[scene] ?? {}]);
  const [key, title] = HEADLINES.find(([name]) => scenes.some(([, summary]) => summary[name] !== null && summary[name] !== undefined)) ?? [];
  if (!key || !scenes.length) return "";
  const worst = [...scenes].sort(([, a], [, b]) => (a[key] ?? 2) - (b[key] ?? 2));
  return element("div", {}, element("h3", {}, "Scenes, the worst first"), element("div", { class: "tables" }, element("table", {},
    element("thead", {}, element("tr", {}, element("th", {}, "Scene"), element("th", { scope: "col" }, title))),
    element("tbody", {}, worst.map(([scene, summary]) => element("tr", {}, element("td", {}, element("button", { type: "button", onclick: () => (scenes.length < 2 ? tell("go-scene", scene) : chooseOnly(scene)) }, scene)), element("td", {}, figure(summary[key]))))))));
}

// Boxes: a threshold that moves what is shown, and precision and recall of the scene.
function thresholds() {
  if (!state.scene?.layers.prediction) return null;
  const output = element("output", { id: "threshold-figures", for: "threshold" });
  const value = element("strong", {}, state.threshold.toFixed(2));
  const slider = element("input", { type: "range", id: "threshold", min: "0", max: "1", step: "0.01", value: String(state.threshold), "aria-label": "Score threshold", oninput: (event) => {
    state.threshold = Number(event.target.value);
    value.textContent = state.threshold.toFixed(2);
    rates(output);
    refresh();
  } });
  rates(output);
  return element("div", { id: "thresholds" }, element("h3", {}, "Score threshold, this scene"), element("div", { class: "row" }, slider, value), output);
}

async function rates(output) {
  try {
    const found = await loadShapes("prediction");
    if (!state.scene.layers.labels) {
      const shown = found.rows.filter((row) => row[found.place.score] >= state.threshold).length;
      output.replaceChildren(`${shown.toLocaleString("en")} boxes are shown; this scene has no labels.`);
      return;
    }
    const labels = await loadShapes("labels");
    const rows = shownClasses().map((one) => {
      const boxes = found.rows.filter((row) => row[4] === one.id && row[found.place.score] >= state.threshold);
      const hits = boxes.filter((row) => row[found.place.hit] === 1).length;
      const wrong = boxes.filter((row) => row[found.place.hit] === 0).length;
      const counting = labels.rows.filter((row) => row[4] === one.id && row[labels.place.hit] !== -1);
      const missed = counting.filter((row) => isMissed(row[labels.place.hit])).length;
      const cells = [hits + wrong ? figure(hits / (hits + wrong)) : "–", counting.length ? figure((counting.length - missed) / counting.length) : "–", hits, wrong, missed];
      return element("tr", {}, element("td", { class: "name" }, one.name), cells.map((cell) => element("td", {}, String(cell))));
    });
    const heads = ["Class", "precision", "recall", "right", "false", "missed"];
    output.replaceChildren(element("div", { class: "tables" }, element("table", {}, element("thead", {}, element("tr", {}, heads.map((text) => element("th", { scope: "col" }, text)))), element("tbody", {}, rows))));
  } catch (error) {
    output.replaceChildren(element("span", { class: "bad" }, error.message));
  }
}

when("pair", evaluationPanel);
