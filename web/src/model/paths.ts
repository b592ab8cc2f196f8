// Names of places in a workflow: links, node paths, handles, and where they lie in the JSON. Knows no types of sockets.
import type { Body, Definition, NodeSpec, Workflow } from "./types";

export const LOOP = "loop@1";
export const BRANCH = "branch@1";
export const NAME = /^[A-Za-z_][A-Za-z0-9_-]{0,127}$/;

export interface Reference {
  node: string;
  port: string;
}

/** `$x` has an empty node; a link without a port means the node's only output. */
export function reference(link: string): Reference {
  if (link.startsWith("$")) return { node: "", port: link.slice(1) };
  const dot = link.indexOf(".");
  return dot < 0 ? { node: link, port: "" } : { node: link.slice(0, dot), port: link.slice(dot + 1) };
}

/** `denoise/step` lies in the scope `denoise`, `#name@1/step` in `#name@1`, `noise` in the root (empty). */
export function splitId(id: string): { scope: string; name: string } {
  const cut = id.lastIndexOf("/");
  return cut < 0 ? { scope: "", name: id } : { scope: id.slice(0, cut), name: id.slice(cut + 1) };
}

export function joinId(scope: string, name: string): string {
  return scope ? `${scope}/${name}` : name;
}

/** Whether a scope is another or lies inside it. */
export function isWithin(scope: string, outer: string): boolean {
  if (scope === outer) return true;
  return outer === "" ? !scope.startsWith("#") : scope.startsWith(`${outer}/`);
}

/** Keys that lead from the document to the object that holds a scope's nodes and outputs. */
export function scopePath(scope: string): string[] {
  if (!scope) return [];
  const parts = scope.split("/");
  const path = parts[0].startsWith("#") ? ["definitions", parts[0].slice(1)] : ["nodes", parts[0], "body"];
  for (const part of parts.slice(1)) path.push("nodes", part, "body");
  return path;
}

export function nodePath(id: string): string[] {
  const { scope, name } = splitId(id);
  return [...scopePath(scope), "nodes", name];
}

export type Graph = Pick<Body, "nodes"> & { outputs?: Body["outputs"] | Definition["outputs"] };

export function graphAt(doc: Workflow, scope: string): Graph | undefined {
  let here: unknown = doc;
  for (const key of scopePath(scope)) here = (here as Record<string, unknown> | undefined)?.[key];
  return here as Graph | undefined;
}

export function nodeAt(doc: Workflow, id: string): NodeSpec | undefined {
  const { scope, name } = splitId(id);
  return graphAt(doc, scope)?.nodes[name];
}

/** Every (input, link) of a node; a loop's stream is its input `each`. */
export function wiresOf(spec: NodeSpec): [string, string][] {
  const loop: [string, string][] = spec.type === LOOP ? [["each", spec.each ?? ""], ...Object.entries(spec.carry ?? {})] : [];
  return [...loop, ...Object.entries(spec.links ?? {})];
}

/** Keys from the node to where an input's link stands. */
export function linkKeys(spec: NodeSpec, port: string): string[] {
  if (spec.type === LOOP && port === "each") return ["each"];
  if (spec.type === LOOP && spec.carry && port in spec.carry) return ["carry", port];
  return ["links", port];
}

/** A name that is not taken: `noise`, `noise_2`, `noise_3`, ... */
export function freshName(wanted: string, taken: Iterable<string>): string {
  const used = new Set(taken);
  const base = wanted.replace(/[^A-Za-z0-9_-]/g, "_").replace(/^[^A-Za-z_]+/, "") || "node";
  if (!used.has(base)) return base;
  const stem = base.replace(/_\d+$/, "");
  let n = 2;
  while (used.has(`${stem}_${n}`)) n++;
  return `${stem}_${n}`;
}

export const INPUTS = "$in";
export const OUTPUTS = "$out";

/** All nodes of a document with their paths, loops before what they hold. */
export function* everyNode(doc: Workflow): Generator<[string, NodeSpec]> {
  function* walk(scope: string, nodes: Record<string, NodeSpec>): Generator<[string, NodeSpec]> {
    for (const [name, spec] of Object.entries(nodes)) {
      const id = joinId(scope, name);
      yield [id, spec];
      if (spec.body) yield* walk(id, spec.body.nodes);
    }
  }
  yield* walk("", doc.nodes);
  for (const [name, definition] of Object.entries(doc.definitions ?? {})) yield* walk(`#${name}`, definition.nodes);
}
