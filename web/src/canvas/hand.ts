// What the rest of the page may ask of the canvas: where its middle is, to show a node or everything.
import type { useReactFlow } from "@xyflow/react";
import { absolute, bounds } from "../model/scene";
import { sceneNow } from "../store/scene";
import { farBelow } from "./far";

type Flow = ReturnType<typeof useReactFlow>;

class Hand {
  private flow: Flow | null = null;
  lastPointer = { x: 0, y: 0 };

  take(flow: Flow): () => void {
    this.flow = flow;
    return () => {
      if (this.flow === flow) this.flow = null;
    };
  }

  moved(event: { clientX: number; clientY: number }): void {
    this.lastPointer = { x: event.clientX, y: event.clientY };
  }

  private get size(): { w: number; h: number; x: number; y: number } {
    const rect = document.querySelector(".canvas")?.getBoundingClientRect();
    return { w: rect?.width ?? 800, h: rect?.height ?? 600, x: rect?.left ?? 0, y: rect?.top ?? 0 };
  }

  /** The middle of what is seen, on the canvas and on the screen. */
  middle(): { at: { x: number; y: number }; screen: { x: number; y: number } } {
    const { w, h, x, y } = this.size;
    const screen = { x: x + w / 2, y: y + h / 2 };
    return { at: this.flow?.screenToFlowPosition(screen) ?? { x: 0, y: 0 }, screen };
  }

  under(screen: { x: number; y: number }): { x: number; y: number } {
    return this.flow?.screenToFlowPosition(screen) ?? { x: 0, y: 0 };
  }

  zoom(by: number): void {
    void (by > 1 ? this.flow?.zoomIn({ duration: 100 }) : this.flow?.zoomOut({ duration: 100 }));
  }

  fit(ids?: Iterable<string>): void {
    const all = bounds(sceneNow(), ids);
    const { w, h } = this.size;
    const zoom = Math.min((w - 72) / all.w, (h - 72) / all.h, ids ? 1.2 : 1);
    void this.flow?.setViewport({ x: w / 2 - (all.x + all.w / 2) * zoom, y: h / 2 - (all.y + all.h / 2) * zoom, zoom });
  }

  /** Bring a node into view, unless it is seen already. */
  show(id: string): void {
    const scene = sceneNow();
    const box = scene.byId.get(id);
    if (!box || !this.flow) return;
    const { x, y } = absolute(scene, box);
    const { w, h, x: left, y: top } = this.size;
    const a = this.flow.flowToScreenPosition({ x, y });
    const b = this.flow.flowToScreenPosition({ x: x + box.w, y: y + box.h });
    const zoom = this.flow.getZoom();
    if (a.x >= left && a.y >= top && b.x <= left + w && b.y <= top + h && zoom >= farBelow(scene.boxes.length)) return;
    void this.flow.setCenter(x + box.w / 2, y + Math.min(box.h, 300) / 2, { zoom: Math.max(zoom, 0.75) });
  }
}

export const canvasHand = new Hand();
