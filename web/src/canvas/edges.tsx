// The nodes at a graph's edges (its inputs with their values, its outputs), notes, and frames around nodes.
import type { NodeProps } from "@xyflow/react";
import { memo, useState } from "react";
import { FIELD, HEADER, ROW } from "../model/geometry";
import { setInput } from "../model/edit";
import { splitId } from "../model/paths";
import type { Box } from "../model/scene";
import type { InputSpec, Json, PortInfo } from "../model/types";
import { apply } from "../store/actions";
import { Field } from "../widgets/field";
import { useProblem } from "./node";
import { Socket } from "./socket";

const boxOf = (props: NodeProps): Box => (props.data as { box: Box }).box;

export function inputPort(name: string, spec: InputSpec): PortInfo {
  return { name, title: name, type: spec.type, required: spec.default === undefined, doc: spec.about ?? "", literal: true };
}

export const InputsView = memo(function InputsView(props: NodeProps) {
  const box = boxOf(props);
  const { scope } = splitId(box.id);
  const problem = useProblem("inputs");
  const change = (name: string, value: Json | undefined): void => apply(setInput(scope, name, "default", value), `input ${name}`);
  return (
    <div className={`node edge-node ${props.selected ? "selected" : ""} ${problem ? "error" : ""}`} style={{ width: box.w, height: box.h }} aria-label="Inputs of the workflow">
      <header style={{ height: HEADER }}><span className="name">Inputs</span><span className="status">{scope ? "of the definition" : "of the workflow"}</span></header>
      <div className="fields" style={{ paddingTop: 8 }}>
        {box.inputs?.length ? null : <span className="hint">none yet: make a value of a node an input</span>}
        {box.inputs?.map(([name, spec]) => (
          <div key={name} className={`field given ${problem?.port === name ? "invalid" : ""}`} style={{ height: FIELD - 4 }} title={spec.about}>
            <span className="label">{name.replace(/_/g, " ")}</span>
            {["int", "float", "str", "bool"].includes(spec.type)
              ? <Field port={inputPort(name, spec)} value={spec.default} label={`Input ${name}`} onChange={(value) => change(name, value)} />
              : <span className="type">{spec.type}</span>}
          </div>
        ))}
      </div>
      {problem ? <div className="node-problem" role="alert">{problem.text}</div> : null}
      {box.handles.map((place) => <Socket key={place.id} place={place} />)}
    </div>
  );
});

export const OutputsView = memo(function OutputsView(props: NodeProps) {
  const box = boxOf(props);
  return (
    <div className={`node edge-node ${props.selected ? "selected" : ""}`} style={{ width: box.w, height: box.h }} aria-label="Outputs of the workflow">
      <header style={{ height: HEADER }}><span className="name">Outputs</span></header>
      {box.outputs?.map(([name]) => <div className="row" key={name} style={{ height: ROW }}><span>{name.replace(/_/g, " ")}</span></div>)}
      <div className="row new" style={{ height: ROW }}><span>add an output</span></div>
      {box.handles.map((place) => <Socket key={place.id} place={place} />)}
    </div>
  );
});

export const NoteView = memo(function NoteView(props: NodeProps) {
  const box = boxOf(props);
  const key = box.id.slice(6);
  const [editing, setEditing] = useState(false);
  const write = (text: string): void => apply({ label: "Write note", ops: [{ path: ["ui", "notes", key, "text"], value: text }] }, `note ${key}`);
  return (
    <div className={`note ${props.selected ? "selected" : ""}`} style={{ width: box.w, height: box.h }} onDoubleClick={() => setEditing(true)}>
      {editing || !box.text
        ? <textarea className="nodrag nowheel" aria-label="Note" autoFocus={editing} value={box.text} placeholder="A note…" onChange={(e) => write(e.target.value)} onBlur={() => setEditing(false)} />
        : <p>{box.text}</p>}
    </div>
  );
});

export const FrameView = memo(function FrameView(props: NodeProps) {
  const box = boxOf(props);
  const key = box.id.slice(7);
  const write = (title: string): void => apply({ label: "Rename frame", ops: [{ path: ["ui", "frames", key, "title"], value: title }] }, `frame ${key}`);
  return (
    <div className={`frame ${props.selected ? "selected" : ""}`} data-family={box.color} style={{ width: box.w, height: box.h }}>
      <input className="frame-title nodrag" aria-label="Title of the frame" value={box.title} size={Math.max(5, box.title.length)} onChange={(e) => write(e.target.value)} />
    </div>
  );
});
