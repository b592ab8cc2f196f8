// Places for nodes that have none: columns by the longest way from a source, rows by where their wires come from.
import { HEADER, PAD, RAIL } from "./geometry";
import { everyNode, graphAt, INPUTS, joinId, OUTPUTS, splitId } from "./paths";
import type { Registry } from "./registry";
import { buildScene, type Scene } from "./scene";
import type { Workflow } from "./types";

const GAP_X = 64;
const GAP_Y = 28;
const SWEEPS = 6;

export interface Item {
  id: string;
  w: number;
  h: number;
}

/** Column of each item: one more than the largest of those that feed it. Circles are cut where they are met. */
function columns(items: Item[], into: Map<string, string[]>): Map<string, number> {
  const column = new Map<string, number>();
  const open = new Set<string>();
  const visit = (id: string): number => {
    const known = column.get(id);
    if (known !== undefined) return known;
    if (open.has(id)) return -1;
    open.add(id);
    const deepest = (into.get(id) ?? []).filter((source) => splitId(source).name !== INPUTS).reduce((most, source) => Math.max(most, visit(source)), -1);
    open.delete(id);
    column.set(id, deepest + 1);
    return deepest + 1;
  };
  for (const item of items) visit(item.id);
  return column;
}

/** Sources move right, next to the first node that needs them. What is fed itself stays, so that parallel branches lie above each other. */
function pull(items: Item[], column: Map<string, number>, into: Map<string, string[]>, from: Map<string, string[]>): void {
  const isFed = (id: string): boolean => into.get(id)?.some((source) => splitId(source).name !== INPUTS) ?? false;
  const order = [...items].sort((a, b) => (column.get(b.id) ?? 0) - (column.get(a.id) ?? 0));
  for (const { id } of order) {
    if (isFed(id)) continue;
    const needed = (from.get(id) ?? []).map((target) => column.get(target) ?? 0);
    if (needed.length && splitId(id).name !== INPUTS) column.set(id, Math.max(column.get(id) ?? 0, Math.min(...needed) - 1));
  }
}

const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Left upper corners, near (0, 0); the same items and wires always give the same places. */
export function arrange(items: Item[], edges: [string, string][]): Map<string, [number, number]> {
  const known = new Set(items.map((item) => item.id));
  const into = new Map<string, string[]>();
  const from = new Map<string, string[]>();
  for (const [a, b] of edges) {
    if (a === b || !known.has(a) || !known.has(b)) continue;
    into.set(b, [...(into.get(b) ?? []), a]);
    from.set(a, [...(from.get(a) ?? []), b]);
  }
  const column = columns(items, into);
  pull(items, column, into, from);
  const last = Math.max(0, ...column.values());
  for (const { id } of items) if (splitId(id).name === OUTPUTS) column.set(id, last); // what leaves, at the right
  const layers: Item[][] = [];
  for (const item of items) (layers[column.get(item.id) ?? 0] ??= []).push(item);
  const filled = layers.filter((layer) => layer?.length);
  const y = new Map<string, number>();
  const size = new Map(items.map((item) => [item.id, item.h]));
  const centre = (id: string): number => (y.get(id) ?? 0) + (size.get(id) ?? 0) / 2;
  const alone = (item: Item): boolean => !into.has(item.id) && !from.has(item.id);
  const stack = (layer: Item[], wish: (item: Item) => number | undefined): void => {
    const wished = layer.map((item, i) => ({ item, i, at: wish(item) ?? (alone(item) ? Infinity : centre(item.id)) }));
    wished.sort((a, b) => (a.at === b.at ? a.i - b.i : a.at - b.at));
    let next = -Infinity;
    const drifts: number[] = [];
    for (const { item, at } of wished) {
      const top = at === Infinity ? Math.max(next, 0) : Math.max(next, at - item.h / 2);
      if (at !== Infinity) drifts.push(top + item.h / 2 - at);
      y.set(item.id, top);
      next = top + item.h + GAP_Y;
    }
    const drift = drifts.length ? mean(drifts) : 0;
    for (const { item } of wished) y.set(item.id, (y.get(item.id) ?? 0) - drift);
  };
  const by = (near: Map<string, string[]>) => (item: Item): number | undefined => {
    const ids = near.get(item.id);
    return ids ? mean(ids.map(centre)) : undefined;
  };
  filled.forEach((layer) => {
    let top = 0;
    for (const item of layer) {
      y.set(item.id, top);
      top += item.h + GAP_Y;
    }
  });
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    filled.forEach((layer) => stack(layer, by(into)));
    [...filled].reverse().forEach((layer) => stack(layer, by(from)));
  }
  filled.forEach((layer) => stack(layer, by(into)));
  const top = Math.min(...items.map((item) => y.get(item.id) ?? 0));
  const places = new Map<string, [number, number]>();
  let x = 0;
  for (const layer of filled) {
    for (const item of layer) places.set(item.id, [Math.round(x), Math.round((y.get(item.id) ?? 0) - top)]);
    x += Math.max(...layer.map((item) => item.w)) + GAP_X;
  }
  return places;
}

function edgesWithin(scene: Scene, scope: string): [string, string][] {
  return scene.wires
    .filter((wire) => wire.source !== scope && wire.target !== scope)
    .map((wire): [string, string] => [wire.source, wire.target]);
}

/** New places for everything in a scope, innermost loops first, so that each is as large as what it holds. */
export function tidy(doc: Workflow, scope: string, registry: Registry, only?: Set<string>): Record<string, [number, number]> {
  const view = scope.startsWith("#") ? scope.split("/")[0] : "";
  const loops = [...everyNode(doc)].map(([id, spec]) => ({ id, spec })).filter(({ spec }) => spec.body);
  const inner = loops.map(({ id }) => id).filter((id) => (scope ? id.startsWith(`${scope}/`) || id === scope : !id.startsWith("#")));
  const scopes = [...new Set([...(only ? [] : inner.sort((a, b) => b.split("/").length - a.split("/").length)), scope])];
  const positions: Record<string, [number, number]> = { ...doc.ui?.positions };
  for (const here of scopes) {
    const scene = buildScene({ ...doc, ui: { ...doc.ui, positions } }, view, registry);
    const inLoop = here !== view;
    const mine = scene.boxes.filter((box) => (box.kind === "node" || box.kind === "loop" || box.kind === "inputs" || box.kind === "outputs")
      && splitId(box.id).scope === here && (!only || only.has(box.id)));
    if (!mine.length) continue;
    const places = arrange(mine, edgesWithin(scene, here));
    const [dx, dy] = only
      ? [Math.min(...mine.map((box) => box.x)), Math.min(...mine.map((box) => box.y))]
      : inLoop ? [RAIL + PAD + 20, HEADER + PAD] : [0, 0];
    for (const [id, [x, y]] of places) positions[id] = [x + dx, y + dy];
  }
  return positions;
}

/** A document as it is opened: scopes none of whose nodes has a place are laid out. */
export function withPlaces(doc: Workflow, registry: Registry): Workflow {
  const placed = doc.ui?.positions ?? {};
  const scopes = ["", ...Object.keys(doc.definitions ?? {}).map((name) => `#${name}`)];
  let positions: Record<string, [number, number]> = { ...placed };
  for (const scope of scopes) {
    const names = Object.keys(graphAt(doc, scope)?.nodes ?? {});
    const all = [...names, INPUTS, OUTPUTS].map((name) => joinId(scope, name));
    if (all.some((id) => id in placed)) continue;
    positions = { ...positions, ...tidy({ ...doc, ui: { ...doc.ui, positions } }, scope, registry) };
  }
  return { ...doc, ui: { ...doc.ui, positions } };
}
