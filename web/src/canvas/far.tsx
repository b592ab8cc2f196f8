// The far view: below a zoom of 0.45, of a large graph 0.6, one canvas shows the scene. It reaches beyond the window, so that moving paints nothing.
import { useStoreApi } from "@xyflow/react";
import { useEffect, useRef, useState } from "react";
import type { Scene } from "../model/scene";
import { useRuns } from "../store/runs";
import { useView } from "../store/view";
import { paint, readColors } from "./far-paint";

/** The canvas reaches beyond the window by this share at each side. */
const MARGIN = 0.25;
/** A bitmap drawn smaller than this leaves too much of the window empty to wait for rest. */
const LEAST_SCALE = 0.7;
const SETTLE_MS = 120;
const REST_MS = 160;

/** Below this zoom a large graph is far while it is zoomed: on the way no node is mounted that is not stayed at. */
const PASSING_ZOOM = 0.8;
const LARGE = 150;
/** Below this zoom a graph of so many boxes is far. A large one earlier: near, moving it costs by the nodes that are seen. */
export const farBelow = (boxes: number): number => (boxes > LARGE ? 0.6 : 0.45);

/** Far at once below the zoom; near only when the hand rests. */
export function useFar(boxes: number): boolean {
  const flow = useStoreApi();
  const [far, setFar] = useState(() => flow.getState().transform[2] < farBelow(boxes));
  useEffect(() => {
    let timer = 0;
    let before = flow.getState().transform;
    const look = (): void => {
      const [, , zoom] = flow.getState().transform;
      const passes = zoom !== before[2] && zoom < PASSING_ZOOM && boxes > LARGE;
      before = flow.getState().transform;
      clearTimeout(timer);
      if (zoom < farBelow(boxes) || passes) setFar(true);
      if (zoom >= farBelow(boxes)) timer = window.setTimeout(() => setFar(false), REST_MS);
    };
    const end = flow.subscribe(({ transform }) => {
      if (transform !== before) look();
    });
    look();
    return () => {
      end();
      clearTimeout(timer);
    };
  }, [flow, boxes]);
  return far;
}

export function FarView({ scene }: { scene: Scene }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const flow = useStoreApi();
  const theme = useView((state) => state.theme);
  const selection = useView((state) => state.selection);
  const registry = useView((state) => state.registry);
  const live = useRuns((state) => state.live[state.shown]);
  useEffect(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context) return;
    const look = { colors: readColors(), registry, live: live ?? {}, selection };
    let frame = 0;
    let settle = 0;
    let painted: readonly [number, number, number] | null = null;
    const repaint = (): void => {
      clearTimeout(settle);
      const { transform, width, height } = flow.getState();
      const [tx, ty, zoom] = transform;
      const [w, h] = [Math.round(width * (1 + 2 * MARGIN)), Math.round(height * (1 + 2 * MARGIN))];
      if (element.width !== w || element.height !== h) Object.assign(element, { width: w, height: h });
      const [x, y] = [tx + width * MARGIN, ty + height * MARGIN];
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, w, h);
      context.setTransform(zoom, 0, 0, zoom, x, y);
      paint(context, scene, { x: -x / zoom, y: -y / zoom, w: w / zoom, h: h / zoom }, zoom, look);
      painted = transform;
      element.style.transform = `translate(${-width * MARGIN}px, ${-height * MARGIN}px)`;
    };
    const draw = (): void => {
      frame = 0;
      const { transform, width, height } = flow.getState();
      if (!width || painted === transform) return;
      if (!painted) return repaint();
      const [tx, ty, zoom] = transform;
      const k = zoom / painted[2];
      const left = tx - painted[0] * k - width * MARGIN * k;
      const top = ty - painted[1] * k - height * MARGIN * k;
      const covers = left <= 0 && top <= 0 && left + element.width * k >= width && top + element.height * k >= height;
      if (!covers && k > LEAST_SCALE) return repaint();
      element.style.transform = `translate(${left}px, ${top}px) scale(${k})`;
      clearTimeout(settle);
      if (k !== 1 || !covers) settle = window.setTimeout(repaint, SETTLE_MS);
    };
    const ask = (): void => {
      frame ||= requestAnimationFrame(draw);
    };
    ask();
    const end = flow.subscribe(ask);
    return () => {
      end();
      clearTimeout(settle);
      cancelAnimationFrame(frame);
    };
  }, [scene, selection, live, theme, registry, flow]);
  return <canvas ref={canvas} className="far" aria-hidden="true" />;
}
