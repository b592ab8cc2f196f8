// Wiring two ends together: which operations do it, or why not and what would help. Loops are entered through their links.
import { bridges, itemOf, misfit, type Bridge } from "./registry";
import type { Types } from "./infer";
import { freshName, graphAt, INPUTS, isWithin, joinId, linkKeys, LOOP, nodeAt, nodePath, OUTPUTS, reference, scopePath, splitId, wiresOf } from "./paths";
import type { Edit, End, Op } from "./types";

export interface Refusal {
  reason: string;
  bridges: Bridge[];
}

export type Wiring = { edit: Edit } | { refusal: Refusal };

interface Source {
  scope: string;
  link: string;
  type: string;
  wanted: string;
}

/** Scope, link and type of where a wire begins. */
export function sourceOf(types: Types, from: End): Source {
  const { scope, name } = splitId(from.id);
  const port = from.handle.slice(2);
  const type = types.ofHandle(from.id, from.handle);
  if (from.handle.startsWith("s:")) return { scope: name === INPUTS ? scope : from.id, link: `$${port}`, type, wanted: port };
  return { scope, link: types.linkTo(from.id, port), type, wanted: port === "output" ? name : port };
}

/** The graph in which a wire's end is looked up. */
function targetScope(to: End): string {
  const { scope, name } = splitId(to.id);
  return to.handle.startsWith("t:") && name !== OUTPUTS ? to.id : scope;
}

/** Whether a node is needed, directly or not, by another of its graph. */
function leadsTo(types: Types, scope: string, from: string, to: string): boolean {
  const nodes = graphAt(types.doc, scope)?.nodes ?? {};
  const seen = new Set<string>();
  const visit = (name: string): boolean => {
    if (name === from) return true;
    if (seen.has(name) || !nodes[name]) return false;
    seen.add(name);
    return wiresOf(nodes[name]).some(([, link]) => visit(reference(link).node));
  };
  return visit(to);
}

/** Links that bring a value into the loops between two scopes; the link's name in the inner one. */
function bringInto(types: Types, source: Source, scope: string): { link: string; ops: Op[] } {
  let { link } = source;
  const ops: Op[] = [];
  const between = scope.slice(source.scope.length).split("/").filter(Boolean);
  let loop = source.scope;
  for (const part of between) {
    loop = joinId(loop, part);
    const spec = nodeAt(types.doc, loop);
    if (!spec) continue;
    const known = Object.entries(spec.links ?? {}).find(([, given]) => given === link)?.[0];
    const taken = ["each", "item", "index", ...Object.keys(spec.carry ?? {}), ...Object.keys(spec.links ?? {})];
    const name = known ?? freshName(source.wanted, taken);
    if (!known) ops.push({ path: [...nodePath(loop), "links", name], value: link });
    link = `$${name}`;
  }
  return { link, ops };
}

const refuse = (reason: string, found: Bridge[] = []): Wiring => ({ refusal: { reason, bridges: found } });

/** Why the two types do not meet, with nodes that would lie between. */
function typeRefusal(types: Types, type: string, into: string): Wiring {
  const reason = misfit(type, into) ?? "";
  return refuse(`This does not fit: ${reason}.`, bridges(types.registry, type, into));
}

export function connect(types: Types, from: End, to: End): Wiring {
  const source = sourceOf(types, from);
  const scope = targetScope(to);
  const port = to.handle.slice(2);
  const { name: targetName } = splitId(to.id);
  if (!isWithin(scope, source.scope)) {
    return refuse("This value lives inside a loop: a wire leaves it only at the loop's right edge, as a carry or collected.");
  }
  if (scope.startsWith("#") !== source.scope.startsWith("#")) return refuse("A definition is a graph of its own: give it an input.");
  if (from.handle.startsWith("o:") && source.scope === scope) {
    const { name } = splitId(from.id);
    if (to.handle.startsWith("i:") && (name === targetName || leadsTo(types, scope, targetName, name))) {
      return refuse("That would be a circle: a graph runs from left to right. A loop's carry feeds a value back.");
    }
  }
  const inner = bringInto(types, source, scope);
  const named = `Connect ${source.wanted.replace(/_/g, " ")}`;
  if (to.handle.startsWith("t:")) return atEdge(types, source.type, to, scope, port, inner.link, inner.ops, named);
  const spec = nodeAt(types.doc, to.id);
  if (!spec) return refuse("There is no such node any more.");
  if (spec.type === LOOP && port === "+") {
    const taken = ["each", "item", "index", ...Object.keys(spec.carry ?? {}), ...Object.keys(spec.links ?? {})];
    const name = freshName(source.wanted, taken);
    return { edit: { label: `Bring ${name} into the loop`, ops: [...inner.ops, { path: [...nodePath(to.id), "links", name], value: inner.link }] } };
  }
  if (spec.type === LOOP && port === "each" && itemOf(source.type) === undefined && source.type !== "any") {
    return refuse(`A loop runs over a stream; this is ${source.type}.`, bridges(types.registry, source.type, "Stream[any]"));
  }
  if (spec.type !== LOOP) {
    const into = types.ofHandle(to.id, to.handle);
    if (misfit(source.type, into) !== null) return typeRefusal(types, source.type, into);
  }
  const ops: Op[] = [...inner.ops, { path: [...nodePath(to.id), ...linkKeys(spec, port)], value: inner.link }];
  if (spec.params && port in spec.params) ops.push({ path: [...nodePath(to.id), "params", port], value: undefined });
  return { edit: { label: named, ops } };
}

/** A wire that ends at the right edge of a loop's body, or at the outputs of the whole graph. */
function atEdge(types: Types, type: string, to: End, scope: string, port: string, link: string, ops: Op[], label: string): Wiring {
  const spec = nodeAt(types.doc, scope);
  const known = Object.keys(graphAt(types.doc, scope)?.outputs ?? {});
  const name = port === "+" ? freshName(link.replace("$", "").replace(".", "_"), known) : port;
  const path = [...scopePath(scope), "outputs", name];
  if (!spec) {
    const isDefinition = scope.startsWith("#");
    return { edit: { label, ops: [...ops, { path, value: isDefinition ? { type, link } : link }] } };
  }
  if (spec.carry && name in spec.carry) {
    const into = types.inputsOf(scope).get(name) ?? "any";
    if (misfit(type, into) !== null) return typeRefusal(types, type, into);
  }
  const made: Op[] = [...ops, { path, value: link }];
  if (port === "+") made.push({ path: [...nodePath(to.id), "collect"], value: [...(spec.collect ?? []), name] });
  return { edit: { label: port === "+" ? `Collect ${name}` : label, ops: made } };
}

/** Take a wire away. Where the file needs a name to stay (a carry), its link is left empty, which the check will name. */
export function disconnect(types: Types, to: End): Edit {
  const scope = targetScope(to);
  const port = to.handle.slice(2);
  const label = `Disconnect ${port}`;
  if (to.handle.startsWith("t:")) {
    const spec = nodeAt(types.doc, scope);
    const path = [...scopePath(scope), "outputs", port];
    if (spec?.carry && port in spec.carry) return { label, ops: [{ path, value: "" }] };
    const ops: Op[] = [{ path, value: undefined }];
    if (spec?.collect?.includes(port)) ops.push({ path: [...nodePath(to.id), "collect"], value: spec.collect.filter((n) => n !== port) });
    return { label, ops };
  }
  const spec = nodeAt(types.doc, to.id);
  if (!spec) return { label, ops: [] };
  const keys = linkKeys(spec, port);
  return { label, ops: [{ path: [...nodePath(to.id), ...keys], value: keys[0] === "carry" ? "" : undefined }] };
}

/** Every way to wire a node's free inputs or outputs, for those who do not drag: nearest types first. */
export function partners(types: Types, id: string, scene: { boxes: { id: string; title: string; handles: { id: string; type: string; socket: string }[] }[] }): { from: End; to: End; text: string }[] {
  const mine = scene.boxes.find((box) => box.id === id);
  if (!mine) return [];
  const found: { from: End; to: End; text: string; score: number }[] = [];
  for (const handle of mine.handles) {
    for (const other of scene.boxes) {
      for (const far of other.handles) {
        if (far.type === handle.type || (other.id === id && !id)) continue;
        const [from, to] = handle.type === "source" ? [{ id, handle: handle.id }, { id: other.id, handle: far.id }] : [{ id: other.id, handle: far.id }, { id, handle: handle.id }];
        const [out, into] = handle.type === "source" ? [handle.socket, far.socket] : [far.socket, handle.socket];
        if (misfit(out, into) !== null || "refusal" in connect(types, from, to)) continue;
        const exact = out === into ? 2 : out === "any" || into === "any" ? 0 : 1;
        const ending = (end: End) => end.handle.slice(2).replace("output", "").replace("+", "new");
        const name = (end: End) => `${splitId(end.id).name}${ending(end) ? `.${ending(end)}` : ""}`;
        found.push({ from, to, text: `${name(from)} → ${name(to)}`, score: exact });
      }
    }
  }
  return found.sort((a, b) => b.score - a.score || a.text.localeCompare(b.text));
}
