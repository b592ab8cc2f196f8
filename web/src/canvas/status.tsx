// What a node's header says at its right: progress and time left, seconds, cached and why.
import { useRuns, useLive, type Live } from "../store/runs";

export function seconds(value: number): string {
  if (!Number.isFinite(value)) return "";
  if (value < 0.0095) return "<10 ms";
  if (value < 1) return `${value.toFixed(2)} s`;
  if (value < 60) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${String(Math.round(value % 60)).padStart(2, "0")} s`;
  return `${Math.floor(value / 3600)} h ${String(Math.round((value % 3600) / 60)).padStart(2, "0")} min`;
}

export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  while (value >= 1000 && i < units.length - 1) {
    value /= 1000;
    i++;
  }
  return `${value >= 100 || i === 0 ? Math.round(value) : value.toFixed(1)} ${units[i]}`;
}

export function liveText(live: Live | undefined): string {
  if (!live) return "";
  if (live.state === "cached") return "cached";
  if (live.state === "failed") return "failed";
  if (live.state === "done") return seconds(live.seconds ?? NaN);
  if (live.total) return `${live.done}/${live.total}${live.left !== undefined && live.left > 0 ? ` · ${seconds(live.left)} left` : ""}`;
  return "running";
}

export function Status({ path }: { path: string }) {
  const live = useLive(path);
  const plan = useRuns((state) => state.plan[path]);
  const text = liveText(live) || (plan?.cached ? "cached" : "");
  if (!text) return null;
  const why = plan ? (plan.cached ? `Reused from ${plan.cached}; runs again if an input changes.` : plan.why) : "";
  return <span className={`status ${live?.state ?? "cached"}`} title={why || undefined}>{text}</span>;
}

export function Bar({ path }: { path: string }) {
  const live = useLive(path);
  if (!live || (live.state !== "running" && live.state !== "resumed")) return null;
  const share = live.total ? (live.done ?? 0) / live.total : undefined;
  return <progress className="node-bar" max={1} value={share} aria-label={`Progress of ${path}`} />;
}
