// What a person does to a workflow, each as one named step: pure functions from a document to operations.
import { freshName, graphAt, INPUTS, joinId, LOOP, nodeAt, nodePath, NAME, OUTPUTS, reference, scopePath, splitId, wiresOf, linkKeys } from "./paths";
import type { Types } from "./infer";
import type { Edit, Frame, Json, Mode, NodeInfo, NodeSpec, Note, Op, Workflow } from "./types";

type At = [number, number];
const EMPTY: Edit = { label: "Nothing", ops: [] };

const uiOp = (part: string, key: string, value: unknown): Op => ({ path: ["ui", part, key], value });
const counted = (n: number, what: string): string => (n === 1 ? what : `${n} ${what}s`);

/** A node of a type, with nothing given; a loop has an empty body. */
export function blankNode(type: string): NodeSpec {
  if (type === LOOP) return { type, carry: {}, links: {}, body: { nodes: {}, outputs: {} } };
  return { type };
}

export function addNode(doc: Workflow, scope: string, info: Pick<NodeInfo, "id" | "name">, at: At, spec?: NodeSpec): Edit & { id: string } {
  const taken = Object.keys(graphAt(doc, scope)?.nodes ?? {});
  const name = freshName(info.name.split("/").pop() ?? "node", taken);
  const id = joinId(scope, name);
  const ops: Op[] = [{ path: nodePath(id), value: spec ?? blankNode(info.id) }, uiOp("positions", id, at)];
  return { id, label: `Add ${info.name.replace(/_/g, " ")}`, ops };
}

export function move(doc: Workflow, places: Map<string, At>): Edit {
  const ops = [...places].map(([id, at]): Op => {
    const note = id.startsWith("$note:") ? id.slice(6) : null;
    return note ? { path: ["ui", "notes", note, "at"], value: at } : uiOp("positions", id, at);
  });
  void doc;
  return { label: `Move ${counted(places.size, "node")}`, ops };
}

export function setParam(id: string, port: string, value: Json | undefined): Edit {
  return { label: `Change ${port.replace(/_/g, " ")}`, ops: [{ path: [...nodePath(id), "params", port], value }] };
}

/** The default of an input of the workflow, or of a definition. */
export function setInput(scope: string, name: string, field: "default" | "about" | "type", value: Json | undefined): Edit {
  return { label: `Change input ${name}`, ops: [{ path: [...scopePath(scope), "inputs", name, field], value }] };
}

export function setTitle(id: string, title: string): Edit {
  return { label: "Rename", ops: [{ path: [...nodePath(id), "title"], value: title || undefined }] };
}

export function setMode(doc: Workflow, ids: string[], mode: Mode): Edit {
  const real = ids.filter((id) => nodeAt(doc, id));
  const on = !real.every((id) => nodeAt(doc, id)?.mode === mode);
  const word = mode === "mute" ? "Mute" : "Bypass";
  return {
    label: `${on ? word : `Un${word.toLowerCase()}`} ${counted(real.length, "node")}`,
    ops: real.map((id) => ({ path: [...nodePath(id), "mode"], value: on ? mode : undefined })),
  };
}

export function toggleCollapsed(doc: Workflow, ids: string[]): Edit {
  const folded = new Set(doc.ui?.collapsed ?? []);
  for (const id of ids) if (!folded.delete(id)) folded.add(id);
  return { label: "Collapse or open", ops: [{ path: ["ui", "collapsed"], value: [...folded] }] };
}

/** Operations that cut every link to the given names within one scope. */
function cutLinks(doc: Workflow, scope: string, gone: Set<string>): Op[] {
  const ops: Op[] = [];
  const graph = graphAt(doc, scope);
  for (const [name, spec] of Object.entries(graph?.nodes ?? {})) {
    if (gone.has(name)) continue;
    for (const [port, link] of wiresOf(spec)) {
      if (!gone.has(reference(link).node)) continue;
      const keys = linkKeys(spec, port);
      ops.push({ path: [...nodePath(joinId(scope, name)), ...keys], value: keys[0] === "carry" ? "" : undefined });
    }
  }
  const inLoop = nodeAt(doc, scope);
  for (const [name, output] of Object.entries(graph?.outputs ?? {})) {
    const link = typeof output === "string" ? output : output.link;
    if (!gone.has(reference(link).node)) continue;
    ops.push({ path: [...scopePath(scope), "outputs", name], value: inLoop ? "" : undefined });
  }
  return ops;
}

export function removeNodes(doc: Workflow, ids: string[]): Edit {
  const ops: Op[] = [];
  const byScope = new Map<string, Set<string>>();
  const chosen = new Set(ids);
  const inside = (id: string): boolean => [...chosen].some((other) => id.startsWith(`${other}/`));
  for (const id of ids) {
    if (id.startsWith("$note:")) ops.push(uiOp("notes", id.slice(6), undefined));
    else if (id.startsWith("$frame:")) ops.push(uiOp("frames", id.slice(7), undefined));
    else if (nodeAt(doc, id) && !inside(id)) {
      const { scope, name } = splitId(id);
      byScope.set(scope, (byScope.get(scope) ?? new Set()).add(name));
    }
  }
  for (const [scope, gone] of byScope) {
    ops.push(...cutLinks(doc, scope, gone));
    for (const name of gone) {
      const id = joinId(scope, name);
      ops.push({ path: nodePath(id), value: undefined });
      for (const key of Object.keys(doc.ui?.positions ?? {})) if (key === id || key.startsWith(`${id}/`)) ops.push(uiOp("positions", key, undefined));
    }
  }
  return ops.length ? { label: `Delete ${counted(ids.length, "node")}`, ops } : EMPTY;
}

/** Give a node another name: every link to it, and what the editor keeps about it, follows. */
export function renameNode(doc: Workflow, id: string, wanted: string): Edit & { id: string } {
  const { scope, name } = splitId(id);
  const graph = graphAt(doc, scope);
  const spec = graph?.nodes[name];
  if (!graph || !spec || !NAME.test(wanted) || wanted in graph.nodes) return { ...EMPTY, id };
  const next = joinId(scope, wanted);
  const renamed = (link: string): string => {
    const ref = reference(link);
    return ref.node === name ? (ref.port ? `${wanted}.${ref.port}` : wanted) : link;
  };
  const ops: Op[] = [];
  const at = Object.keys(graph.nodes).indexOf(name);
  for (const [other, otherSpec] of Object.entries(graph.nodes)) {
    for (const [port, link] of wiresOf(otherSpec)) {
      if (renamed(link) !== link) ops.push({ path: [...nodePath(joinId(scope, other)), ...linkKeys(otherSpec, port)], value: renamed(link) });
    }
  }
  for (const [key, output] of Object.entries(graph.outputs ?? {})) {
    const link = typeof output === "string" ? output : output.link;
    const path = [...scopePath(scope), "outputs", key, ...(typeof output === "string" ? [] : ["link"])];
    if (renamed(link) !== link) ops.push({ path, value: renamed(link) });
  }
  ops.push({ path: nodePath(id), value: undefined }, { path: nodePath(next), value: spec, at });
  for (const [key, place] of Object.entries(doc.ui?.positions ?? {})) {
    if (key === id || key.startsWith(`${id}/`)) ops.push(uiOp("positions", key, undefined), uiOp("positions", next + key.slice(id.length), place));
  }
  return { id: next, label: `Rename ${name} to ${wanted}`, ops };
}

/** A typed-in value becomes an input of the workflow, which forms, `--set` and sweeps can give. */
export function promote(doc: Workflow, types: Types, id: string, port: string): Edit {
  const { scope } = splitId(id);
  const info = types.portsOf(id).inputs.find((input) => input.name === port);
  const spec = nodeAt(doc, id);
  if (!info || !spec || (scope && !(scope.startsWith("#") && !scope.includes("/")))) return EMPTY;
  const owner = scope ? doc.definitions?.[scope.slice(1)]?.inputs : doc.inputs;
  const name = freshName(port, Object.keys(owner ?? {}));
  const value = spec.params?.[port] ?? info.default ?? null;
  return {
    label: `Make ${port} an input`,
    ops: [
      { path: [...scopePath(scope), "inputs", name], value: { type: info.type, default: value, ...(info.doc ? { about: info.doc } : {}) } },
      { path: [...nodePath(id), "params", port], value: undefined },
      { path: [...nodePath(id), "links", port], value: `$${name}` },
    ],
  };
}

/** An input of the workflow goes; its value is typed in where it was used. */
export function removeInput(doc: Workflow, scope: string, name: string): Edit {
  const owner = scope ? doc.definitions?.[scope.slice(1)]?.inputs : doc.inputs;
  const value = owner?.[name]?.default ?? null;
  const ops: Op[] = [{ path: [...scopePath(scope), "inputs", name], value: undefined }];
  for (const [node, spec] of Object.entries(graphAt(doc, scope)?.nodes ?? {})) {
    for (const [port, link] of wiresOf(spec)) {
      if (link !== `$${name}`) continue;
      const path = nodePath(joinId(scope, node));
      ops.push({ path: [...path, ...linkKeys(spec, port)], value: undefined });
      if (spec.type !== LOOP) ops.push({ path: [...path, "params", port], value });
    }
  }
  return { label: `Remove input ${name}`, ops };
}

/** A carried value: where it begins outside, `$name` inside, and the body's output of that name feeds the next pass. */
export function addCarry(doc: Workflow, loop: string, wanted: string, link = ""): Edit {
  const spec = nodeAt(doc, loop);
  if (!spec?.body) return EMPTY;
  const taken = ["each", "item", "index", ...Object.keys(spec.carry ?? {}), ...Object.keys(spec.links ?? {})];
  const name = freshName(wanted, taken);
  return {
    label: `Carry ${name}`,
    ops: [
      { path: [...nodePath(loop), "carry", name], value: link },
      { path: [...nodePath(loop), "body", "outputs", name], value: spec.body.outputs[name] ?? "" },
    ],
  };
}

/** What was brought in becomes carried from pass to pass. */
export function linkToCarry(doc: Workflow, loop: string, name: string): Edit {
  const spec = nodeAt(doc, loop);
  const link = spec?.links?.[name];
  if (!spec?.body || link === undefined) return EMPTY;
  const path = nodePath(loop);
  return {
    label: `Carry ${name}`,
    ops: [
      { path: [...path, "links", name], value: undefined },
      { path: [...path, "carry", name], value: link },
      { path: [...path, "body", "outputs", name], value: spec.body.outputs[name] ?? "" },
    ],
  };
}

export function addFrame(doc: Workflow, ids: string[], title = "Frame", color = "latent"): Edit {
  const nodes = ids.filter((id) => !id.startsWith("$note") && !id.startsWith("$frame"));
  if (!nodes.length) return EMPTY;
  const frame: Frame = { title, color, nodes };
  return { label: "Frame", ops: [uiOp("frames", freshName("frame", Object.keys(doc.ui?.frames ?? {})), frame)] };
}

export function addNote(doc: Workflow, at: At, text = ""): Edit {
  const note: Note = { text, at, size: [220, 120] };
  return { label: "Add note", ops: [uiOp("notes", freshName("note", Object.keys(doc.ui?.notes ?? {})), note)] };
}

export function setReroutes(id: string, points: At[]): Edit {
  return { label: points.length ? "Reroute wire" : "Straighten wire", ops: [uiOp("reroutes", id, points.length ? points : undefined)] };
}

export function isEdge(id: string): boolean {
  const { name } = splitId(id);
  return name === INPUTS || name === OUTPUTS;
}
