// Where everything of a scene lies, for those who look it up or paint it themselves: the far view, the minimap, drops on wires.
import { absolute, type Box, type Scene, type Wire } from "./scene";

export interface Placed {
  box: Box;
  x: number;
  y: number;
}

export interface Rect {
  x: number;
  y: number;
  w: number;
  h: number;
}

/** A wire as the points it passes, from its source over its reroutes to its target. */
export interface Line {
  wire: Wire;
  points: [number, number][];
}

const placedOf = new WeakMap<Scene, Placed[]>();
const linesOf = new WeakMap<Scene, Line[]>();

export const isOpen = (box: Box): boolean => box.kind === "loop" || box.kind === "frame";

/** Every box with its place on the canvas, frames and loops first: the order in which they are painted. */
export function placed(scene: Scene): Placed[] {
  let list = placedOf.get(scene);
  if (!list) {
    const rank = (box: Box): number => (box.kind === "frame" ? 0 : box.kind === "loop" ? 1 : 2);
    list = scene.boxes.map((box) => ({ box, ...absolute(scene, box) })).sort((a, b) => rank(a.box) - rank(b.box));
    placedOf.set(scene, list);
  }
  return list;
}

/** Every wire with its points on the canvas. */
export function lines(scene: Scene): Line[] {
  let list = linesOf.get(scene);
  if (!list) {
    const at = new Map(placed(scene).map((p) => [p.box.id, p]));
    const end = (id: string, handle: string): [number, number][] => {
      const p = at.get(id);
      const found = p?.box.handles.find((h) => h.id === handle);
      return p && found ? [[p.x + found.x, p.y + found.y]] : [];
    };
    list = scene.wires.map((wire) => ({ wire, points: [...end(wire.source, wire.sourceHandle), ...wire.via, ...end(wire.target, wire.targetHandle)] }));
    linesOf.set(scene, list);
  }
  return list;
}

/** The box at a point, the inmost where boxes lie in boxes. */
export function hit(scene: Scene, x: number, y: number): string | null {
  return placed(scene).findLast((p) => x >= p.x && y >= p.y && x <= p.x + p.box.w && y <= p.y + p.box.h)?.box.id ?? null;
}

/** The rectangle between two corners, whichever was first. */
export function between(a: { x: number; y: number }, b: { x: number; y: number }): Rect {
  return { x: Math.min(a.x, b.x), y: Math.min(a.y, b.y), w: Math.abs(a.x - b.x), h: Math.abs(a.y - b.y) };
}

/** What lies wholly in a rectangle; what lies in a chosen loop goes with it and is not named again. */
export function within(scene: Scene, rect: Rect): string[] {
  const inside = (p: Placed): boolean => p.x >= rect.x && p.y >= rect.y && p.x + p.box.w <= rect.x + rect.w && p.y + p.box.h <= rect.y + rect.h;
  return topmost(placed(scene).filter(inside).map((p) => p.box.id));
}

/** Ids without those whose loop is among them. */
export function topmost(ids: Iterable<string>): string[] {
  const all = new Set(ids);
  return [...all].filter((id) => !id.split("/").some((_, i, parts) => i > 0 && all.has(parts.slice(0, i).join("/"))));
}
