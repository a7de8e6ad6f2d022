// The suspects that the list and the map show: by kind, score, verdict and scene.
import { state } from "./state.js";

// Colours that people with any colour vision can tell from each other.
export const KINDS = {
  class: { title: "wrong class", color: "#dc267f" },
  spurious: { title: "no object", color: "#fe6100" },
  missing: { title: "missing", color: "#ffb000" },
  outline: { title: "outline", color: "#648fff" },
  duplicate: { title: "duplicate", color: "#b39dff" },
};

export const VERDICTS = { "": "open", accept: "accepted", reject: "rejected" };

export const filter = { kind: "", score: 0, verdict: "open", here: "" };

const fits = (one) =>
  (!filter.kind || one.kind === filter.kind) && one.score >= filter.score && (filter.verdict === "all" || (VERDICTS[one.verdict] ?? "open") === filter.verdict) && (!filter.here || one.scene === state.scene?.id);

// The one that is looked at stays in the list when its verdict no longer fits, until another one is.
export const listed = () => state.suspects.suspects.filter((one) => fits(one) || one.id === state.suspect);
