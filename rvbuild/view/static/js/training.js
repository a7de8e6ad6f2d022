// Training curves: of the training that the workspace shows, or of the one that has begun.
import { byId, element, figure } from "./dom.js";
import { state } from "./state.js";

const SVG = "http://www.w3.org/2000/svg";
const COLORS = ["#1d6fd1", "#d9480f", "#2b8a3e", "#9c36b5", "#0b7285", "#a61e4d"];

export function trainingPanel() {
  const box = byId("training");
  const epochs = state.training.epochs ?? [];
  const begun = state.training.state === "begun";
  if (!epochs.length) {
    box.replaceChildren(element("p", { class: "note" }, "Nothing was trained yet."));
    return;
  }
  const scalars = new Map();
  for (const line of epochs) for (const [name, value] of Object.entries(line.metrics ?? {})) if (typeof value === "number") scalars.set(name.replaceAll("_", " "), [...(scalars.get(name.replaceAll("_", " ")) ?? []), [line.epoch, value]]);
  const losses = new Map([["training", epochs.map((line) => [line.epoch, line.train_loss])], ["validation", epochs.filter((line) => line.val_loss != null).map((line) => [line.epoch, line.val_loss])]]);
  const stale = !begun && state.training.state !== "fresh" ? element("p", { class: "wait" }, `This training is not up to date (${state.training.state}).`) : "";
  box.replaceChildren(stale, element("p", { class: "note" }, begun ? `Not finished: epoch ${epochs.at(-1).epoch} ended at ${new Date(state.training.at * 1000).toLocaleTimeString("en-GB")} (${state.training.path}).` : `${epochs.length} epochs.`), element("h3", {}, "Loss"), chart(losses), scalars.size ? element("h3", {}, "Validation scores") : "", scalars.size ? chart(scalars) : "");
}

function svg(tag, attributes, ...children) {
  const found = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  found.append(...children);
  return found;
}

function chart(lines) {
  const [width, height, left, bottom, top, right] = [380, 190, 46, 22, 10, 10];
  const points = [...lines.values()].flat().filter(([, y]) => Number.isFinite(y));
  if (!points.length) return element("p", { class: "note" }, "no figures");
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [x0, x1] = [Math.min(...xs), Math.max(Math.min(...xs) + 1, ...xs)];
  let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
  if (y1 - y0 < 1e-9) [y0, y1] = [y0 - 0.5, y1 + 0.5];
  const at = ([x, y]) => [left + ((x - x0) / (x1 - x0)) * (width - left - right), height - bottom - ((y - y0) / (y1 - y0)) * (height - bottom - top)];
  const parts = [0, 0.5, 1].flatMap((share) => {
    const y = at([x0, y0 + share * (y1 - y0)])[1];
    return [svg("line", { x1: left, x2: width - right, y1: y, y2: y }), svg("text", { x: left - 5, y: y + 4, "text-anchor": "end" }, (y0 + share * (y1 - y0)).toPrecision(3))];
  });
  parts.push(svg("text", { x: left, y: height - 6 }, `epoch ${x0}`), svg("text", { x: width - right, y: height - 6, "text-anchor": "end" }, String(x1)));
  const names = [...lines.keys()].filter((name) => lines.get(name).length);
  names.forEach((name, index) => {
    const color = COLORS[index % COLORS.length];
    const places = lines.get(name).filter(([, y]) => Number.isFinite(y)).map(at);
    parts.push(svg("polyline", { points: places.map((place) => place.join(",")).join(" "), fill: "none", stroke: color, "stroke-width": 2 }));
    if (places.length < 40) for (const [x, y] of places) parts.push(svg("circle", { cx: x, cy: y, r: 2.5, fill: color }));
  });
  const last = names.map((name) => `${name} ${figure(lines.get(name).at(-1)?.[1])}`).join(", ");
  return element("div", {}, svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Curves; last: ${last}` }, ...parts), element("div", { class: "legend" }, names.map((name, index) => element("span", {}, element("span", { class: "swatch", style: { background: COLORS[index % COLORS.length] } }), `${name} ${figure(lines.get(name).at(-1)?.[1])}`))));
}
