// Chosen nodes become a definition, a graph of its own with inputs and outputs, and one node that stands for it; other names for it.
import { everyNode, freshName, graphAt, joinId, linkKeys, LOOP, NAME, nodeAt, nodePath, reference, scopePath, splitId, wiresOf } from "./paths";
import type { Types } from "./infer";
import type { Definition, Edit, NodeSpec, Op, Workflow } from "./types";

/** Whether a node that is not chosen lies between chosen ones: the definition would then feed itself. */
function isTorn(types: Types, scope: string, chosen: Set<string>): boolean {
  const nodes = graphAt(types.doc, scope)?.nodes ?? {};
  const needs = (name: string, seen: Set<string>): boolean => wiresOf(nodes[name]).some(([, link]) => {
    const { node } = reference(link);
    if (!node || !nodes[node] || seen.has(node)) return false;
    if (chosen.has(node)) return true;
    return needs(node, seen.add(node));
  });
  const outside = [...chosen].flatMap((name) => wiresOf(nodes[name]).map(([, link]) => reference(link).node)).filter((node) => node && nodes[node] && !chosen.has(node));
  return outside.some((name) => needs(name, new Set()));
}

/** The node with its links to outside as links to inputs. */
function inner(spec: NodeSpec, to: (port: string, link: string) => string): NodeSpec {
  const all = (links: Record<string, string>): Record<string, string> => Object.fromEntries(Object.entries(links).map(([port, link]) => [port, to(port, link)]));
  const made = { ...spec };
  if (spec.links) made.links = all(spec.links);
  if (spec.carry) made.carry = all(spec.carry);
  if (spec.type === LOOP && spec.each) made.each = to("each", spec.each);
  return made;
}

/** One step that makes a definition of nodes of one graph; the reason where that cannot be. */
export function define(types: Types, ids: string[], wanted = "part"): (Edit & { id: string }) | { reason: string } {
  const { doc } = types;
  const { scope } = splitId(ids[0] ?? "");
  const mine = ids.filter((id) => nodeAt(doc, id) && splitId(id).scope === scope);
  const chosen = new Set(mine.map((id) => splitId(id).name));
  const graph = graphAt(doc, scope);
  if (!graph || !mine.length) return { reason: "Choose the nodes that are to be a definition." };
  if (isTorn(types, scope, chosen)) return { reason: "A node that is not chosen lies between those that are: choose it too." };

  const name = freshName(wanted, Object.keys(doc.definitions ?? {}).map((key) => key.split("@")[0]));
  const type = `#${name}@1`;
  const definition: Definition & { inputs: object; outputs: object } = { inputs: {}, nodes: {}, outputs: {} };
  const brought = new Map<string, string>();
  const bring = (port: string, link: string): string => {
    if (!link || chosen.has(reference(link).node)) return link;
    const known = brought.get(link) ?? freshName(port, brought.values());
    brought.set(link, known);
    definition.inputs = { ...definition.inputs, [known]: { type: types.ofLink(scope, link) } };
    return `$${known}`;
  };
  for (const id of mine) definition.nodes[splitId(id).name] = inner(nodeAt(doc, id)!, bring);

  const instance = freshName(name, Object.keys(graph.nodes));
  const users = [
    ...Object.entries(graph.nodes).filter(([key]) => !chosen.has(key)).flatMap(([key, spec]) => wiresOf(spec).map(([port, link]) => ({ link, path: [...nodePath(joinId(scope, key)), ...linkKeys(spec, port)] }))),
    ...Object.entries(graph.outputs ?? {}).map(([key, output]) => ({ link: typeof output === "string" ? output : output.link, path: [...scopePath(scope), "outputs", key, ...(typeof output === "string" ? [] : ["link"])] })),
  ].filter(({ link }) => chosen.has(reference(link).node));
  const given = new Map<string, string>();
  for (const { link } of users) {
    const { node, port } = reference(link);
    if (!given.has(link)) given.set(link, freshName(port || node, given.values()));
  }
  definition.outputs = Object.fromEntries([...given].map(([link, key]) => [key, { type: types.ofLink(scope, link), link }]));

  const links = Object.fromEntries([...brought].map(([link, key]) => [key, link]));
  const ops: Op[] = [{ path: ["definitions", type.slice(1)], value: definition }, { path: nodePath(joinId(scope, instance)), value: { type, links } }];
  for (const { link, path } of users) ops.push({ path, value: given.size > 1 ? `${instance}.${given.get(link)}` : instance });
  for (const id of mine) ops.push({ path: nodePath(id), value: undefined });
  return { id: joinId(scope, instance), label: `Define ${name}`, ops: [...ops, ...places(types, scope, mine, type, joinId(scope, instance))] };
}

/** Places go with their nodes; the node that stands for them lies where the first was. */
function places(types: Types, scope: string, mine: string[], type: string, instance: string): Op[] {
  const all = types.doc.ui?.positions ?? {};
  const cut = scope ? scope.length + 1 : 0;
  const at = mine.map((id) => all[id]).filter((place) => place !== undefined);
  const ops: Op[] = at.length ? [{ path: ["ui", "positions", instance], value: [Math.min(...at.map(([x]) => x)), Math.min(...at.map(([, y]) => y))] }] : [];
  for (const [key, place] of Object.entries(all)) {
    if (!mine.some((id) => key === id || key.startsWith(`${id}/`))) continue;
    ops.push({ path: ["ui", "positions", key], value: undefined }, { path: ["ui", "positions", joinId(type, key.slice(cut))], value: place });
  }
  return ops;
}

export const baseName = (key: string): string => key.split("@")[0];

/** Why a definition cannot have this name; empty where it can. */
export function nameFault(doc: Workflow, wanted: string, but = ""): string {
  if (!NAME.test(wanted)) return "A name begins with a letter, and has letters, digits, - and _ only.";
  const taken = Object.keys(doc.definitions ?? {}).some((key) => key !== but && baseName(key) === wanted);
  return taken ? `There is a definition called ${wanted} already.` : "";
}

/** One step that gives a definition another name: every node of it, and what the editor keeps about what lies in it, follows. */
export function renameDefinition(doc: Workflow, key: string, wanted: string): (Edit & { key: string }) | { reason: string } {
  const reason = nameFault(doc, wanted, key);
  const definition = doc.definitions?.[key];
  if (reason || !definition) return { reason: reason || `There is no definition ${key}.` };
  const next = wanted + key.slice(baseName(key).length);
  const followed = (id: string): string => (id.startsWith(`#${key}/`) ? `#${next}${id.slice(key.length + 1)}` : id);
  const ops: Op[] = [...everyNode(doc)].filter(([, spec]) => spec.type === `#${key}`).map(([id]) => ({ path: [...nodePath(id), "type"], value: `#${next}` }));
  const at = Object.keys(doc.definitions ?? {}).indexOf(key);
  ops.push({ path: ["definitions", key], value: undefined }, { path: ["definitions", next], value: definition, at });
  for (const part of ["positions", "reroutes"] as const) {
    for (const [id, value] of Object.entries(doc.ui?.[part] ?? {})) {
      if (followed(id) !== id) ops.push({ path: ["ui", part, id], value: undefined }, { path: ["ui", part, followed(id)], value });
    }
  }
  if (doc.ui?.collapsed?.some((id) => followed(id) !== id)) ops.push({ path: ["ui", "collapsed"], value: doc.ui.collapsed.map(followed) });
  for (const [id, frame] of Object.entries(doc.ui?.frames ?? {})) {
    if (frame.nodes.some((node) => followed(node) !== node)) ops.push({ path: ["ui", "frames", id, "nodes"], value: frame.nodes.map(followed) });
  }
  return { key: next, label: `Rename ${baseName(key)} to ${wanted}`, ops: key === next ? [] : ops };
}
