// The panel at the right: the chosen node's inputs in full, what its last run cost, why it runs again, and its help.
import { useMemo, useState } from "react";
import { bytes, liveText, seconds } from "../canvas/status";
import { Glyph } from "../canvas/socket";
import { inputPort } from "../canvas/edges";
import { addCarry, linkToCarry, promote, removeInput, renameNode, setInput, setMode, setTitle } from "../model/edit";
import { LOOP, nodeAt, NAME, splitId } from "../model/paths";
import { isLiteral } from "../model/registry";
import type { Box } from "../model/scene";
import type { PortInfo } from "../model/types";
import { apply, setValue, typesNow } from "../store/actions";
import { activeDoc, activeTab, BLANK, useDocs } from "../store/docs";
import { useLive, useRuns } from "../store/runs";
import { useScene } from "../store/scene";
import { useView } from "../store/view";
import { Field } from "../widgets/field";
import { useProblem } from "../canvas/node";

export function Inspector() {
  const selection = useView((state) => state.selection);
  const scene = useScene();
  const chosen = [...selection].filter((id) => !id.startsWith("~"));
  const box = chosen.length === 1 ? scene.byId.get(chosen[0]) : undefined;
  return (
    <aside className="inspector" aria-label="Inspector">
      {chosen.length > 1 ? <Several ids={chosen} /> : box?.spec ? <NodePanel key={box.id} box={box} /> : <DocumentPanel />}
    </aside>
  );
}

function Several({ ids }: { ids: string[] }) {
  return (
    <>
      <h2>{ids.length} nodes chosen</h2>
      <p className="muted">Tidy <kbd>L</kbd>, frame <kbd>Ctrl+G</kbd>, bypass <kbd>Ctrl+B</kbd>, mute <kbd>Ctrl+M</kbd>, copy <kbd>Ctrl+C</kbd>, delete <kbd>Del</kbd>.</p>
    </>
  );
}

function NodePanel({ box }: { box: Box }) {
  const { id, spec, ports, info } = box;
  const name = splitId(id).name;
  const [draft, setDraft] = useState(name);
  const problem = useProblem(id);
  const rename = (): void => {
    if (draft === name) return;
    if (!NAME.test(draft)) return setDraft(name);
    const edit = renameNode(activeDoc(), id, draft);
    apply(edit);
    useView.getState().select([edit.id]);
  };
  const loop = spec?.type === LOOP;
  return (
    <>
      <input className="title-input" aria-label="Title" value={spec?.title ?? ""} placeholder={box.title} onChange={(e) => apply(setTitle(id, e.target.value), `title ${id}`)} />
      <p className="muted" style={{ margin: "0 0 4px" }}>{[info?.category, spec?.type, info?.pack && `pack ${info.pack}`].filter(Boolean).join(" · ")}</p>
      {problem ? <p className="bad" role="status">{problem.text}</p> : null}
      <div className="line"><label htmlFor="insp-name">name</label><input id="insp-name" className="field-input mono" value={draft} onChange={(e) => setDraft(e.target.value)} onBlur={rename} onKeyDown={(e) => e.key === "Enter" && rename()} /></div>
      <h3>Inputs</h3>
      {ports?.inputs.map((port) => <InputLine key={port.name} box={box} port={port} />)}
      {loop ? <LoopTools id={id} /> : null}
      {ports?.outputs.length ? <h3>Outputs</h3> : null}
      {ports?.outputs.map((output) => <div className="line" key={output.name}><span className="name"><Glyph type={output.type} /> {output.name}</span><span className="value mono">{output.type}</span></div>)}
      <ThisRun id={id} />
      <div className="line buttons">
        <button type="button" className="button" aria-pressed={spec?.mode === "bypass"} onClick={() => apply(setMode(activeDoc(), [id], "bypass"))}>Bypass</button>
        <button type="button" className="button" aria-pressed={spec?.mode === "mute"} onClick={() => apply(setMode(activeDoc(), [id], "mute"))}>Mute</button>
      </div>
      {info ? <><h3>What it does</h3><Doc text={info.doc} /></> : loop ? <p className="doc">One pass for each item of a stream. What is carried (↻) goes from pass to pass; what is collected (⧉) leaves as a stream.</p> : null}
    </>
  );
}

/** A docstring: its lines flow, its paragraphs stay, and what stands between backticks is code. */
function Doc({ text }: { text: string }) {
  const flowing = text.replace(/([^\n])\n(?![\n -])/g, "$1 ");
  return <p className="doc">{flowing.split(/``([^`]+)``/).map((part, i) => (i % 2 ? <code key={i}>{part}</code> : part))}</p>;
}

function InputLine({ box, port }: { box: Box; port: PortInfo }) {
  const spec = box.spec;
  const problem = useProblem(box.id);
  const link = port.name === "each" && spec?.type === LOOP ? spec.each : (spec?.carry?.[port.name] ?? spec?.links?.[port.name]);
  const field = `insp-${port.name}`;
  if (link !== undefined || !(isLiteral(port.type) || port.literal)) {
    return (
      <div className="line" title={port.doc}>
        <span className="name"><Glyph type={port.type} /> {port.name.replace(/_/g, " ")}</span>
        <span className="value mono">{link || <span className={port.required ? "bad" : "muted"}>{port.required ? `needs ${port.type}` : "not wired"}</span>}</span>
      </div>
    );
  }
  const given = spec?.params !== undefined && port.name in spec.params;
  const inGraph = !box.parent;
  return (
    <div className="line" title={port.doc}>
      <label htmlFor={field}>{port.name.replace(/_/g, " ")}</label>
      <Field id={field} port={port} value={given ? spec?.params?.[port.name] : port.default} label={port.name} invalid={problem?.port === port.name} onChange={(value) => setValue(box.id, port.name, value)} />
      {inGraph ? <button type="button" className="small" title="Make it an input of the workflow" aria-label={`Make ${port.name} an input`} onClick={() => apply(promote(activeDoc(), typesNow(), box.id, port.name))}>↥</button> : null}
    </div>
  );
}

function LoopTools({ id }: { id: string }) {
  const [name, setName] = useState("");
  const links = Object.keys(nodeAt(activeDoc(), id)?.links ?? {});
  return (
    <>
      <div className="line">
        <label htmlFor="insp-carry">carry</label>
        <input id="insp-carry" className="field-input mono" placeholder="name" value={name} onChange={(e) => setName(e.target.value)} onKeyDown={(e) => e.key === "Enter" && NAME.test(name) && (apply(addCarry(activeDoc(), id, name)), setName(""))} />
        <button type="button" className="small" aria-label="Add this carry" disabled={!NAME.test(name)} onClick={() => { apply(addCarry(activeDoc(), id, name)); setName(""); }}>+</button>
      </div>
      {links.length ? <div className="line"><label htmlFor="insp-tocarry">carry instead</label>
        <select id="insp-tocarry" className="field-input" value="" onChange={(e) => apply(linkToCarry(activeDoc(), id, e.target.value))}><option value="">choose…</option>{links.map((link) => <option key={link}>{link}</option>)}</select></div> : null}
    </>
  );
}

const SI = ["", " k", " M", " G", " T", " P", " E"];
const amount = (value: number): string => {
  const power = Math.min(Math.floor(Math.log10(value) / 3), SI.length - 1);
  return `${+(value / 1000 ** power).toPrecision(3)}${SI[power]}`;
};
/** What is told of a node before it runs: the estimate's name for it, ours, the least that is worth a line. */
const EXPECTED: [string, string, number, (value: number) => string][] = [
  ["tokens", "tokens", 1, amount],
  ["flops", "FLOPs", 1, amount],
  ["peak_bytes", "peak", 1, bytes],
  ["seconds", "expected", 0, seconds],
  ["loops", "passes", 2, String],
];

function ThisRun({ id }: { id: string }) {
  const live = useLive(id);
  const plan = useRuns((state) => state.plan[id]);
  const estimate = useRuns((state) => state.estimate);
  const expected = (estimate?.nodes as Record<string, Record<string, unknown>> | { path?: string }[] | undefined);
  const mine = Array.isArray(expected) ? expected.find((n) => n.path === id) : expected?.[id];
  if (!live && !plan && !mine) return null;
  const step = live?.state === "done" && live.total ? (live.seconds ?? 0) / live.total : undefined;
  return (
    <>
      <h3>This run</h3>
      {live ? <div className="line"><span className="name">state</span><span className="value">{liveText(live) || live.state}</span></div> : null}
      {step ? <div className="line"><span className="name">a pass</span><span className="value">{seconds(step)}</span></div> : null}
      {live?.nbytes ? <div className="line"><span className="name">its outputs</span><span className="value">{bytes(live.nbytes)}</span></div> : null}
      {EXPECTED.map(([key, name, least, said]) => {
        const value = (mine as Record<string, unknown> | undefined)?.[key];
        return typeof value === "number" && value >= least ? <div className="line" key={key}><span className="name">{name}</span><span className="value">{said(value)}</span></div> : null;
      })}
      {plan ? <p className="doc">{plan.cached ? `Reused from ${plan.cached}: it runs again if an input changes.` : plan.why}</p> : null}
    </>
  );
}

function DocumentPanel() {
  const doc = useDocs((state) => activeTab(state)?.history.doc ?? BLANK);
  const scope = useDocs((state) => activeTab(state)?.scope ?? "");
  const history = useDocs((state) => activeTab(state)?.history);
  const inputs = useMemo(() => Object.entries((scope ? doc.definitions?.[scope.slice(1)]?.inputs : doc.inputs) ?? {}), [doc, scope]);
  const about = scope ? doc.definitions?.[scope.slice(1)]?.about : doc.about;
  const path = scope ? ["definitions", scope.slice(1), "about"] : ["about"];
  return (
    <>
      <h2>{scope ? scope.slice(1) : "This workflow"}</h2>
      <p><textarea className="text-input" rows={4} aria-label="What this workflow is about" placeholder="What it is about" value={about ?? ""} onChange={(e) => apply({ label: "Describe", ops: [{ path, value: e.target.value }] }, "about")} /></p>
      <h3>Inputs</h3>
      {inputs.length ? null : <p className="muted">None. Choose a node and press ↥ beside a value to make it an input, for forms, `--set` and sweeps.</p>}
      {inputs.map(([name, spec]) => (
        <div className="line" key={name} title={spec.about}>
          <label htmlFor={`in-${name}`}>{name}</label>
          <Field id={`in-${name}`} port={inputPort(name, spec)} value={spec.default} label={name} onChange={(value) => apply(setInput(scope, name, "default", value), `input ${name}`)} />
          <button type="button" className="small" aria-label={`Remove input ${name}`} onClick={() => apply(removeInput(doc, scope, name))}>×</button>
        </div>
      ))}
      {!scope && inputs.some(([name]) => name === "seed") ? <AfterRun /> : null}
      {Object.keys(doc.definitions ?? {}).length ? <h3>Definitions</h3> : null}
      {Object.keys(doc.definitions ?? {}).map((name) => <OpenDefinition key={name} name={name} />)}
      <h3>History</h3>
      <ol className="history" reversed>{history?.past.slice(-12).reverse().map((step, i) => <li key={i}>{step.label}</li>)}</ol>
    </>
  );
}

function OpenDefinition({ name }: { name: string }) {
  const tab = useDocs((state) => activeTab(state)?.id ?? "");
  return <button type="button" className="button" onClick={() => useDocs.getState().change(tab, { scope: `#${name}` })}>{name}</button>;
}

function AfterRun() {
  const how = useDocs((state) => activeTab(state)?.history.doc.ui?.after_run?.["inputs.seed"] ?? "keep");
  return (
    <div className="line">
      <label htmlFor="insp-after">after a run</label>
      <select id="insp-after" className="field-input" value={how} onChange={(e) => apply({ label: "Seed after a run", ops: [{ path: ["ui", "after_run", "inputs.seed"], value: e.target.value === "keep" ? undefined : e.target.value }] })}>
        <option value="keep">keep the seed</option><option value="next">seed + 1</option><option value="random">a random seed</option>
      </select>
    </div>
  );
}

