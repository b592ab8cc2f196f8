// What commands and the hand do to wires: cut several, put a node into one; and definitions of chosen nodes. Draws nothing.
import { canvasHand } from "../canvas/hand";
import { connect, disconnect } from "../model/connect";
import { define, renameDefinition } from "../model/define";
import { move } from "../model/edit";
import { isLoose, middle, scopeOf, sourceEnd, splice, targetEnd, through } from "../model/onwire";
import { nodeAt } from "../model/paths";
import { absolute, type Wire } from "../model/scene";
import type { NodeInfo } from "../model/types";
import { apply, insertNode, typesNow } from "./actions";
import { activeDoc, activeScope, activeTab, useDocs } from "./docs";
import { sceneNow } from "./scene";
import { useView } from "./view";

const view = () => useView.getState();

export function cutWires(wires: Wire[]): void {
  const merge = `cut ${Date.now()}`;
  for (const wire of wires) apply({ ...disconnect(typesNow(), targetEnd(wire)), label: `Cut ${wires.length === 1 ? "wire" : `${wires.length} wires`}` }, merge);
}

/** Put a node into a wire, as part of the step that is named; false where it does not fit. */
function putInto(wire: Wire, id: string, merge: string): boolean {
  const found = splice(typesNow(), wire, id);
  for (const [from, to] of found ?? []) {
    const made = connect(typesNow(), from, to);
    if ("edit" in made) apply(made.edit, merge);
  }
  return found !== null;
}

/** A loose node let go over a wire lies in it from then on, where it fits. */
export function dropOnWire(id: string, merge: string): void {
  const scene = sceneNow();
  const box = scene.byId.get(id);
  if (!box || !isLoose(typesNow(), id)) return;
  const rect = { ...absolute(scene, box), w: box.w, h: box.h };
  const wire = through(scene, rect, id).find((each) => putInto(each, id, merge));
  if (wire) view().say(`Put into the wire to ${wire.target.split("/").pop()}.`);
}

/** The wire that is chosen, if one is. */
export function chosenWire(): Wire | undefined {
  return sceneNow().wires.find((wire) => view().selection.has(`~${wire.id}`));
}

export function searchOnWire(wire: Wire): void {
  const { screen } = canvasHand.middle();
  const [x, y] = middle(sceneNow(), wire);
  view().set({ dialog: { kind: "search", at: { x, y }, screen: { x: screen.x - 200, y: screen.y - 200 }, scope: scopeOf(wire), from: sourceEnd(wire), type: wire.type, wire: wire.id } });
}

/** A new node in a wire, in one step. */
export function insertInto(wire: Wire, info: NodeInfo): void {
  const merge = `into ${wire.id} ${Date.now()}`;
  const [x, y] = middle(sceneNow(), wire);
  putInto(wire, insertNode({ info, scope: scopeOf(wire), at: [x - 125, y - 40] }, merge), merge);
}

/** Ask for a name for the definition of the chosen nodes, unless they cannot be one. */
export function defineChosen(): void {
  const ids = [...view().selection].filter((id) => nodeAt(activeDoc(), id));
  const made = define(typesNow(), ids);
  if ("reason" in made) return view().say(made.reason, "error");
  view().set({ dialog: { kind: "define", ids } });
}

export function defineNodes(ids: string[], name: string): void {
  const made = define(typesNow(), ids, name);
  if ("reason" in made) return view().say(made.reason, "error");
  apply(made);
  view().select([made.id]);
  view().say(`Made the definition ${name}. Enter opens it.`);
}

/** The definition that is open, or that the chosen node is of. */
export function renameShown(): void {
  const [id] = view().selection;
  const type = (id && nodeAt(activeDoc(), id)?.type) || "";
  const definition = type.startsWith("#") ? type : activeScope().split("/")[0];
  if (!definition) return view().say("Open a definition, or choose a node of one, to rename it.", "error");
  view().set({ dialog: { kind: "rename", definition: definition.slice(1) } });
}

export function renameTo(key: string, name: string): void {
  const made = renameDefinition(activeDoc(), key, name);
  if ("reason" in made) return view().say(made.reason, "error");
  const tab = activeTab(useDocs.getState());
  apply(made);
  if (tab?.scope === `#${key}`) useDocs.getState().change(tab.id, { scope: `#${made.key}` });
  view().select([]);
}

/** Nodes at their new places; a single one may have been let go over a wire. */
export function drop(moved: Map<string, [number, number]>): void {
  const merge = `drop ${Date.now()}`;
  apply(move(activeDoc(), moved), merge);
  if (moved.size === 1) dropOnWire([...moved.keys()][0], merge);
}
