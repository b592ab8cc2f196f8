// The bar at the top: tabs, memory, the run that is shown with its time left, the queue, and the one filled button.
import { run, closeTab, newDocument, cancelShown } from "../store/actions";
import { isChanged, useDocs } from "../store/docs";
import { useRuns } from "../store/runs";
import { useView } from "../store/view";
import { useSystem } from "../store/server";
import { bytes, seconds } from "../canvas/status";

export function TopBar() {
  return (
    <header className="topbar">
      <span className="brand"><i aria-hidden="true" /><h1>Kineograph</h1></span>
      <Tabs />
      <Memory />
      <RunMeter />
      <Queue />
      <button type="button" className="button primary" onClick={() => void run()}>Run <kbd>Ctrl ⏎</kbd></button>
    </header>
  );
}

function Tabs() {
  const tabs = useDocs((state) => state.tabs);
  const active = useDocs((state) => state.active);
  const { activate } = useDocs.getState();
  return (
    <div className="tabs">
      <div role="tablist" aria-label="Open workflows" style={{ display: "contents" }}>
        {tabs.map((tab) => (
          <div key={tab.id} role="presentation" className={`tab ${tab.id === active ? "on" : ""}`}>
            <button type="button" role="tab" aria-selected={tab.id === active} onClick={() => activate(tab.id)}>
              {tab.title}{isChanged(tab) ? <><span aria-hidden="true"> •</span><span className="sr"> (changed)</span></> : null}
            </button>
            <button type="button" className="x" tabIndex={-1} aria-hidden="true" title={`Close ${tab.title}`} onClick={() => closeTab(tab.id)}>×</button>
          </div>
        ))}
      </div>
      <button type="button" className="icon" aria-label="New workflow" onClick={newDocument}>+</button>
    </div>
  );
}

function Meter({ kind, text, share }: { kind: string; text: string; share: number }) {
  return <div className={`meter ${kind}`} title={text}><b>{text}</b><i style={{ ["--share" as string]: `${Math.round(Math.min(1, share) * 100)}%` }} /></div>;
}

function Memory() {
  const system = useSystem();
  if (!system) return null;
  const device = system.devices.find((d) => d.memory_total && d.kind !== "cpu");
  const total = device?.memory_total ?? system.memory.total;
  const used = device ? (device.memory_total ?? 0) - (device.memory_free ?? 0) : system.memory.total - system.memory.available;
  return total ? <Meter kind="memory" text={`${device ? device.name : "RAM"} · ${bytes(used)} / ${bytes(total)}`} share={used / total} /> : null;
}

function RunMeter() {
  const job = useRuns((state) => Object.values(state.jobs).find((j) => j.state === "running"));
  if (!job) return null;
  const { progress } = job;
  const share = progress?.total ? progress.done / progress.total : 0;
  const left = progress && progress.seconds_left > 0 ? ` · ${seconds(progress.seconds_left)} left` : "";
  return (
    <>
      <Meter kind="run" text={`Run ${job.number} · ${Math.round(share * 100)}%${left}`} share={share} />
      <button type="button" className="button" onClick={() => void cancelShown()}>Cancel</button>
    </>
  );
}

function Queue() {
  const counts = useRuns((state) => state.counts);
  const paused = useRuns((state) => state.paused);
  const waiting = (counts.queued ?? 0) + (counts.running ?? 0);
  const open = (): void => useView.getState().set({ drawerTab: "runs", panels: { ...useView.getState().panels, drawer: true } });
  return <button type="button" className="button queue" onClick={open}>{paused ? "Paused" : "Queue"} {waiting || ""}</button>;
}
