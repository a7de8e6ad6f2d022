// What the page knows, in one place, and who wants to be told when it changes.

export const state = {
  project: { scenes: [], classes: [], artifacts: [], problems: [] },
  scene: null, // what the server has said of the scene that is shown
  evaluation: {},
  training: {},
  build: { running: false, artifacts: {}, notes: [], planned: [] },
  only: "", // the scene whose evaluation is shown; empty: of all scenes of the split
  split: "", // of which split the evaluation is shown
  hidden: new Set(), // class ids that are not shown
  pair: null, // {truth, predicted}: errors of one cell of the confusion matrix
  of: "prediction", // whose evaluation and errors are shown: of the model, or of the draft
  chosen: false, // whether the user has chosen; otherwise the draft's is shown while the model has none
  suspects: { suspects: [] }, // what the review has found, with verdicts
  suspect: null, // the id of the suspect that is looked at
  suggestions: { windows: [] }, // what to label next
  suggestion: null, // the id of the suggestion that is looked at
  threshold: 0, // of the scores of boxes
  swipe: false,
};

const listeners = {};

export function when(what, listener) {
  (listeners[what] ??= []).push(listener);
}

export function tell(what, content) {
  for (const listener of listeners[what] ?? []) listener(content);
}

export function className(id) {
  return state.project.classes.find((one) => one.id === id)?.name ?? "nothing";
}

export function classColor(id) {
  return state.project.classes.find((one) => one.id === id)?.color ?? "#888888";
}

export const shownClasses = () => state.project.classes.filter((one) => one.id !== state.project.null_id);

// Of what there is an evaluation, or will be: the model always, the draft once there was one.
export const sources = () => ["prediction", ...(state.project.artifacts.some((one) => one.stage === "draft_eval") ? ["draft"] : [])];

export const SOURCES = { prediction: "model", draft: "draft" };
