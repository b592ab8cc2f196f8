// The whole graph small, with the window that is seen; a click goes there. Hidden for graphs that need none.
import { useReactFlow, useStoreApi } from "@xyflow/react";
import { useEffect, useMemo, useRef, type PointerEvent } from "react";
import { typeInfo } from "../model/registry";
import { placed } from "../model/places";
import { bounds, type Scene } from "../model/scene";
import { useView } from "../store/view";

const W = 168;
const H = 108;
const FEWEST = 40;

export function Minimap({ scene }: { scene: Scene }) {
  return scene.boxes.length < FEWEST ? null : <Map_ scene={scene} />;
}

function Map_({ scene }: { scene: Scene }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const flow = useReactFlow();
  const registry = useView((state) => state.registry);
  const theme = useView((state) => state.theme);
  const store = useStoreApi();
  const seen = useRef<HTMLDivElement>(null);
  const all = useMemo(() => bounds(scene), [scene]);
  const scale = Math.min(W / all.w, H / all.h);
  useEffect(() => {
    const c = canvas.current?.getContext("2d");
    if (!c) return;
    const style = getComputedStyle(document.documentElement);
    const colors = new Map<string, string>();
    const colorOf = (type: string): string => {
      let color = colors.get(type);
      if (!color) colors.set(type, (color = style.getPropertyValue(`--fam-${typeInfo(registry, type).family}`)));
      return color;
    };
    c.clearRect(0, 0, W, H);
    for (const { box, x, y } of placed(scene)) {
      c.globalAlpha = box.kind === "loop" || box.kind === "frame" ? 0.25 : 0.8;
      c.fillStyle = colorOf(box.family);
      c.fillRect((x - all.x) * scale, (y - all.y) * scale, Math.max(1, box.w * scale), Math.max(1, box.h * scale));
    }
  }, [scene, scale, registry, theme, all]);
  useEffect(() => {
    const put = ({ transform: [tx, ty, zoom], width, height }: ReturnType<typeof store.getState>): void => {
      const style = seen.current?.style;
      if (!style) return;
      Object.assign(style, { width: `${(width / zoom) * scale}px`, height: `${(height / zoom) * scale}px` });
      style.transform = `translate(${(-tx / zoom - all.x) * scale}px, ${(-ty / zoom - all.y) * scale}px)`;
    };
    put(store.getState());
    return store.subscribe(put);
  }, [store, scale, all]);
  const go = (event: PointerEvent): void => {
    if (event.buttons !== 1 && event.type !== "pointerdown") return;
    const rect = canvas.current!.getBoundingClientRect();
    void flow.setCenter(all.x + (event.clientX - rect.left) / scale, all.y + (event.clientY - rect.top) / scale, { zoom: flow.getZoom() });
  };
  return (
    <div className="minimap" onPointerDown={go} onPointerMove={go} aria-hidden="true">
      <canvas ref={canvas} width={W} height={H} />
      <div className="window" ref={seen} />
    </div>
  );
}
