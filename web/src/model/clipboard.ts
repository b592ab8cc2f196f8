// Copying nodes with their wires, as a piece of a workflow file; pasting gives new names where old ones are taken.
import { freshName, graphAt, joinId, LOOP, nodeAt, nodePath, reference, splitId } from "./paths";
import type { Edit, NodeSpec, Op, Workflow } from "./types";

export interface Clip {
  kineograph: 1;
  nodes: Record<string, NodeSpec>;
  positions: Record<string, [number, number]>;
}

/** The chosen nodes of one scope (that of the first), with the places of what is inside loops. */
export function copy(doc: Workflow, ids: string[]): Clip | null {
  const real = ids.filter((id) => nodeAt(doc, id));
  if (!real.length) return null;
  const { scope } = splitId(real[0]);
  const mine = real.filter((id) => splitId(id).scope === scope);
  const nodes: Clip["nodes"] = {};
  const positions: Clip["positions"] = {};
  const cut = scope ? scope.length + 1 : 0;
  for (const id of mine) {
    nodes[splitId(id).name] = nodeAt(doc, id)!;
    for (const [key, place] of Object.entries(doc.ui?.positions ?? {})) if (key === id || key.startsWith(`${id}/`)) positions[key.slice(cut)] = place;
  }
  return { kineograph: 1, nodes, positions };
}

/** The link in its new place; undefined where what it named is not there. */
function mapped(link: string, names: Map<string, string>, outside: (node: string, whole: string) => boolean): string | undefined {
  const { node, port } = reference(link);
  const next = node ? names.get(node) : undefined;
  if (next) return port ? `${next}.${port}` : next;
  return outside(node, link) ? link : undefined;
}

function mapLinks(links: Record<string, string> | undefined, to: (link: string) => string | undefined, keep: boolean): Record<string, string> | undefined {
  if (!links) return undefined;
  const entries = Object.entries(links).map(([port, link]): [string, string | undefined] => [port, to(link) ?? (keep ? "" : undefined)]);
  return Object.fromEntries(entries.filter((entry): entry is [string, string] => entry[1] !== undefined));
}

/**
 * Put a clip into a scope. `outside`: wires from nodes that were not copied are kept where such a node is there.
 */
export function paste(doc: Workflow, clip: Clip, scope: string, by: [number, number], outside: boolean): Edit & { ids: string[] } {
  const graph = graphAt(doc, scope);
  const taken = new Set(Object.keys(graph?.nodes ?? {}));
  const names = new Map<string, string>();
  for (const name of Object.keys(clip.nodes)) {
    const next = freshName(name, taken);
    taken.add(next);
    names.set(name, next);
  }
  const reachable = (node: string): boolean => outside && (node === "" || (graph !== undefined && node in graph.nodes));
  const to = (link: string): string | undefined => mapped(link, names, reachable);
  const ops: Op[] = [];
  for (const [name, spec] of Object.entries(clip.nodes)) {
    const next: NodeSpec = { ...spec };
    if (spec.links) next.links = mapLinks(spec.links, to, spec.type === LOOP);
    if (spec.carry) next.carry = mapLinks(spec.carry, to, true);
    if (spec.each !== undefined) next.each = to(spec.each) ?? "";
    ops.push({ path: nodePath(joinId(scope, names.get(name)!)), value: next });
  }
  for (const [key, [x, y]] of Object.entries(clip.positions)) {
    const [head, ...rest] = key.split("/");
    const id = joinId(scope, [names.get(head) ?? head, ...rest].join("/"));
    ops.push({ path: ["ui", "positions", id], value: rest.length ? [x, y] : [x + by[0], y + by[1]] });
  }
  const ids = [...names.values()].map((name) => joinId(scope, name));
  return { ids, label: `Paste ${ids.length === 1 ? "node" : `${ids.length} nodes`}`, ops };
}

export function isClip(value: unknown): value is Clip {
  return typeof value === "object" && value !== null && (value as Clip).kineograph === 1 && typeof (value as Clip).nodes === "object";
}
