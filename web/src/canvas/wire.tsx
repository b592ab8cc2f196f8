// A wire: a curve in its family's colour, through its reroute dots; dashes move only while what feeds it runs.
import { BaseEdge, useReactFlow, type EdgeProps } from "@xyflow/react";
import { memo, useRef, type PointerEvent } from "react";
import { setReroutes } from "../model/edit";
import { typeInfo } from "../model/registry";
import type { Wire } from "../model/scene";
import { apply } from "../store/actions";
import { useRuns } from "../store/runs";
import { useView } from "../store/view";

type Point = [number, number];

/** A smooth curve from left to right through all points; short hops bend less. */
export function curve(points: Point[]): string {
  let path = `M${points[0][0]},${points[0][1]}`;
  for (let i = 1; i < points.length; i++) {
    const [x0, y0] = points[i - 1];
    const [x1, y1] = points[i];
    const dx = x1 - x0;
    const bend = dx >= 0 ? Math.max(Math.min(dx * 0.5, 120), 24) : Math.min(60 + Math.abs(dx) * 0.25, 180);
    path += ` C${x0 + bend},${y0} ${x1 - bend},${y1} ${x1},${y1}`;
  }
  return path;
}

export const WireView = memo(function WireView({ id, source, sourceX, sourceY, targetX, targetY, data, selected }: EdgeProps) {
  const wire = (data as { wire: Wire }).wire;
  const registry = useView((state) => state.registry);
  const flows = useRuns((state) => {
    const live = state.live[state.shown]?.[source];
    return live?.state === "running" || live?.state === "resumed";
  });
  const { family } = typeInfo(registry, wire.type);
  const path = curve([[sourceX, sourceY], ...wire.via, [targetX, targetY]]);
  return (
    <g className={`wire ${selected ? "selected" : ""} ${flows ? "flows" : ""} ${wire.off ? "off" : ""}`} data-family={family}>
      <BaseEdge id={id} path={path} interactionWidth={12} />
      {wire.via.map((point, i) => <Dot key={i} wire={wire} i={i} at={point} />)}
    </g>
  );
});

/** A reroute dot: dragged to move, double-clicked to take away. */
function Dot({ wire, i, at }: { wire: Wire; i: number; at: Point }) {
  const flow = useReactFlow();
  const held = useRef(false);
  const put = (event: PointerEvent): void => {
    if (!held.current) return;
    const { x, y } = flow.screenToFlowPosition({ x: event.clientX, y: event.clientY });
    const via = wire.via.map((point, j): Point => (j === i ? [Math.round(x), Math.round(y)] : point));
    apply(setReroutes(wire.id, via), `reroute ${wire.id} ${i}`);
  };
  return (
    <circle
      className="reroute nopan" cx={at[0]} cy={at[1]} r={6}
      onPointerDown={(event) => { event.stopPropagation(); held.current = true; event.currentTarget.setPointerCapture(event.pointerId); }}
      onPointerMove={put} onPointerUp={() => { held.current = false; }}
      onDoubleClick={(event) => { event.stopPropagation(); apply(setReroutes(wire.id, wire.via.filter((_, j) => j !== i))); }}
    />
  );
}
