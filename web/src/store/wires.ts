// What commands do to wires: cut several, put a node into one, make a definition of chosen nodes. Draws nothing.
import { canvasHand } from "../canvas/hand";
import { connect, disconnect } from "../model/connect";
import { define } from "../model/define";
import { isLoose, middle, scopeOf, sourceEnd, splice, targetEnd, through } from "../model/onwire";
import { nodeAt } from "../model/paths";
import { absolute, type Wire } from "../model/scene";
import type { NodeInfo } from "../model/types";
import { apply, insertNode, typesNow } from "./actions";
import { activeDoc } from "./docs";
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

export function defineChosen(): void {
  const made = define(typesNow(), [...view().selection].filter((id) => nodeAt(activeDoc(), id)));
  if ("reason" in made) return view().say(made.reason, "error");
  apply(made);
  view().select([made.id]);
  view().say("Made a definition. Enter opens it.");
}
