// A loop drawn in place: a frame whose left edge gives each item and the carries, whose right edge takes them back.
import type { NodeProps } from "@xyflow/react";
import { memo } from "react";
import { HEADER, RAIL, ROW } from "../model/geometry";
import { toggleCollapsed } from "../model/edit";
import { typeInfo } from "../model/registry";
import type { Box } from "../model/scene";
import { apply } from "../store/actions";
import { activeDoc } from "../store/docs";
import { useLive } from "../store/runs";
import { useView } from "../store/view";
import { useProblem } from "./node";
import { Socket } from "./socket";
import { Bar, Status } from "./status";

export const LoopView = memo(function LoopView({ data, selected }: NodeProps) {
  const box = (data as { box: Box }).box;
  const registry = useView((state) => state.registry);
  const live = useLive(box.id);
  const problem = useProblem(box.id);
  const running = live?.state === "running" || live?.state === "resumed";
  const classes = ["loop", selected && "selected", running && "running", problem && "error", box.spec?.mode].filter(Boolean).join(" ");
  const rows = box.rails;
  return (
    <div className={classes} data-family={typeInfo(registry, box.family).family} style={{ width: box.w, height: box.h }} aria-label={`Loop ${box.id}`}>
      <header style={{ height: HEADER }} className="loop-head">
        <button type="button" className="fold nodrag" aria-label={`Collapse ${box.title}`} aria-expanded="true" onClick={() => apply(toggleCollapsed(activeDoc(), [box.id]))}>▾</button>
        <span className="name">{box.spec?.title || box.id.split("/").pop()}</span>
        <span className="kind">loop{live?.total ? ` · pass ${live.done} of ${live.total}` : ""}</span>
        <Status path={box.id} />
      </header>
      <Bar path={box.id} />
      <div className="rail left" style={{ width: RAIL }}>
        {rows?.left.map((entry) => (
          <div key={entry.name} className={`row ${entry.kind}`} style={{ height: ROW }} title={entry.innerType}>
            <span>{entry.kind === "carry" ? "↻ " : ""}{entry.label.replace(/_/g, " ")}</span>
          </div>
        ))}
      </div>
      <div className="rail right" style={{ width: RAIL }}>
        {rows?.right.map((entry) => (
          <div key={entry.name} className={`row ${entry.kind}`} style={{ height: ROW }} title={entry.type}>
            <span>{entry.label.replace(/_/g, " ")}{entry.kind === "carry" ? " ↻" : entry.kind === "collect" ? " ⧉" : ""}</span>
          </div>
        ))}
      </div>
      {problem ? <div className="node-problem" role="alert">{problem.text}</div> : null}
      {box.handles.map((place) => <Socket key={place.id} place={place} label={place.id.startsWith("s:") ? `${place.id.slice(2)} in each pass` : undefined} />)}
    </div>
  );
});
