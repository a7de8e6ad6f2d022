// The map: a scene in its own pixel grid. Latitude is the row and longitude the column, both from the upper left.
import { byId, query } from "./dom.js";
import { state, tell } from "./state.js";

const L = window.L;
const TILE = 256;

const grid = L.extend({}, L.CRS.Simple, { transformation: new L.Transformation(1, 0, 1, 0) });

export const map = L.map("map", {
  crs: grid,
  minZoom: -16,
  maxZoom: 6,
  zoomSnap: 0.25,
  zoomDelta: 0.5,
  wheelPxPerZoomLevel: 120,
  attributionControl: false,
});

export const MISS = "#dc267f";
export const EXTRA = "#ffb000";

// Tiles that the server draws. Zoom 0 is one pixel of the scene on one of the page; below, every second, fourth …
export const Tiles = L.GridLayer.extend({
  initialize(name, height, width, pane) {
    const bounds = [[0, 0], [height, width]];
    L.GridLayer.prototype.initialize.call(this, { tileSize: TILE, bounds, maxNativeZoom: 0, minNativeZoom: -16, minZoom: -16, maxZoom: 6, pane, className: "pixels", keepBuffer: 1, updateWhenZooming: false });
    this.name = name;
    this.parameters = {};
    this.on("tileunload", ({ tile }) => {
      tile.stop?.abort();
      if (tile.src) URL.revokeObjectURL(tile.src);
    });
  },
  ask(parameters) {
    const before = JSON.stringify(this.parameters);
    this.parameters = parameters;
    if (JSON.stringify(parameters) !== before && this._map) this.redraw();
    return this;
  },
  // Between zoom levels, tiles are scaled: they overlap a little, so that no seam shows.
  _initTile(tile) {
    L.GridLayer.prototype._initTile.call(this, tile);
    tile.style.width = tile.style.height = `${TILE + 0.6}px`;
  },
  createTile(place, done) {
    const tile = document.createElement("img");
    tile.alt = "";
    tile.stop = new AbortController();
    const address = `/tile/${this.name}/${2 ** -place.z}/${place.y}/${place.x}?${query(this.parameters)}`;
    fetch(address, { signal: tile.stop.signal })
      .then(async (answer) => {
        if (answer.status === 204) return done(null, tile);
        if (!answer.ok) throw new Error((await answer.json()).error);
        tile.onload = () => done(null, tile);
        tile.src = URL.createObjectURL(await answer.blob());
      })
      .catch((error) => {
        if (error.name === "AbortError") return;
        tell("layer-error", { name: this.name, message: error.message });
        done(error, tile);
      });
    return tile;
  },
});

// Shapes that the page draws: [x0, y0, x1, y1, style, rings] in pixels of the scene, tile by tile on canvases. Without
// rings, boxes.
export const Shapes = L.GridLayer.extend({
  initialize(height, width, pane) {
    L.GridLayer.prototype.initialize.call(this, { tileSize: TILE, minZoom: -16, maxZoom: 6, pane, keepBuffer: 1, updateWhenZooming: false });
    this.shapes = [];
  },
  show(shapes) {
    this.shapes = shapes;
    if (this._map) this.redraw();
    return this;
  },
  createTile(place) {
    const canvas = document.createElement("canvas");
    const ratio = window.devicePixelRatio || 1;
    canvas.width = canvas.height = TILE * ratio;
    const pen = canvas.getContext("2d");
    const scale = 2 ** place.z;
    const [left, top] = [place.x * TILE, place.y * TILE];
    pen.scale(ratio, ratio);
    for (const [x0, y0, x1, y1, style, rings] of this.shapes) {
      const [a, b, c, d] = [x0 * scale - left, y0 * scale - top, x1 * scale - left, y1 * scale - top];
      if (c < -6 || d < -6 || a > TILE + 6 || b > TILE + 6) continue;
      const path = new Path2D();
      if (!rings) path.rect(a, b, c - a, d - b);
      for (const ring of rings ?? []) {
        for (const [x, y] of ring) path.lineTo(x * scale - left, y * scale - top);
        path.closePath();
      }
      if (style.fill) {
        pen.fillStyle = style.fill;
        pen.fill(path, "evenodd");
      }
      if (style.line) {
        const width = style.edge === false ? 1 : (style.width ?? 2);
        pen.setLineDash(style.dash ?? []);
        pen.lineWidth = width + 2;
        pen.strokeStyle = "#000a";
        if (style.edge !== false) pen.stroke(path);
        pen.lineWidth = width;
        pen.strokeStyle = style.line;
        pen.stroke(path);
      }
      if (style.text) {
        pen.font = "bold 13px sans-serif";
        pen.setLineDash([]);
        pen.lineWidth = 3;
        pen.strokeStyle = "#000c";
        pen.strokeText(style.text, a + 5, b + 16);
        pen.fillStyle = "#ffffff";
        pen.fillText(style.text, a + 5, b + 16);
      }
    }
    return canvas;
  },
});

let mark = null;

export function fit() {
  if (!state.scene) return;
  map.fitBounds([[0, 0], [state.scene.height, state.scene.width]], { animate: false, padding: [8, 8] });
}

// Shows a window [x0, y0, x1, y1], with some of what is around it.
export function zoomTo([x0, y0, x1, y1], marked = true) {
  const margin = Math.max(x1 - x0, y1 - y0, 24) * (marked ? 0.6 : 1.2);
  map.fitBounds([[y0 - margin, x0 - margin], [y1 + margin, x1 + margin]], { animate: false, maxZoom: marked ? 4 : 3 });
  unmark();
  if (marked) mark = L.rectangle([[y0, x0], [y1, x1]], { color: "#ffffff", weight: 3, dashArray: "6 6", fill: false, interactive: false }).addTo(map);
}

export function unmark() {
  mark?.remove();
  mark = null;
}

// Where a pixel lies in the CRS of the scene, as a text.
export function placeText(x, y) {
  const scene = state.scene;
  const [a, b, c, d, e, f] = scene.transform;
  const pixel = `column ${Math.floor(x)}, row ${Math.floor(y)}`;
  if (!scene.crs && a === 1 && e === 1 && !b && !c && !d && !f) return pixel;
  const digits = scene.geographic ? 7 : 2;
  return `${pixel} · ${(a * x + b * y + c).toFixed(digits)}, ${(d * x + e * y + f).toFixed(digits)} ${scene.crs ?? ""}`;
}

map.on("mousemove", ({ latlng }) => {
  if (!state.scene) return;
  const inside = latlng.lat >= 0 && latlng.lng >= 0 && latlng.lat < state.scene.height && latlng.lng < state.scene.width;
  byId("cursor").textContent = inside ? placeText(latlng.lng, latlng.lat) : "";
});


