// Suspects: labels that are probably wrong. Step through them, and set a verdict with one key.
import { ask, byId, counted, element, percent, query } from "./dom.js";
import { saidLine } from "./build.js";
import { KINDS, VERDICTS, filter, listed } from "./listed.js";
import { panel, refresh, toggle } from "./layers.js";
import { state, tell } from "./state.js";

const MOST = 200; // rows of the list
const undone = []; // what to go back to: {id, verdict, note}
let saying = ""; // what happened last
let loads = 0; // only the last one counts
let changes = 0; // verdicts: an answer that was asked for before may lack one
let sending = Promise.resolve(); // verdicts on their way

const all = () => state.suspects.suspects;
const current = () => all().find((one) => one.id === state.suspect);
const isOpen = (one) => !(one.verdict in VERDICTS) || one.verdict === "";

export async function loadSuspects() {
  const load = (loads += 1);
  let found, before;
  do {
    await sending;
    before = changes;
    found = await ask("/api/suspects");
    if (load !== loads) return;
  } while (before !== changes);
  state.suspects = { suspects: [], ...found };
  if (state.suspect && !current()) state.suspect = null;
  if (state.scene?.layers.suspects) refresh();
  suspectsPanel();
}

function source(one) {
  const parts = [one.file, one.layer && `layer ${one.layer}`, one.feature_id !== null && one.feature_id !== undefined && `feature ${one.feature_id}`];
  return parts.filter(Boolean).join(", ");
}

function what(one) {
  if (one.kind === "class") return `${one.label_class} → ${one.proposed_class}`;
  if (one.kind === "missing") return `missing ${one.proposed_class}`;
  return `${one.label_class}: ${KINDS[one.kind]?.title ?? one.kind}`;
}

export function suspectsPanel() {
  const box = byId("suspects");
  const { activeElement } = document;
  const focused = activeElement?.id;
  const typed = focused === "suspect-note" ? [activeElement.value, activeElement.selectionStart, activeElement.dataset.of] : null;
  const tab = byId("tab-suspects");
  tab.replaceChildren("Suspects", state.suspects.open ? element("span", { class: "count", title: `${state.suspects.open} open` }, state.suspects.open.toLocaleString("en")) : "");
  const running = state.build.running;
  const again = element("button", { type: "button", id: "review-button", disabled: running, title: "Look for labels that are probably wrong", onclick: () => tell("build", "review") }, running && state.build.stage === "review" ? "Reviewing…" : state.suspects.state ? "Review again" : "Review");
  if (!state.suspects.state) {
    box.replaceChildren(element("p", { class: "note" }, "The review compares each label with what a model that has not seen it expects there, and lists labels that are probably wrong. It takes about as long as a draft."), again, saidLine("review-said", "review"));
    return;
  }
  const list = listed();
  const stale = state.suspects.state === "fresh" ? "" : element("p", { class: "wait", id: "suspects-stale" }, `The review is not up to date (${state.suspects.state}): review again, for example once your labels are saved.`);
  const message = state.suspects.message ? element("p", { class: "bad", role: "alert", id: "suspects-message" }, state.suspects.message) : "";
  const lacking = state.suspects.table || state.suspects.message || running ? "" : element("p", { class: "wait" }, "There is no table for verdicts yet: review again.");
  // Of a long list, the part that is looked at.
  const start = MOST * Math.floor(Math.max(0, list.findIndex((one) => one.id === state.suspect)) / MOST);
  const part = list.slice(start, start + MOST);
  const rows = part.map((one) => element("li", {}, element("button", { type: "button", id: `suspect-${one.id}`, "aria-current": one.id === state.suspect ? "true" : null, onclick: () => look(one.id) },
    element("span", { class: "swatch", style: { background: KINDS[one.kind]?.color ?? "#888" } }), ` ${what(one)} `, element("span", { class: `verdict ${one.verdict}` }, isOpen(one) ? "" : VERDICTS[one.verdict]), element("small", {}, `${percent(one.score)} · scene ${one.scene}`))));
  const left = state.suspects.left_out ?? 0;
  const which = part.length < list.length ? `${(start + 1).toLocaleString("en")} to ${(start + part.length).toLocaleString("en")} of ${list.length.toLocaleString("en")}` : "";
  box.replaceChildren(
    element("div", { class: "row spread" }, element("strong", { id: "suspects-open" }, `${(state.suspects.open ?? 0).toLocaleString("en")} open of ${counted(all().length + (state.suspects.left_out ?? 0), "suspect")}`), again),
    saidLine("review-said", "review"), stale, message, lacking, filters(), card(), element("p", { class: "note", role: "status", id: "suspects-said" }, saying),
    list.length ? element("ol", { class: "list plain", id: "suspect-list" }, rows) : element("p", { class: "note" }, all().length ? "No suspect fits this choice." : "The review has found no suspects."),
    which || left ? element("p", { class: "note" }, [which, left && `${left.toLocaleString("en")} more, which are less probable, are in the table only`].filter(Boolean).join("; ")) : "",
    next(),
  );
  if (focused && (focused.startsWith("suspect") || focused.startsWith("verdict") || focused.startsWith("filter"))) byId(focused)?.focus({ preventScroll: true });
  // What is being typed stays when the list is drawn anew.
  if (typed && typed[2] === state.suspect) {
    byId("suspect-note").value = typed[0];
    byId("suspect-note").setSelectionRange(typed[1], typed[1]);
  }
}

// What to do with verdicts.
function next() {
  const accepted = all().filter((one) => one.verdict === "accept").length;
  if (!accepted || !state.suspects.table) return "";
  return element("p", { class: "note" }, `${counted(accepted, "suspect")} accepted. `, element("code", {}, `rvbuild review --apply ${state.suspects.table} ${state.project.path}`), " writes what is proposed into a copy of the label files; with --in-place, into the files themselves, after a backup.");
}

function filters() {
  const kinds = Object.keys(KINDS).filter((kind) => all().some((one) => one.kind === kind));
  const select = (id, label, values, name, read = String) => {
    const found = element("select", { id, "aria-label": label, onchange: (event) => {
      filter[name] = read(event.target.value);
      state.suspect = null;
      shown();
    } }, values.map(([value, text]) => element("option", { value: String(value) }, text)));
    found.value = String(filter[name]);
    return found;
  };
  return element("div", { class: "row wrap" },
    select("filter-verdict", "Verdict", [["open", "open"], ["accepted", "accepted"], ["rejected", "rejected"], ["all", "all verdicts"]], "verdict"),
    select("filter-kind", "Kind", [["", "all kinds"], ...kinds.map((kind) => [kind, KINDS[kind].title])], "kind"),
    select("filter-score", "Score", [[0, "all scores"], [0.5, "50 % and more"], [0.8, "80 % and more"]], "score", Number),
    select("filter-here", "Scenes", [["", "all scenes"], ["1", "this scene"]], "here"));
}

// The suspect that is looked at.
function card() {
  const one = current();
  if (!one) return element("p", { class: "note" }, "j and k step through the list; a accepts, r rejects, c clears, u undoes.");
  const button = (verdict, text, key) => element("button", { type: "button", id: `verdict-${verdict || "clear"}`, title: `Key ${key}`, "aria-pressed": String(verdict !== "" && one.verdict === verdict), onclick: () => decide(verdict) }, text);
  const [from, missing] = [source(one), one.kind === "missing"];
  return element("div", { class: "card", id: "suspect-card" },
    element("h3", {}, element("span", { class: "swatch", style: { background: KINDS[one.kind]?.color ?? "#888" } }), ` ${what(one)}`),
    element("p", {}, one.reason),
    element("p", { class: "note" }, `${percent(one.score)} probably wrong · gain ${Math.round(one.gain).toLocaleString("en")}${from ? ` · ${from}` : ""}`),
    one.proposed_rings && JSON.stringify(one.proposed_rings) !== JSON.stringify(one.rings) ? element("p", { class: "note" }, "The dashed white line is the proposed outline.") : "",
    element("div", { class: "row wrap" }, button("accept", missing ? "Accept: add it" : "Accept: the label is wrong", "a"), button("reject", missing ? "Reject: nothing is missing" : "Reject: it is right", "r"), button("", "Clear", "c"), element("button", { type: "button", id: "verdict-undo", title: "Key u", disabled: !undone.length, onclick: undo }, "Undo")),
    element("input", { type: "text", id: "suspect-note", "data-of": one.id, placeholder: "Note", "aria-label": "Note", value: one.note ?? "", onchange: (event) => send(one, one.verdict, event.target.value), onkeydown: (event) => event.key === "Enter" && event.target.blur() }));
}

function shown() {
  suspectsPanel();
  if (state.scene?.layers.suspects) refresh();
}

export function look(id) {
  state.suspect = id;
  const one = current();
  shown();
  byId(`suspect-${id}`)?.scrollIntoView({ block: "nearest" });
  if (one) {
    toggle("suspects", true);
    tell("show-suspect", one);
  }
}

export function stepSuspects(by) {
  const list = listed();
  if (!list.length) return;
  const now = list.findIndex((one) => one.id === state.suspect);
  const to = now < 0 ? (by > 0 ? 0 : list.length - 1) : (now + by + list.length) % list.length;
  look(list[to].id);
}

// Sets the verdict, and goes on to the next that is open.
export async function decide(verdict) {
  const one = current();
  if (!one) return;
  const list = listed();
  const after = [...list.slice(list.indexOf(one) + 1), ...list.slice(0, list.indexOf(one))].find(isOpen);
  const done = await send(one, verdict);
  if (done && verdict && after && state.suspect === one.id) look(after.id);
}

// `back`: this undoes another one.
async function send(one, verdict, note = null, back = false) {
  const before = { id: one.id, verdict: one.verdict, note: one.note };
  take(one, { verdict, note: note ?? one.note });
  changes += 1;
  try {
    const request = ask(`/api/verdict?${query({ id: one.id, verdict, note })}`, { method: "POST" });
    sending = Promise.allSettled([sending, request]);
    const answer = await request;
    if (!back) undone.push({ id: one.id, ...answer.former });
    one.unsaved = Boolean(answer.unsaved);
    state.suspects.message = answer.unsaved ? `${answer.unsaved}. The verdict is kept and will be written as soon as that is possible.` : "";
    const done = back ? "undone" : note !== null ? "noted" : verdict ? VERDICTS[verdict] : "open again";
    saying = `${what(one)}: ${done}${answer.unsaved ? ", not written yet" : ""}.`;
    shown();
    return true;
  } catch (error) {
    take(one, before);
    state.suspects.message = error.message;
    saying = "";
    shown();
    return false;
  }
}

// A verdict that was given on any page.
export function takeVerdict({ id, verdict, note, unsaved }) {
  changes += 1;
  const one = all().find((each) => each.id === id);
  if (!one || (one.verdict === verdict && one.note === note)) return;
  take(one, { verdict, note });
  one.unsaved = unsaved;
  shown();
}

function take(one, { verdict, note }) {
  if (isOpen(one) !== !verdict) state.suspects.open += verdict ? -1 : 1;
  one.verdict = verdict;
  one.note = note;
}

export async function undo() {
  const last = undone.pop();
  const one = last && all().find((each) => each.id === last.id);
  if (!one) return;
  look(one.id);
  if (!(await send(one, last.verdict in VERDICTS ? last.verdict : "", last.note, true))) undone.push(last);
}

export const showSuspects = () => {
  suspectsPanel();
  panel();
};
