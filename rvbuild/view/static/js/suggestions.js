// Suggestions: the windows to label next. Step through them.
import { ask, byId, element, percent } from "./dom.js";
import { saidLine } from "./build.js";
import { refresh, toggle } from "./layers.js";
import { state, tell } from "./state.js";

export async function loadSuggestions() {
  state.suggestions = { windows: [], ...(await ask("/api/suggestions")) };
  if (state.scene?.layers.suggestions) refresh();
  suggestionsPanel();
}

export function suggestionsPanel() {
  const box = byId("suggestions");
  const focused = document.activeElement?.id;
  const { state: fresh, reasons, files, windows } = state.suggestions;
  const running = state.build.running;
  const again = element("button", { type: "button", id: "suggest-button", disabled: running, title: "Look for the windows to label next", onclick: () => tell("build", "suggest") }, running && state.build.stage === "suggest" ? "Looking…" : fresh ? "Suggest again" : "Suggest");
  if (!fresh) {
    box.replaceChildren(element("p", { class: "note" }, "Suggestions are windows whose labels would teach the model most: unlike what is labelled, and with classes that have few labels. It takes about as long as a draft."), again, saidLine("suggest-said", "suggest"));
    return;
  }
  const rows = windows.map((one, index) => element("li", {}, element("button", { type: "button", id: `suggestion-${one.id}`, "aria-current": one.id === state.suggestion ? "true" : null, onclick: () => look(index) },
    `${one.rank}. ${one.reason}`, element("small", {}, [one.uncertainty !== null && `uncertainty ${percent(one.uncertainty)}`, one.diversity !== null && `diversity ${one.diversity.toFixed(2)}`, `scene ${one.scenes[0] ?? "?"}, column ${one.window[0]}, row ${one.window[1]}`].filter(Boolean).join(" · ")))));
  box.replaceChildren(
    element("div", { class: "row spread" }, element("strong", {}, "What to label next"), again),
    saidLine("suggest-said", "suggest"),
    fresh === "fresh" ? "" : element("p", { class: "wait" }, `These are not up to date (${[fresh, ...reasons].join("; ")}): suggest again, for example once your labels are saved.`),
    windows.length ? element("p", { class: "note" }, "j and k step through the list. Digitise in QGIS: ", ...files.flatMap((file, index) => [index ? ", " : "", element("code", {}, file)])) : "",
    windows.length ? element("ol", { class: "list plain" }, rows) : element("p", { class: "note" }, "Every pixel that may have a label has one. To label more, list images without labels in scenes.test, or give a training scene an aoi around what is labelled."),
  );
  if (focused?.startsWith("suggestion-")) byId(focused)?.focus({ preventScroll: true });
}

export function look(index) {
  const one = state.suggestions.windows[index];
  state.suggestion = one.id;
  suggestionsPanel();
  byId(`suggestion-${one.id}`)?.scrollIntoView({ block: "nearest" });
  refresh();
  toggle("suggestions", true);
  tell("show-suggestion", one);
}

export function stepSuggestions(by) {
  const { windows } = state.suggestions;
  if (!windows.length) return;
  const now = windows.findIndex((one) => one.id === state.suggestion);
  look(now < 0 ? (by > 0 ? 0 : windows.length - 1) : (now + by + windows.length) % windows.length);
}
