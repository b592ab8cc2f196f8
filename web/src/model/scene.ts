// A document as boxes and wires with their places: what both the near view (React Flow) and the far view (one canvas) draw.
import { HEADER, PAD, RAIL, railHandles, railsOf, ROW, FIELD, shapeOf, WIDTH, type Handle, type Rails, type Shape } from "./geometry";
import { Types, type Ports } from "./infer";
import { graphAt, INPUTS, joinId, LOOP, OUTPUTS, reference, splitId, wiresOf } from "./paths";
import type { Registry } from "./registry";
import type { InputSpec, NodeInfo, NodeSpec, Workflow } from "./types";

export interface Box {
  id: string;
  kind: "node" | "loop" | "inputs" | "outputs" | "note" | "frame";
  parent?: string;
  x: number;
  y: number;
  w: number;
  h: number;
  handles: Handle[];
  title: string;
  family: string;
  spec?: NodeSpec;
  info?: NodeInfo;
  ports?: Ports;
  shape?: Shape;
  rails?: Rails;
  inputs?: [string, InputSpec][];
  outputs?: [string, string][];
  text?: string;
  color?: string;
  collapsed: boolean;
}

export interface Wire {
  id: string;
  source: string;
  sourceHandle: string;
  target: string;
  targetHandle: string;
  type: string;
  via: [number, number][];
  off: boolean;
}

export interface Scene {
  scope: string;
  boxes: Box[];
  wires: Wire[];
  byId: Map<string, Box>;
  types: Types;
}

const shapes = new WeakMap<NodeSpec, { info: NodeInfo; collapsed: boolean; shape: Shape }>();

function shapeFor(spec: NodeSpec, ports: Ports, info: NodeInfo | undefined, collapsed: boolean): Shape {
  if (!info) return shapeOf(spec, ports, false, collapsed);
  const known = shapes.get(spec);
  if (known && known.info === info && known.collapsed === collapsed) return known.shape;
  const shape = shapeOf(spec, ports, info.effect, collapsed);
  shapes.set(spec, { info, collapsed, shape });
  return shape;
}

/** The family a node is coloured by: what it makes, else what it takes. */
function mainType(ports: Ports): string {
  return ports.outputs[0]?.type ?? ports.inputs.find((port) => !port.literal)?.type ?? "any";
}

export function buildScene(doc: Workflow, scope: string, registry: Registry): Scene {
  const types = new Types(doc, registry);
  const boxes: Box[] = [];
  const wires: Wire[] = [];
  const folded = new Set(doc.ui?.collapsed ?? []);
  const places = doc.ui?.positions ?? {};
  const place = (id: string, i: number): [number, number] => places[id] ?? [40 + (i % 8) * 290, 40 + Math.floor(i / 8) * 260];

  const wire = (target: string, targetHandle: string, inScope: string, link: string, id: string, off = false): void => {
    if (!link) return;
    const { node, port } = reference(link);
    const shared = { id, target, targetHandle, type: types.ofLink(inScope, link), via: doc.ui?.reroutes?.[id] ?? [], off };
    if (!node) {
      const isLoop = inScope !== scope;
      wires.push({ ...shared, source: isLoop ? inScope : joinId(scope, INPUTS), sourceHandle: `s:${port}` });
      return;
    }
    const source = joinId(inScope, node);
    const output = port || types.portsOf(source).outputs[0]?.name || "output";
    wires.push({ ...shared, source, sourceHandle: `o:${output}` });
  };

  const nodeBox = (id: string, spec: NodeSpec, i: number, parent: string | undefined): Box => {
    const ports = types.portsOf(id);
    const info = registry.byId.get(spec.type);
    const collapsed = folded.has(id);
    const [x, y] = place(id, i);
    const title = spec.title || (spec.type === LOOP ? splitId(id).name : ports.title) || spec.type;
    const base = { id, parent, x, y, title, family: mainType(ports), spec, info, ports, collapsed };
    if (spec.type === LOOP && !collapsed) {
      const rails = railsOf(spec, ports, types.inputsOf(id));
      const box: Box = { ...base, kind: "loop", w: 0, h: 0, handles: [], rails };
      boxes.push(box);
      const inner = fill(id, spec.body?.nodes ?? {}, id);
      const rows = Math.max(rails.left.length, rails.right.length);
      box.w = Math.max(inner.w + RAIL + PAD, 2 * RAIL + 260);
      box.h = Math.max(inner.h + PAD, HEADER + 28 + rows * ROW);
      box.handles = railHandles(rails, box.w);
      for (const [name, link] of Object.entries(spec.body?.outputs ?? {})) wire(id, `t:${name}`, id, link, `${id}/outputs.${name}`);
      return box;
    }
    const shape = shapeFor(spec, ports, spec.type === LOOP ? undefined : info, collapsed && spec.type !== LOOP);
    const box: Box = { ...base, kind: "node", w: shape.w, h: shape.h, handles: shape.handles, shape };
    boxes.push(box);
    return box;
  };

  /** Put a graph's nodes; how far they reach, relative to their parent. */
  const fill = (inScope: string, nodes: Record<string, NodeSpec>, parent: string | undefined): { w: number; h: number } => {
    let w = 0;
    let h = 0;
    const mine: Box[] = [];
    Object.entries(nodes).forEach(([name, spec], i) => {
      const id = joinId(inScope, name);
      const box = nodeBox(id, spec, i, parent);
      mine.push(box);
      w = Math.max(w, box.x + box.w);
      h = Math.max(h, box.y + box.h);
      for (const [port, link] of wiresOf(spec)) wire(id, `i:${port}`, inScope, link, `${id}.${port}`, spec.mode !== undefined);
    });
    for (const [key, frame] of Object.entries(doc.ui?.frames ?? {})) {
      const owned = mine.filter((box) => frame.nodes.includes(box.id));
      if (!owned.length) continue;
      const x = Math.min(...owned.map((box) => box.x)) - 24;
      const y = Math.min(...owned.map((box) => box.y)) - 24;
      const box: Box = {
        id: `$frame:${key}`, kind: "frame", parent, x, y, handles: [], title: frame.title, family: "any", color: frame.color, collapsed: false,
        w: Math.max(...owned.map((b) => b.x + b.w)) + 24 - x, h: Math.max(...owned.map((b) => b.y + b.h)) + 24 - y,
      };
      boxes.push(box);
    }
    return { w, h };
  };

  const graph = graphAt(doc, scope);
  fill(scope, graph?.nodes ?? {}, undefined);
  edgeBoxes(doc, scope, boxes, types, wire);
  if (!scope) notes(doc, boxes);
  const byId = new Map(boxes.map((box) => [box.id, box]));
  const has = new Map(boxes.map((box) => [box.id, new Set(box.handles.map((handle) => handle.id))]));
  const whole = wires.filter((w) => has.get(w.source)?.has(w.sourceHandle) && has.get(w.target)?.has(w.targetHandle));
  return { scope, boxes, wires: whole, byId, types };
}

type Put = (target: string, handle: string, scope: string, link: string, id: string) => void;

/** The nodes at the edges of a graph: its inputs with their defaults, its outputs. */
function edgeBoxes(doc: Workflow, scope: string, boxes: Box[], types: Types, wire: Put): void {
  const all = boxes.filter((box) => !box.parent);
  const free = Math.max(40, ...all.map((box) => box.x + box.w + 64)); // right of all that lies there, so that nothing is covered
  const inputs = Object.entries((scope ? doc.definitions?.[scope.slice(1)]?.inputs : doc.inputs) ?? {});
  const outputs = Object.entries(types.outputsOfScope(scope));
  if (inputs.length || scope) {
    const id = joinId(scope, INPUTS);
    const [x, y] = doc.ui?.positions?.[id] ?? [Math.min(40, ...all.map((box) => box.x - WIDTH - 64)), 40];
    const handles = inputs.map(([name, spec], i): Handle => ({
      id: `s:${name}`, type: "source", side: "right", x: WIDTH, y: HEADER + 8 + i * FIELD + 13, socket: spec.type,
    }));
    boxes.push({ id, kind: "inputs", x, y, w: WIDTH, h: HEADER + 14 + Math.max(1, inputs.length) * FIELD, handles, title: "Inputs", family: "value", inputs, collapsed: false });
  }
  const id = joinId(scope, OUTPUTS);
  const [x, y] = doc.ui?.positions?.[id] ?? [free, 40];
  const rows = [...outputs.map(([name]) => name), "+"];
  const handles = rows.map((name, i): Handle => ({
    id: `t:${name}`, type: "target", side: "left", x: 0, y: HEADER + 6 + i * ROW + ROW / 2,
    socket: name === "+" ? "any" : types.ofLink(scope, outputs.find(([n]) => n === name)?.[1] ?? ""),
  }));
  boxes.push({ id, kind: "outputs", x, y, w: 170, h: HEADER + 14 + rows.length * ROW, handles, title: "Outputs", family: "any", outputs, collapsed: false });
  for (const [name, link] of outputs) wire(id, `t:${name}`, scope, link, `${joinId(scope, "outputs")}.${name}`);
}

function notes(doc: Workflow, boxes: Box[]): void {
  for (const [key, note] of Object.entries(doc.ui?.notes ?? {})) {
    boxes.push({
      id: `$note:${key}`, kind: "note", x: note.at[0], y: note.at[1], w: note.size[0], h: note.size[1],
      handles: [], title: "Note", family: "any", text: note.text, collapsed: false,
    });
  }
}

/** Where a box lies on the canvas, whatever it stands in. */
export function absolute(scene: Scene, box: Box): { x: number; y: number } {
  let { x, y } = box;
  for (let parent = box.parent ? scene.byId.get(box.parent) : undefined; parent; parent = parent.parent ? scene.byId.get(parent.parent) : undefined) {
    x += parent.x;
    y += parent.y;
  }
  return { x, y };
}

export function bounds(scene: Scene, ids?: Iterable<string>): { x: number; y: number; w: number; h: number } {
  const boxes = ids ? [...ids].map((id) => scene.byId.get(id)).filter((box) => box !== undefined) : scene.boxes.filter((box) => !box.parent);
  if (!boxes.length) return { x: 0, y: 0, w: 400, h: 300 };
  const at = boxes.map((box) => ({ ...absolute(scene, box), w: box.w, h: box.h }));
  const x = Math.min(...at.map((b) => b.x));
  const y = Math.min(...at.map((b) => b.y));
  return { x, y, w: Math.max(...at.map((b) => b.x + b.w)) - x, h: Math.max(...at.map((b) => b.y + b.h)) - y };
}

/** A loop's body lies right of its rail and below its header. */
export function clampInside(id: string, x: number, y: number): [number, number] {
  const { scope } = splitId(id);
  const inLoop = scope !== "" && !(scope.startsWith("#") && !scope.includes("/"));
  return inLoop ? [Math.max(RAIL + PAD, Math.round(x)), Math.max(HEADER + PAD / 2, Math.round(y))] : [Math.round(x), Math.round(y)];
}
