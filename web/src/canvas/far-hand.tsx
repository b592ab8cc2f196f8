// The hand in the far view, where no box is an element: what is chosen, dragged and framed is looked up in the scene.
import { useStoreApi } from "@xyflow/react";
import { useEffect, useRef } from "react";
import { between, hit, placed, topmost, within } from "../model/places";
import { clampInside, type Scene } from "../model/scene";
import { activeDoc } from "../store/docs";
import { useView } from "../store/view";
import { drop } from "../store/wires";

type Point = { x: number; y: number };

/** Pixels that a hand shakes without meaning to drag. */
const STILL = 3;

/** From where to where on the canvas, what was under the hand, and what moves; nothing moves where a frame chooses. */
interface Drag {
  from: Point;
  to: Point;
  under: string | null;
  adds: boolean;
  moves: string[];
  moved: boolean;
}

/** What a drag takes along: of frames the nodes they own, of loops all that lies in them. */
export function taken(ids: Iterable<string>, frames: Record<string, { nodes: string[] }>): string[] {
  return topmost([...ids].flatMap((id) => (id.startsWith("$frame:") ? (frames[id.slice(7)]?.nodes ?? []) : [id])));
}

function startDrag(scene: Scene, from: Point, event: PointerEvent): Drag | null {
  const under = hit(scene, from.x, from.y);
  if (!under && !event.shiftKey) return null;
  const { selection } = useView.getState();
  const held = under === null ? [] : selection.has(under) ? selection : [under];
  const moves = event.shiftKey ? [] : taken(held, activeDoc().ui?.frames ?? {});
  return { from, to: from, under, adds: event.shiftKey || event.ctrlKey || event.metaKey, moves, moved: false };
}

function endDrag(scene: Scene, { from, to, under, adds, moves, moved }: Drag): void {
  const { select, selection } = useView.getState();
  const kept = adds ? [...selection] : [];
  if (moved && moves.length) {
    const boxes = moves.map((id) => scene.byId.get(id)).filter((box) => box !== undefined);
    drop(new Map(boxes.map((box) => [box.id, clampInside(box.id, box.x + to.x - from.x, box.y + to.y - from.y)])));
  } else if (moved) select([...kept, ...within(scene, between(from, to))]);
  else if (under && adds && selection.has(under)) select(kept.filter((id) => id !== under));
  else select(under ? [...kept, under] : kept);
}

/** Outlines of what is dragged, or the frame that chooses, as a path in canvas units. */
function outline(scene: Scene, { from, to, moves }: Drag): string {
  const around = (x: number, y: number, w: number, h: number): string => `M${x},${y}h${w}v${h}h${-w}z`;
  const frame = between(from, to);
  if (!moves.length) return around(frame.x, frame.y, frame.w, frame.h);
  const ids = new Set(moves);
  return placed(scene).filter((p) => ids.has(p.box.id)).map(({ x, y, box }) => around(x, y, box.w, box.h)).join("");
}

/** Dragging and choosing while no node is drawn. A drag that begins on nothing, without Shift, stays the canvas's own: it pans. */
export function FarHand({ scene }: { scene: Scene }) {
  const flow = useStoreApi();
  const group = useRef<SVGGElement>(null);
  const path = useRef<SVGPathElement>(null);
  /** The click after a press that was ours; a drag makes a new scene before it comes. */
  const swallows = useRef(false);
  useEffect(() => {
    const element = flow.getState().domNode;
    if (!element) return;
    const ends = new AbortController();
    const { signal } = ends;
    let drag: Drag | null = null;
    const at = (event: MouseEvent): Point => {
      const { transform: [tx, ty, zoom] } = flow.getState();
      const rect = element.getBoundingClientRect();
      return { x: (event.clientX - rect.left - tx) / zoom, y: (event.clientY - rect.top - ty) / zoom };
    };
    const down = (event: PointerEvent): void => {
      swallows.current = false;
      if (event.button !== 0 || event.altKey || !(event.target as Element).classList.contains("react-flow__pane")) return;
      drag = startDrag(scene, at(event), event);
      if (drag) event.stopPropagation();
    };
    const moved = (event: PointerEvent): void => {
      if (!drag) return;
      const { transform: [tx, ty, zoom] } = flow.getState();
      drag.to = at(event);
      const [dx, dy] = drag.moves.length ? [drag.to.x - drag.from.x, drag.to.y - drag.from.y] : [0, 0];
      const begins = !drag.moved;
      drag.moved ||= Math.hypot(drag.to.x - drag.from.x, drag.to.y - drag.from.y) * zoom > STILL;
      if (!drag.moved) return;
      if (begins || !drag.moves.length) path.current?.setAttribute("d", outline(scene, drag));
      if (group.current) group.current.style.transform = `translate(${tx + dx * zoom}px, ${ty + dy * zoom}px) scale(${zoom})`;
    };
    const up = (event: PointerEvent): void => {
      if (!drag) return;
      swallows.current = true;
      if (event.type === "pointerup") endDrag(scene, { ...drag, to: at(event) });
      drag = null;
      path.current?.setAttribute("d", "");
    };
    /** The canvas below must neither pan nor choose for a press that is ours. */
    const ours = (event: MouseEvent): void => {
      if (event.type === "mousedown" ? drag : swallows.current) event.stopPropagation();
    };
    element.addEventListener("pointerdown", down, { capture: true, signal });
    element.addEventListener("mousedown", ours, { capture: true, signal });
    element.addEventListener("click", ours, { capture: true, signal });
    addEventListener("pointermove", moved, { signal });
    addEventListener("pointerup", up, { signal });
    addEventListener("pointercancel", up, { signal });
    return () => ends.abort();
  }, [scene, flow]);
  return <svg className="far-hand" aria-hidden="true"><g ref={group}><path ref={path} d="" vectorEffect="non-scaling-stroke" /></g></svg>;
}
