// What the server knows of nodes and types, indexed; which output fits which input, with reasons. Draws nothing.
import type { Family, NodeInfo, PortInfo, SocketShape, TypeInfo } from "./types";

const FALLBACK: TypeInfo = { name: "any", family: "any", shape: "ring", list: false, doc: "" };
const SHAPES: Record<Family, SocketShape> = {
  model: "square", codec: "square", text: "circle", latent: "circle", frames: "circle", schedule: "triangle",
  training: "diamond", audio: "triangle", value: "ring", any: "ring",
};

export interface Registry {
  nodes: NodeInfo[];
  byId: Map<string, NodeInfo>;
  types: Map<string, TypeInfo>;
}

export function makeRegistry(nodes: NodeInfo[], types: TypeInfo[]): Registry {
  return { nodes, byId: new Map(nodes.map((n) => [n.id, n])), types: new Map(types.map((t) => [t.name, t])) };
}

export const EMPTY_REGISTRY = makeRegistry([], []);

/** `Stream[Video]` -> `Video`; undefined where the type is no stream. */
export function itemOf(type: string): string | undefined {
  return type.startsWith("Stream[") ? type.slice(7, -1) : undefined;
}

export function typeInfo(registry: Registry, type: string): TypeInfo {
  const known = registry.types.get(type);
  if (known) return known;
  const item = itemOf(type);
  if (item === undefined) return FALLBACK;
  const inner = typeInfo(registry, item);
  const family = inner.family === "value" ? "schedule" : inner.family;
  return { ...inner, name: type, family, shape: SHAPES[family], list: true };
}

export function isLiteral(type: string): boolean {
  return ["int", "float", "str", "bool"].includes(type) || type.startsWith("list[");
}

function one(type: string): string {
  return `${/^[aeio]/i.test(type) ? "an" : "a"} ${type}`;
}

/** Why an output cannot be wired into an input, or null where it can (the rule of graph_runtime/sockets.py). */
export function misfit(output: string, into: string): string | null {
  if (output === into || output === "any" || into === "any" || (output === "int" && into === "float")) return null;
  const from = itemOf(output);
  const to = itemOf(into);
  if (from !== undefined && to !== undefined) return misfit(from, to);
  if (from !== undefined && misfit(from, into) === null) {
    return `it is ${one(output)}: run a loop over it, each pass gets one ${into}`;
  }
  return `it is ${one(output)}, ${one(into)} is needed`;
}

export const fits = (output: string, into: string): boolean => misfit(output, into) === null;

/** Types that only "any" matches say little: a search by type puts them last. */
export function fitScore(output: string, into: string): number {
  if (!fits(output, into)) return 0;
  if (output === into) return 3;
  return output === "any" || into === "any" ? 1 : 2;
}

export interface Bridge {
  info: NodeInfo;
  input: PortInfo;
  output: string;
}

/** Nodes that turn one type into another in a single step, those that need least else first. */
export function bridges(registry: Registry, output: string, into: string, most = 3): Bridge[] {
  const found: (Bridge & { cost: number })[] = [];
  for (const info of registry.nodes) {
    const input = info.inputs.find((port) => !port.literal && fitScore(output, port.type) >= 2);
    const made = info.outputs.find((port) => fitScore(port.type, into) >= 2);
    if (!input || !made) continue;
    const cost = info.inputs.filter((port) => port.required && port !== input).length + info.outputs.length * 0.1;
    found.push({ info, input, output: made.name, cost });
  }
  return found.sort((a, b) => a.cost - b.cost || a.info.id.localeCompare(b.info.id)).slice(0, most);
}

/** Nodes by how well they answer a search; every word must occur. An empty search finds all, by title. */
export function searchNodes(registry: Registry, text: string, wanted?: (info: NodeInfo) => number): NodeInfo[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const scored: [number, NodeInfo][] = [];
  for (const info of registry.nodes) {
    const fit = wanted ? wanted(info) : 1;
    if (fit <= 0) continue;
    const title = info.title.toLowerCase();
    const rest = `${info.id} ${info.category} ${info.summary}`.toLowerCase();
    let score = fit * 4 + (title === text.toLowerCase().trim() ? 30 : title.startsWith(text.toLowerCase().trim()) ? 12 : 0) - title.length / 20;
    const all = words.every((word) => {
      const gain = title.startsWith(word) ? 9 : title.includes(word) ? 6 : info.id.includes(word) ? 5 : rest.includes(word) ? 1 : 0;
      score += gain;
      return gain > 0;
    });
    if (all) scored.push([score, info]);
  }
  return scored.sort((a, b) => b[0] - a[0] || a[1].title.localeCompare(b[1].title)).map(([, info]) => info);
}
