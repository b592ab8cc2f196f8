// Going from node to node by arrow keys: left and right along wires, up and down to what lies nearest.
import { canvasHand } from "../canvas/hand";
import { absolute, type Box, type Scene } from "../model/scene";
import { sceneNow } from "./scene";
import { useView } from "./view";

export type Direction = "left" | "right" | "up" | "down";

const centre = (scene: Scene, box: Box): { x: number; y: number } => {
  const at = absolute(scene, box);
  return { x: at.x + box.w / 2, y: at.y + Math.min(box.h, 120) / 2 };
};

/** The next node in a direction, or undefined at an end. */
export function neighbour(scene: Scene, id: string, direction: Direction): string | undefined {
  const box = scene.byId.get(id);
  if (!box) return scene.boxes[0]?.id;
  const here = centre(scene, box);
  const near = (ids: string[]): string | undefined =>
    ids.sort((a, b) => Math.abs(centre(scene, scene.byId.get(a)!).y - here.y) - Math.abs(centre(scene, scene.byId.get(b)!).y - here.y))[0];
  if (direction === "left") return near(scene.wires.filter((w) => w.target === id && w.source !== id).map((w) => w.source));
  if (direction === "right") return near(scene.wires.filter((w) => w.source === id && w.target !== id).map((w) => w.target));
  const sign = direction === "up" ? -1 : 1;
  const cost = (other: Box): number => {
    const at = centre(scene, other);
    return (at.y - here.y) * sign + Math.abs(at.x - here.x) * 2;
  };
  const open = scene.boxes.filter((other) => other.id !== id && other.kind !== "frame" && (centre(scene, other).y - here.y) * sign > 8);
  return open.sort((a, b) => cost(a) - cost(b))[0]?.id;
}

export function walk(direction: Direction): void {
  const scene = sceneNow();
  const [id] = useView.getState().selection;
  const next = id ? neighbour(scene, id, direction) : scene.boxes[0]?.id;
  if (!next) return;
  useView.getState().select([next]);
  canvasHand.show(next);
  const box = scene.byId.get(next);
  const spoken = document.querySelector("#spoken");
  if (spoken && box) spoken.textContent = `${box.title}, ${box.kind}`;
}
