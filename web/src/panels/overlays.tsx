// What lies on the canvas: the way back out of a definition, and what the workflow would cost.
import { bytes, seconds } from "../canvas/status";
import { activeTab, useDocs } from "../store/docs";
import { useRuns } from "../store/runs";
import { renameShown } from "../store/wires";

export function Crumbs() {
  const tab = useDocs(activeTab);
  if (!tab?.scope) return null;
  return (
    <nav className="crumbs" aria-label="Where you are">
      <button type="button" onClick={() => useDocs.getState().change(tab.id, { scope: "" })}>{tab.title}</button>
      <span aria-hidden="true">›</span>
      <button type="button" className="here" title="Rename (F2)" onClick={renameShown}>{tab.scope.slice(1)}</button>
    </nav>
  );
}

const number = (value: unknown): number | undefined => (typeof value === "number" && Number.isFinite(value) ? value : undefined);

export function EstimateLine() {
  const estimate = useRuns((state) => state.estimate);
  const problems = useRuns((state) => state.problems.length);
  if (problems) return <div className="estimate">{problems} {problems === 1 ? "problem" : "problems"}</div>;
  if (!estimate) return null;
  const nodes = Array.isArray(estimate.nodes) ? (estimate.nodes as { tokens?: number }[]) : [];
  const tokens = Math.max(0, ...nodes.map((node) => number(node.tokens) ?? 0));
  const peak = number(estimate.peak_bytes);
  const time = number(estimate.seconds);
  return (
    <div className="estimate" title="Worked out from shapes alone; no weights were read.">
      {tokens ? <><b>{tokens.toLocaleString()}</b> tokens · </> : null}{peak ? <><b>{bytes(peak)}</b> peak{time ? " · " : ""}</> : null}{time ? <>about <b>{seconds(time)}</b></> : null}
    </div>
  );
}
