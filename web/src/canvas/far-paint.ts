// The painting of the far view: what has one colour is one path, made once for each scene. Knows no window and no pointer.
import { isOpen, lines, placed, type Placed, type Rect } from "../model/places";
import { typeInfo, type Registry } from "../model/registry";
import type { Scene } from "../model/scene";
import type { Live } from "../store/runs";

type Colors = Record<string, string>;

interface Drawing {
  registry: Registry;
  wires: Map<string, Path2D>;
  heads: Map<string, Path2D>;
  boxes: Path2D;
}

const drawings = new WeakMap<Scene, Drawing>();
const TITLES_FROM = 0.1;
const HEAD = 30;

export function readColors(): Colors {
  const style = getComputedStyle(document.documentElement);
  const families = ["model", "text", "latent", "frames", "codec", "schedule", "training", "audio", "value", "any"];
  const names = [...families.map((family) => `fam-${family}`), "node", "header", "border", "text", "muted", "accent", "error", "ok", "panel"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function pathOf(paths: Map<string, Path2D>, key: string): Path2D {
  let path = paths.get(key);
  if (!path) paths.set(key, (path = new Path2D()));
  return path;
}

const isPlain = ({ box }: Placed): boolean => !isOpen(box) && !box.spec?.mode;

function drawingOf(scene: Scene, registry: Registry): Drawing {
  const known = drawings.get(scene);
  if (known?.registry === registry) return known;
  const family = (type: string): string => typeInfo(registry, type).family;
  const made: Drawing = { registry, wires: new Map(), heads: new Map(), boxes: new Path2D() };
  for (const { wire, points } of lines(scene)) {
    const path = pathOf(made.wires, family(wire.type));
    points.forEach(([x, y], i) => {
      if (!i) return path.moveTo(x, y);
      const [x0, y0] = points[i - 1];
      const bend = Math.max(30, Math.min(Math.abs(x - x0) * 0.5, 120));
      path.bezierCurveTo(x0 + bend, y0, x - bend, y, x, y);
    });
  }
  for (const at of placed(scene)) {
    if (!isPlain(at)) continue;
    made.boxes.roundRect(at.x, at.y, at.box.w, at.box.h, 10);
    pathOf(made.heads, family(at.box.family)).rect(at.x + 3, at.y, at.box.w - 6, HEAD);
  }
  drawings.set(scene, made);
  return made;
}

export interface Look {
  colors: Colors;
  registry: Registry;
  live: Record<string, Live>;
  selection: ReadonlySet<string>;
}

/** Paint a scene; sizes are in canvas units, the transform is already set. Only titles ask what lies in the window. */
export function paint(c: CanvasRenderingContext2D, scene: Scene, seen: Rect, zoom: number, look: Look): void {
  const { colors, live, selection, registry } = look;
  const drawing = drawingOf(scene, registry);
  const all = placed(scene);
  const shown = all.filter(({ box, x, y }) => x < seen.x + seen.w && x + box.w > seen.x && y < seen.y + seen.h && y + box.h > seen.y);
  for (const at of shown) if (isOpen(at.box)) drawOpen(c, at, zoom, look);
  c.lineWidth = Math.max(1.6, 1 / zoom);
  for (const [key, path] of drawing.wires) {
    c.globalAlpha = key === "value" ? 0.4 : 0.85;
    c.strokeStyle = colors[`fam-${key}`] || colors.muted;
    c.stroke(path);
  }
  c.globalAlpha = 1;
  c.fillStyle = colors.node;
  c.fill(drawing.boxes);
  c.lineWidth = 1 / zoom;
  c.strokeStyle = colors.border;
  c.stroke(drawing.boxes);
  for (const [key, path] of drawing.heads) {
    c.fillStyle = colors[`fam-${key}`] || colors.muted;
    c.fill(path);
  }
  for (const at of shown) {
    if (!isOpen(at.box) && at.box.spec?.mode) drawOff(c, at, look);
    const state = live[at.box.id]?.state;
    const chosen = selection.has(at.box.id) || state === "running";
    if (!chosen && state !== "failed") continue;
    c.lineWidth = 3 / zoom;
    c.strokeStyle = chosen ? colors.accent : colors.error;
    c.strokeRect(at.x, at.y, at.box.w, at.box.h);
  }
  if (zoom > TITLES_FROM) drawTitles(c, shown, zoom, look);
}

/** A loop or frame: what lies in it shows through. */
function drawOpen(c: CanvasRenderingContext2D, { box, x, y }: Placed, zoom: number, { colors, registry }: Look): void {
  c.beginPath();
  c.roundRect(x, y, box.w, box.h, 10);
  c.globalAlpha = 0.35;
  c.fillStyle = colors.panel;
  c.fill();
  c.globalAlpha = 1;
  c.lineWidth = 1 / zoom;
  c.strokeStyle = colors[`fam-${box.kind === "frame" ? box.color : typeInfo(registry, box.family).family}`] || colors.muted;
  c.stroke();
}

/** A node that is muted or bypassed, faint. */
function drawOff(c: CanvasRenderingContext2D, { box, x, y }: Placed, { colors, registry }: Look): void {
  c.globalAlpha = 0.45;
  c.fillStyle = colors.node;
  c.fillRect(x, y, box.w, box.h);
  c.fillStyle = colors[`fam-${typeInfo(registry, box.family).family}`] || colors.muted;
  c.fillRect(x + 3, y, box.w - 6, HEAD);
  c.globalAlpha = 1;
}

function drawTitles(c: CanvasRenderingContext2D, shown: Placed[], zoom: number, { colors, live }: Look): void {
  const size = Math.min(15 / zoom / 1.25, 34);
  c.font = `600 ${size}px Inter, system-ui, sans-serif`;
  for (const { box, x, y } of shown) {
    const state = live[box.id]?.state;
    c.fillStyle = state === "cached" || state === "done" ? colors.ok : colors.text;
    c.fillText(box.title, x + 12, y + HEAD + size * 1.1, box.w - 24);
  }
}
