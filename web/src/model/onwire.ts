// What is done to wires as they lie: which one a box lies on, which a stroke crosses, and how a node is put into one.
import { connect } from "./connect";
import { graphAt, nodeAt, OUTPUTS, reference, splitId, wiresOf } from "./paths";
import { lines, type Line, type Rect } from "./places";
import { fitScore, misfit } from "./registry";
import type { Scene, Wire } from "./scene";
import type { Types } from "./infer";
import type { End, NodeInfo } from "./types";

type Point = [number, number];

const PIECES = 24;

/** A wire's curve as short straight pieces, bent as the far view paints it. */
export function pieces({ points }: Line): Point[] {
  return points.slice(1).flatMap(([x1, y1], i) => {
    const [x0, y0] = points[i];
    const bend = Math.max(30, Math.min(Math.abs(x1 - x0) * 0.5, 120));
    return Array.from({ length: PIECES + 1 }, (_, n): Point => {
      const t = n / PIECES;
      const [a, b, c, d] = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t ** 3];
      return [a * x0 + b * (x0 + bend) + c * (x1 - bend) + d * x1, a * y0 + b * y0 + c * y1 + d * y1];
    });
  });
}

/** On which side of the line from a to b a point lies: the sign of the cross product. */
const side = (a: Point, b: Point, p: Point): number => Math.sign((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]));
const cross = (a: Point, b: Point, c: Point, d: Point): boolean => side(a, b, c) !== side(a, b, d) && side(c, d, a) !== side(c, d, b);

/** The wires that a straight stroke crosses. */
export function crossed(scene: Scene, from: Point, to: Point): Wire[] {
  const hits = (line: Line): boolean => pieces(line).some((point, i, all) => i > 0 && cross(from, to, all[i - 1], point));
  return lines(scene).filter(hits).map(({ wire }) => wire);
}

/** The wires that pass through a rectangle, and neither begin nor end at the given box. */
export function through(scene: Scene, rect: Rect, id: string): Wire[] {
  const inside = ([x, y]: Point): boolean => x > rect.x && x < rect.x + rect.w && y > rect.y && y < rect.y + rect.h;
  return lines(scene).filter((line) => line.wire.source !== id && line.wire.target !== id && pieces(line).some(inside)).map(({ wire }) => wire);
}

export const sourceEnd = (wire: Wire): End => ({ id: wire.source, handle: wire.sourceHandle });
export const targetEnd = (wire: Wire): End => ({ id: wire.target, handle: wire.targetHandle });

/** The graph a wire ends in: nodes put into it belong there. */
export function scopeOf(wire: Wire): string {
  const { scope, name } = splitId(wire.target);
  return wire.targetHandle.startsWith("t:") && name !== OUTPUTS ? wire.target : scope;
}

/** The input and the output by which a node of this kind would lie in a wire; null where it does not fit on both sides. */
export function between(types: Types, wire: Wire, info: Pick<NodeInfo, "inputs" | "outputs">): { input: string; output: string } | null {
  const into = types.ofHandle(wire.target, wire.targetHandle);
  const [input] = info.inputs.filter((port) => !port.literal && misfit(wire.type, port.type) === null).sort((a, b) => fitScore(wire.type, b.type) - fitScore(wire.type, a.type));
  const [output] = info.outputs.filter((port) => misfit(port.type, into) === null).sort((a, b) => fitScore(b.type, into) - fitScore(a.type, into));
  return input && output ? { input: input.name, output: output.name } : null;
}

/** Whether nothing is wired to a node, on either side. */
export function isLoose(types: Types, id: string): boolean {
  const { scope, name } = splitId(id);
  const spec = nodeAt(types.doc, id);
  if (!spec || wiresOf(spec).some(([, link]) => link)) return false;
  const graph = graphAt(types.doc, scope);
  const used = [...Object.values(graph?.nodes ?? {}).flatMap((other) => wiresOf(other).map(([, link]) => link)), ...Object.values(types.outputsOfScope(scope))];
  return !used.some((link) => reference(link).node === name);
}

/** The two connections that put a node into a wire, the second after the first; null where one is refused. */
export function splice(types: Types, wire: Wire, id: string): [[End, End], [End, End]] | null {
  const ports = types.portsOf(id);
  const found = between(types, wire, ports);
  if (!found || splitId(id).scope !== scopeOf(wire)) return null;
  const first: [End, End] = [sourceEnd(wire), { id, handle: `i:${found.input}` }];
  const second: [End, End] = [{ id, handle: `o:${found.output}` }, targetEnd(wire)];
  return "edit" in connect(types, ...first) && "edit" in connect(types, ...second) ? [first, second] : null;
}

/** In the middle of a wire, in the units of the graph it ends in. */
export function middle(scene: Scene, wire: Wire): Point {
  const line = lines(scene).find((each) => each.wire === wire);
  const all = line ? pieces(line) : [];
  const [x, y] = all[Math.floor(all.length / 2)] ?? [0, 0];
  let [left, top] = [0, 0];
  for (let scope = scopeOf(wire); scope; scope = splitId(scope).scope) {
    const box = scene.byId.get(scope);
    left += box?.x ?? 0;
    top += box?.y ?? 0;
  }
  return [Math.round(x - left), Math.round(y - top)];
}
