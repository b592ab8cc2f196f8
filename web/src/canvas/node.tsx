// A node as it is drawn near: header, socket rows, fields, preview; loops and the nodes at the edges are in loop.tsx, edges.tsx.
import type { NodeProps } from "@xyflow/react";
import { memo, useEffect, useRef } from "react";
import { AREA, HEADER, ROW } from "../model/geometry";
import { isLiteral, typeInfo } from "../model/registry";
import { splitId } from "../model/paths";
import type { Box } from "../model/scene";
import { Field } from "../widgets/field";
import { setValue } from "../store/actions";
import { placeOf } from "../store/actions";
import { useLive, useRuns } from "../store/runs";
import { useView } from "../store/view";
import { Preview } from "./preview";
import { Socket } from "./socket";
import { Bar, Status } from "./status";

export function useProblem(id: string): { text: string; port: string } | null {
  const problem = useRuns((state) => state.problems.find((p) => placeOf(p.place).id === id));
  const live = useLive(id);
  if (live?.state === "failed" && live.message) return { text: live.message, port: "" };
  return problem ? { text: [problem.message, problem.hint].filter(Boolean).join(" "), port: placeOf(problem.place).port } : null;
}

export const NodeView = memo(function NodeView({ data, selected }: NodeProps) {
  const box = (data as { box: Box }).box;
  const { id, shape, spec } = box;
  const registry = useView((state) => state.registry);
  const live = useLive(id);
  const problem = useProblem(id);
  const family = typeInfo(registry, box.family).family;
  const running = live?.state === "running" || live?.state === "resumed";
  const missing = !box.ports?.known;
  const classes = ["node", selected && "selected", running && "running", (problem || missing) && "error", spec?.mode, live?.state === "cached" && "cached"].filter(Boolean).join(" ");
  return (
    <div className={classes} data-family={family} style={{ width: box.w, height: box.h }} aria-label={`${box.title}, node ${id}`}>
      <header style={{ height: HEADER }}>
        <span className="name" title={box.info?.summary}>{box.title}</span>
        {box.title.toLowerCase().replace(/ /g, "_") === splitId(id).name ? null : <span className="own-name">{splitId(id).name}</span>}
        <Status path={id} />
      </header>
      <Bar path={id} />
      {problem || missing ? <span className="badge">{missing ? "unknown" : "1 error"}</span> : null}
      {spec?.mode ? <span className="badge mode">{spec.mode === "mute" ? "muted" : "bypassed"}</span> : null}
      {shape?.rows.map((row, i) => (
        <div className="row" key={i} style={{ height: ROW }}>
          <span title={row.in?.doc}>{row.in?.label}</span>
          <span className="out" title={row.out?.doc}>{row.out?.label}</span>
        </div>
      ))}
      {shape ? <Fields box={box} problemPort={problem?.port ?? ""} /> : null}
      {shape?.hidden ? <div className="more" style={{ height: ROW }}>{shape.hidden} more in the panel</div> : null}
      {shape?.preview ? <Preview id={id} top={shape.previewY} /> : null}
      {problem ? <div className="node-problem" role="alert">{problem.text}</div> : null}
      {box.handles.map((place) => <Socket key={place.id} place={place} />)}
    </div>
  );
});

function Fields({ box, problemPort }: { box: Box; problemPort: string }) {
  const focus = useView((state) => (state.focusField?.id === box.id ? state.focusField.port : null));
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!focus) return;
    const field = root.current?.querySelector<HTMLElement>(`[data-port="${CSS.escape(focus)}"] :is(input, textarea, select, button)`);
    field?.focus({ preventScroll: true });
    if (field) useView.getState().set({ focusField: null });
  }, [focus]);
  const name = splitId(box.id).name;
  return (
    <div className="fields" ref={root}>
      {box.shape?.fields.map(({ port, value, height, given }) => (
        <div key={port.name} data-port={port.name} style={{ height: height - 4 }} title={port.doc || undefined}
          className={`field ${height === AREA ? "tall" : ""} ${given ? "given" : ""} ${problemPort === port.name ? "invalid" : ""}`}>
          <span className="label">{port.name.replace(/_/g, " ")}</span>
          {isLiteral(port.type) || port.literal ? (
            <Field port={port} value={value} label={`${port.name} of ${name}`} invalid={problemPort === port.name} onChange={(next) => setValue(box.id, port.name, next)} />
          ) : null}
        </div>
      ))}
    </div>
  );
}
