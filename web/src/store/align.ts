// Putting chosen nodes in line, or at equal distances.
import { move } from "../model/edit";
import type { Box } from "../model/scene";
import { apply } from "./actions";
import { activeDoc } from "./docs";
import { sceneNow } from "./scene";
import { useView } from "./view";

type Place = [number, number];

function chosen(): Box[] {
  const scene = sceneNow();
  return [...useView.getState().selection].map((id) => scene.byId.get(id)).filter((box): box is Box => box !== undefined && box.kind !== "frame");
}

export function align(edge: "left" | "top"): void {
  const boxes = chosen();
  if (boxes.length < 2) return;
  const x = Math.min(...boxes.map((box) => box.x));
  const y = Math.min(...boxes.map((box) => box.y));
  const places = new Map(boxes.map((box): [string, Place] => [box.id, edge === "left" ? [x, box.y] : [box.x, y]]));
  apply({ ...move(activeDoc(), places), label: `Align ${boxes.length} nodes` });
}

/** Equal gaps between the first and the last. */
export function spread(boxes: { id: string; x: number; y: number; w: number; h: number }[], axis: "x" | "y"): Map<string, Place> {
  const size = axis === "x" ? "w" : "h";
  const order = [...boxes].sort((a, b) => a[axis] - b[axis]);
  const span = order[order.length - 1][axis] + order[order.length - 1][size] - order[0][axis];
  const gap = (span - order.reduce((sum, box) => sum + box[size], 0)) / (order.length - 1);
  let at = order[0][axis];
  return new Map(order.map((box): [string, Place] => {
    const place: Place = axis === "x" ? [Math.round(at), box.y] : [box.x, Math.round(at)];
    at += box[size] + gap;
    return [box.id, place];
  }));
}

export function distribute(axis: "x" | "y"): void {
  const boxes = chosen();
  if (boxes.length < 3) return;
  apply({ ...move(activeDoc(), spread(boxes, axis)), label: `Distribute ${boxes.length} nodes` });
}
