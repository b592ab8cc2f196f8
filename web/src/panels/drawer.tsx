// The drawer at the bottom: runs with progress, gallery, curves, data set, problems, log.
import { lazy, Suspense, type KeyboardEvent } from "react";
import { goToProblem } from "../store/actions";
import { useRuns } from "../store/runs";
import { useView, type DrawerTab } from "../store/view";
import { Gallery } from "./gallery";
import { RunList } from "./run-list";

const Curves = lazy(() => import("./curves"));
const Data = lazy(() => import("./data"));
const TABS: [DrawerTab, string][] = [["runs", "Runs"], ["gallery", "Gallery"], ["metrics", "Metrics"], ["data", "Data"], ["problems", "Problems"], ["log", "Log"]];

export function Drawer() {
  const tab = useView((state) => state.drawerTab);
  const problems = useRuns((state) => state.problems.length);
  const go = (next: DrawerTab): void => useView.getState().set({ drawerTab: next });
  const onKey = (event: KeyboardEvent): void => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    const at = TABS.findIndex(([id]) => id === tab);
    const [next] = TABS[(at + by + TABS.length) % TABS.length];
    go(next);
    document.getElementById(`drawer-${next}`)?.focus();
  };
  return (
    <section className={`drawer ${tab === "gallery" || tab === "metrics" || tab === "data" ? "tall" : ""}`} aria-label="Results">
      <header>
        <div role="tablist" aria-label="Results" style={{ display: "contents" }} onKeyDown={onKey}>
          {TABS.map(([id, title]) => (
            <button type="button" key={id} id={`drawer-${id}`} role="tab" aria-selected={tab === id} tabIndex={tab === id ? 0 : -1} className="button" onClick={() => go(id)}>
              {title}{id === "problems" && problems ? ` ${problems}` : ""}
            </button>
          ))}
        </div>
      </header>
      <div className="content" role="tabpanel" aria-labelledby={`drawer-${tab}`} tabIndex={0}>
        {tab === "runs" ? <RunList /> : null}
        {tab === "gallery" ? <Gallery /> : null}
        {tab === "metrics" ? <Suspense fallback={null}><Curves /></Suspense> : null}
        {tab === "data" ? <Suspense fallback={null}><Data /></Suspense> : null}
        {tab === "problems" ? <Problems /> : null}
        {tab === "log" ? <Log /> : null}
      </div>
    </section>
  );
}

function Problems() {
  const problems = useRuns((state) => state.problems);
  if (!problems.length) return <p className="empty-state">No problems: this workflow can run.</p>;
  return (
    <ul className="plain">
      {problems.map((problem, i) => (
        <li key={`${problem.place} ${problem.message}`}><button type="button" className="entry" onClick={() => goToProblem(i)}><b className="mono">{problem.place || "workflow"}</b> {problem.message} <span className="muted">{problem.hint}</span></button></li>
      ))}
    </ul>
  );
}

function Log() {
  const log = useRuns((state) => state.log);
  const jobs = useRuns((state) => state.jobs);
  if (!log.length) return <p className="empty-state">What happens in runs is written here.</p>;
  return <ol className="log mono">{log.toReversed().map((line, i) => <li key={log.length - i}><span className="muted">{new Date(line.at * 1000).toLocaleTimeString()} {jobs[line.job] ? `run ${jobs[line.job].number}` : ""}</span> {line.text}</li>)}</ol>;
}
