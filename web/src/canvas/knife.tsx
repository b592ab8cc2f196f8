// Cutting wires: a stroke with Alt or Y held, begun on nothing; every wire it crosses is taken away, in one step.
import { useStoreApi } from "@xyflow/react";
import { useEffect, useRef } from "react";
import { crossed } from "../model/onwire";
import type { Scene } from "../model/scene";
import { cutWires } from "../store/wires";

type Point = [number, number];

export function Knife({ scene }: { scene: Scene }) {
  const flow = useStoreApi();
  const line = useRef<SVGLineElement>(null);
  useEffect(() => {
    const element = flow.getState().domNode;
    if (!element) return;
    const ends = new AbortController();
    const { signal } = ends;
    let from: Point | null = null;
    let held = false;
    const at = (event: MouseEvent): Point => {
      const rect = element.getBoundingClientRect();
      return [event.clientX - rect.left, event.clientY - rect.top];
    };
    const onCanvas = ([x, y]: Point): Point => {
      const { transform: [tx, ty, zoom] } = flow.getState();
      return [(x - tx) / zoom, (y - ty) / zoom];
    };
    const draw = (a: Point, b: Point): void => {
      for (const [name, value] of Object.entries({ x1: a[0], y1: a[1], x2: b[0], y2: b[1] })) line.current?.setAttribute(name, String(value));
    };
    const press = (event: MouseEvent): void => {
      const begins = event.type === "pointerdown" && event.button === 0 && (event.altKey || held) && (event.target as Element).classList.contains("react-flow__pane");
      if (begins) from = at(event);
      if (from) event.stopImmediatePropagation();
    };
    const moved = (event: PointerEvent): void => {
      if (from) draw(from, at(event));
    };
    const up = (event: PointerEvent): void => {
      if (!from) return;
      if (event.type === "pointerup") cutWires(crossed(scene, onCanvas(from), onCanvas(at(event))));
      from = null;
      draw([0, 0], [0, 0]);
    };
    const key = (event: KeyboardEvent): void => {
      if (event.key.toLowerCase() === "y" && !(event.target as Element).matches("input, textarea, select")) held = event.type === "keydown" && !event.ctrlKey && !event.metaKey;
    };
    element.addEventListener("pointerdown", press, { capture: true, signal });
    element.addEventListener("mousedown", press, { capture: true, signal });
    addEventListener("pointermove", moved, { signal });
    addEventListener("pointerup", up, { signal });
    addEventListener("pointercancel", up, { signal });
    addEventListener("keydown", key, { signal });
    addEventListener("keyup", key, { signal });
    return () => ends.abort();
  }, [scene, flow]);
  return <svg className="far-hand" aria-hidden="true"><line ref={line} className="knife" /></svg>;
}
