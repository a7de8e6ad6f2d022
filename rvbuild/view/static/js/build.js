// The build beside the map: states of artifacts, what runs, what failed, and the button.
import { ask, byId, counted, element, seconds } from "./dom.js";
import { state } from "./state.js";

const DUE = ["stale", "missing", "waiting", "restorable"];

// What is known of an artifact now: a running build knows more than the last look. A host of a cluster may also build it for a terminal.
function stateOf(artifact) {
  const known = knownOf(artifact);
  return artifact.host && known.state !== "failed" ? { ...known, state: "running", host: artifact.host } : known;
}

function knownOf(artifact) {
  const live = state.build.artifacts?.[artifact.label];
  if (state.build.running && live) return live.state === "running" ? { ...live, state: "running" } : { ...live, state: live.state === "built" || live.state === "restored" ? "fresh" : live.state };
  return { state: artifact.state, message: artifact.reasons.join("; ") };
}

function running() {
  const { stage, planned, artifacts: known } = state.build;
  if (!planned.length && !Object.keys(known).length) return "Planning…";
  const done = Object.values(known).filter((one) => one.state !== "running").length;
  return `Building${stage === "build" ? "" : ` ${stage}`}: ${done} of ${planned.length} done…`;
}

// What the build of a command does, or why it has failed, for the panel of its results.
export function said(stage) {
  if (state.build.stage !== stage) return "";
  if (state.build.running) return running();
  if (state.build.ok !== false) return "";
  const failed = Object.entries(state.build.artifacts).filter(([, one]) => one.state === "failed").map(([label, one]) => `${label}: ${one.message}`);
  return [state.build.message, ...failed].filter(Boolean).join("\n") || "It has failed.";
}

export function saidLine(id, stage) {
  return element("p", { id, role: "status", class: state.build.running ? "note notes" : "bad notes" }, said(stage));
}

export function buildPanel() {
  const box = byId("build");
  const { artifacts, notes } = state.project;
  const stages = new Map();
  for (const artifact of artifacts) stages.set(artifact.stage, [...(stages.get(artifact.stage) ?? []), artifact]);
  const due = artifacts.filter((one) => DUE.includes(one.state) && !one.on_request);
  const time = due.reduce((total, one) => total + (one.seconds ?? 0), 0);
  const message = state.build.message ? element("p", { class: state.build.ok ? "good" : "bad", role: "status" }, element("pre", { class: "notes" }, state.build.message)) : "";
  const said = state.build.running ? running() : due.length ? `${counted(due.length, "artifact")} to build${time ? `, up to ${seconds(time)} judging by the last runs` : ""}.` : artifacts.some((one) => one.state === "failed") ? "Something has failed." : artifacts.length ? "Everything is up to date." : "Nothing is known of the build yet.";
  const list = [...stages].map(([stage, members]) => stageRow(stage, members));
  const lines = (state.build.notes ?? []).slice(-30).map((note) => `${note.label ? `${note.label}: ` : ""}${note.text}`);
  box.replaceChildren(
    element("p", { id: "build-said" }, said),
    element("div", { class: "row actions" },
      element("button", { type: "button", id: "draft-button", disabled: state.build.running, title: "Map all scenes in seconds by a model in closed form", onclick: () => post("/api/build?stage=draft") }, "Draft"),
      element("label", { class: "row" }, element("input", { type: "checkbox", id: "follow", checked: Boolean(state.build.follows), onchange: (event) => post(`/api/follow?on=${event.target.checked ? 1 : 0}`) }), "draft after each save")),
    message,
    ...list,
    lines.length ? element("div", {}, element("h3", {}, "Said by the build"), element("div", { class: "notes", role: "log" }, lines.join("\n"))) : "",
    ...(notes ?? []).map((line) => element("p", { class: "note" }, line)),
  );
  header();
}

function stageRow(stage, members) {
  const states = members.map((one) => ({ ...stateOf(one), artifact: one }));
  const failed = states.filter((one) => one.state === "failed");
  const running = states.filter((one) => one.state === "running");
  const waiting = states.filter((one) => DUE.includes(one.state) || one.state === "skipped");
  const worst = failed.length ? "failed" : running.length ? "running" : waiting.length ? "due" : "fresh";
  const counts = [[failed.length, "failed"], [running.length, "running"], [waiting.length, waiting.length && waiting.every((one) => one.state === "missing") ? "missing" : "due"], [states.length - failed.length - running.length - waiting.length, "fresh"]].filter(([count]) => count);
  const details = [...failed, ...running, ...waiting].slice(0, 12).map((one) => detail(one));
  const more = failed.length + running.length + waiting.length - details.length;
  return element("div", { class: "stage", "data-stage": stage },
    element("h3", {}, element("span", { class: `dot ${worst}` }), stage, element("span", { class: "grow" }), element("small", { class: "note" }, counts.map(([count, word]) => `${count} ${word}`).join(", "))),
    element("ul", {}, details, more > 0 ? element("li", { class: "note" }, `and ${more} more`) : ""));
}

function detail(one) {
  if (one.state === "running") {
    const bar = one.total ? element("progress", { max: one.total, value: one.done, "aria-label": one.what }) : element("progress", { "aria-label": "running" });
    const place = one.host ? ` on ${one.host}` : "";
    return element("li", {}, `${one.artifact.label}${place}: ${one.what ? `${one.what}, ${one.done} of ${one.total} ${one.unit}` : one.host ? "runs" : "starts"}`, bar);
  }
  if (one.state === "failed") return element("li", { class: "bad" }, one.artifact.label, element("pre", {}, one.message || ""));
  return element("li", {}, element("span", { class: "wait" }, `${one.state} `), `${one.artifact.label}${one.message ? `: ${one.message}` : ""}`);
}

function header() {
  const { artifacts, problems } = state.project;
  const failed = artifacts.filter((one) => stateOf(one).state === "failed").length;
  const due = artifacts.filter((one) => DUE.includes(stateOf(one).state) && !one.on_request).length;
  const [kind, text] = state.build.running ? ["running", "building"] : problems?.length ? ["failed", "project file"] : failed ? ["failed", `${failed} failed`] : due ? ["due", `${due} to build`] : ["fresh", "up to date"];
  byId("state-dot").className = `dot ${kind}`;
  byId("state-text").textContent = text;
  byId("build-button").textContent = state.build.running ? "Stop" : "Build";
}

export const press = (stage) => post(state.build.running ? "/api/stop" : `/api/build?stage=${stage ?? "build"}`);

async function post(address) {
  try {
    state.build = await ask(address, { method: "POST" });
  } catch (error) {
    state.build = { ...state.build, ok: false, message: error.message };
  }
  buildPanel();
}

// The hosts of a cluster that build artifacts now, by label.
export function takeHosts(hosts) {
  state.project.artifacts = state.project.artifacts.map((one) => ({ ...one, host: hosts[one.label] ?? null }));
  buildPanel();
}

// One event of the running build.
export function apply(event) {
  const known = state.build.artifacts;
  if (event.event === "planned") state.build.planned = event.labels;
  else if (event.event === "begins") known[event.label] = { state: "running" };
  else if (event.event === "progress") known[event.label] = { ...known[event.label], state: "running", what: event.what, done: event.done, total: event.total, unit: event.unit };
  else if (event.event === "ended") known[event.label] = { state: event.did, message: event.message, seconds: event.seconds };
  else if (event.event === "note") state.build.notes = [...state.build.notes, { label: event.label, text: event.message }].slice(-2000);
}
