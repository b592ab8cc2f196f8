// The far view: below a zoom of 0.45 boxes and wires are painted on one canvas, and clicks are looked up in the scene.
import { useStoreApi } from "@xyflow/react";
import { useEffect, useRef } from "react";
import { typeInfo } from "../model/registry";
import { absolute, type Box, type Scene } from "../model/scene";
import { useRuns, type Live } from "../store/runs";
import { useView } from "../store/view";

export const FAR_ZOOM = 0.45;
/** The canvas reaches beyond the window by this share at each side, so that moving needs no painting. */
const MARGIN = 0.5;
const SETTLE_MS = 120;

interface Colors {
  [name: string]: string;
}

function readColors(): Colors {
  const style = getComputedStyle(document.documentElement);
  const families = ["model", "text", "latent", "frames", "codec", "schedule", "training", "audio", "value", "any"];
  const names = [...families.map((family) => `fam-${family}`), "node", "header", "border", "text", "muted", "accent", "error", "ok", "panel"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

export interface Placed {
  box: Box;
  x: number;
  y: number;
}

const placedOf = new WeakMap<Scene, Placed[]>();

/** Every box with its place on the canvas, frames and loops first: the order in which they are painted. */
export function placed(scene: Scene): Placed[] {
  let list = placedOf.get(scene);
  if (!list) {
    const rank = (box: Box): number => (box.kind === "frame" ? 0 : box.kind === "loop" ? 1 : 2);
    list = scene.boxes.map((box) => ({ box, ...absolute(scene, box) })).sort((a, b) => rank(a.box) - rank(b.box));
    placedOf.set(scene, list);
  }
  return list;
}

export function hit(scene: Scene, x: number, y: number): string | null {
  return placed(scene).findLast((p) => x >= p.x && y >= p.y && x <= p.x + p.box.w && y <= p.y + p.box.h)?.box.id ?? null;
}

/** Paint what lies in the window; sizes are in canvas units, the transform is already set. */
export function paint(c: CanvasRenderingContext2D, scene: Scene, window: { x: number; y: number; w: number; h: number }, colors: Colors, family: (type: string) => string, live: Record<string, Live>, selection: ReadonlySet<string>, zoom: number): void {
  const list = placed(scene);
  const inside = (x: number, y: number, w: number, h: number): boolean => x < window.x + window.w && x + w > window.x && y < window.y + window.h && y + h > window.y;
  for (const { box, x, y } of list) if (box.kind === "loop" || box.kind === "frame") drawBox(c, box, x, y, colors, family, live, selection, zoom, inside);
  const at = new Map(list.map((p) => [p.box.id, p]));
  const paths = new Map<string, Path2D>();
  for (const wire of scene.wires) {
    const a = at.get(wire.source);
    const b = at.get(wire.target);
    const from = a?.box.handles.find((handle) => handle.id === wire.sourceHandle);
    const to = b?.box.handles.find((handle) => handle.id === wire.targetHandle);
    if (!a || !b || !from || !to) continue;
    const [x0, y0, x1, y1] = [a.x + from.x, a.y + from.y, b.x + to.x, b.y + to.y];
    if (!inside(Math.min(x0, x1) - 60, Math.min(y0, y1) - 10, Math.abs(x1 - x0) + 120, Math.abs(y1 - y0) + 20)) continue;
    const key = family(wire.type);
    let path = paths.get(key);
    if (!path) paths.set(key, (path = new Path2D()));
    const bend = Math.max(30, Math.min(Math.abs(x1 - x0) * 0.5, 120));
    path.moveTo(x0, y0);
    path.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1, y1);
  }
  c.lineWidth = Math.max(1.6, 1 / zoom);
  for (const [key, path] of paths) {
    c.globalAlpha = key === "value" ? 0.4 : 0.85;
    c.strokeStyle = colors[`fam-${key}`] || colors.muted;
    c.stroke(path);
  }
  c.globalAlpha = 1;
  for (const { box, x, y } of list) if (box.kind !== "loop" && box.kind !== "frame") drawBox(c, box, x, y, colors, family, live, selection, zoom, inside);
}

type Inside = (x: number, y: number, w: number, h: number) => boolean;

function drawBox(c: CanvasRenderingContext2D, box: Box, x: number, y: number, colors: Colors, family: (type: string) => string, live: Record<string, Live>, selection: ReadonlySet<string>, zoom: number, inside: Inside): void {
  if (!inside(x, y, box.w, box.h)) return;
  const state = live[box.id]?.state;
  const hue = colors[`fam-${box.kind === "frame" ? box.color : family(box.family)}`] || colors.muted;
  const open = box.kind === "loop" || box.kind === "frame";
  c.globalAlpha = box.spec?.mode ? 0.45 : open ? 0.35 : 1;
  c.fillStyle = open ? colors.panel : colors.node;
  c.beginPath();
  c.roundRect(x, y, box.w, box.h, 10);
  c.fill();
  c.globalAlpha = box.spec?.mode ? 0.45 : 1;
  c.lineWidth = selection.has(box.id) || state === "running" || state === "failed" ? 3 / zoom : 1 / zoom;
  c.strokeStyle = selection.has(box.id) || state === "running" ? colors.accent : state === "failed" ? colors.error : open ? hue : colors.border;
  c.stroke();
  if (!open) {
    c.fillStyle = hue;
    c.fillRect(x + 3, y, box.w - 6, Math.max(4, 2 / zoom));
  }
  if (zoom > 0.1) {
    c.fillStyle = state === "cached" || state === "done" ? colors.ok : colors.text;
    c.font = `600 ${Math.min(15 / zoom / 1.25, 34)}px Inter, system-ui, sans-serif`;
    c.fillText(box.title, x + 12, y + Math.min(20 / zoom / 1.1, 44), box.w - 24);
  }
  c.globalAlpha = 1;
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
    const colors = readColors();
    const families = new Map<string, string>();
    const family = (type: string): string => {
      let found = families.get(type);
      if (!found) families.set(type, (found = typeInfo(registry, type).family));
      return found;
    };
    let frame = 0;
    let settle = 0;
    let painted: [number, number, number] | null = null;
    const repaint = (): void => {
      const { transform, width, height } = flow.getState();
      const [tx, ty, zoom] = transform;
      const [w, h] = [width * (1 + 2 * MARGIN), height * (1 + 2 * MARGIN)];
      if (element.width !== Math.round(w) || element.height !== Math.round(h)) {
        element.width = Math.round(w);
        element.height = Math.round(h);
      }
      const [x, y] = [tx + width * MARGIN, ty + height * MARGIN];
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, element.width, element.height);
      context.setTransform(zoom, 0, 0, zoom, x, y);
      paint(context, scene, { x: -x / zoom, y: -y / zoom, w: w / zoom, h: h / zoom }, colors, family, live ?? {}, selection, zoom);
      painted = [tx, ty, zoom];
      element.style.transform = `translate(${-width * MARGIN}px, ${-height * MARGIN}px)`;
    };
    const draw = (): void => {
      frame = 0;
      const { transform: [tx, ty, zoom], width, height } = flow.getState();
      if (zoom >= FAR_ZOOM || !width) return;
      if (!painted) return repaint();
      const [px, py, pz] = painted;
      const k = zoom / pz;
      const [dx, dy] = [tx - px * k, ty - py * k];
      const [left, top] = [dx - width * MARGIN * k, dy - height * MARGIN * k];
      const covers = left <= 0 && top <= 0 && left + width * (1 + 2 * MARGIN) * k >= width && top + height * (1 + 2 * MARGIN) * k >= height;
      if (!covers && k > 0.7) return repaint();
      element.style.transform = `translate(${left}px, ${top}px) scale(${k})`;
      clearTimeout(settle);
      if (k !== 1) settle = window.setTimeout(repaint, SETTLE_MS);
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
