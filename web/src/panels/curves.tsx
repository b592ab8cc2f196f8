// Live curves of what a run reports (loss, rates, norms), with earlier runs dashed behind; drawn by uPlot.
import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { api } from "../net/api";
import { samplesOf, type Sample } from "../model/samples";
import { useRuns, type Curve } from "../store/runs";
import { Samples, TrainingTools, type Axis } from "./training";

/** An exponential mean that starts at the first value; NaN is passed over. */
export function smooth(values: number[], weight: number): number[] {
  let mean = NaN;
  return values.map((value) => {
    if (!Number.isFinite(value)) return mean;
    mean = Number.isNaN(mean) ? value : weight * mean + (1 - weight) * value;
    return mean;
  });
}

/** Curves on one rising axis of steps, null where one has no point. */
export function joined(curves: Curve[]): [number[], ...(number | null)[][]] {
  const steps = [...new Set(curves.flatMap((curve) => curve.steps))].sort((a, b) => a - b);
  const columns = curves.map((curve) => {
    const at = new Map(curve.steps.map((step, i) => [step, curve.values[i]]));
    return steps.map((step) => at.get(step) ?? null);
  });
  return [steps, ...columns];
}

export async function loadCurves(job: string): Promise<void> {
  const found = await api.metrics(job);
  const curves = Object.fromEntries(Object.entries(found).map(([name, points]): [string, Curve] => [name, { steps: points.map(([s]) => s), values: points.map(([, v]) => v ?? NaN) }]));
  const state = useRuns.getState();
  state.set({ curves: { ...state.curves, [job]: { ...curves, ...state.curves[job] } } });
}

export default function Curves() {
  const shown = useRuns((state) => state.shown);
  const jobs = useRuns((state) => state.jobs);
  const curves = useRuns((state) => state.curves);
  const alarm = useRuns((state) => state.alarms[state.shown]);
  const written = useRuns((state) => state.written[state.shown]);
  const [name, setName] = useState("");
  const [weight, setWeight] = useState(0.8);
  const [log, setLog] = useState(false);
  const earlier = useMemo(() => Object.values(jobs).filter((job) => job.id !== shown).sort((a, b) => b.number - a.number).slice(0, 3).map((job) => job.id), [jobs, shown]);
  useEffect(() => {
    for (const id of [shown, ...earlier]) if (id && !useRuns.getState().curves[id]) void loadCurves(id).catch(() => undefined);
  }, [shown, earlier]);
  const files = jobs[shown]?.outputs;
  const samples = useMemo(() => samplesOf(files ?? [], written), [files, written]);
  const names = Object.keys(curves[shown] ?? {});
  const metric = names.includes(name) ? name : (names.find((n) => n.endsWith("loss")) ?? names[0] ?? "");
  if (!metric) return <p className="empty-state">The run that is shown reports no numbers. Training runs do: loss, gradient norm, rate.</p>;
  const main = curves[shown][metric];
  const others = earlier.map((id) => curves[id]?.[metric]).filter((curve): curve is Curve => curve !== undefined);
  return (
    <div className="curves">
      <div className="curve-tools">
        <label>curve <select className="field-input" value={metric} onChange={(e) => setName(e.target.value)}>{names.map((n) => <option key={n}>{n}</option>)}</select></label>
        <label>smooth <input type="range" min={0} max={0.98} step={0.02} value={weight} onChange={(e) => setWeight(Number(e.target.value))} /></label>
        <label><input type="checkbox" checked={log} onChange={(e) => setLog(e.target.checked)} /> log</label>
        <span className="mono">{main.values.at(-1)?.toPrecision(4)} at {main.steps.at(-1)}</span>
        {samples.length ? <span className="muted">{samples.length} samples: the dots below</span> : null}
        {alarm ? <span className="bad" role="alert">{alarm}</span> : null}
        {others.length ? <span className="muted">dashed: earlier runs</span> : null}
        <TrainingTools job={jobs[shown]} step={main.steps.at(-1)} />
      </div>
      <Plot main={main} others={others} weight={weight} log={log} label={metric} samples={samples} />
    </div>
  );
}

interface PlotProps {
  main: Curve;
  others: Curve[];
  weight: number;
  log: boolean;
  label: string;
  samples: Sample[];
}

/** Where uPlot has its axis of steps, in pixels of the plot. */
function axisOf(plot: uPlot): Axis {
  const { left, top, width, height } = plot.bbox;
  const [from, to] = [plot.scales.x.min ?? 0, plot.scales.x.max ?? 0];
  return { left: left / devicePixelRatio, width: width / devicePixelRatio, bottom: (top + height) / devicePixelRatio, from, to };
}

function Plot({ main, others, weight, log, label, samples }: PlotProps) {
  const [axis, setAxis] = useState<Axis | null>(null);
  const root = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const count = others.length;
  const data = useMemo(() => {
    const lines = [main, { steps: main.steps, values: smooth(main.values, weight) }, ...others.map((curve) => ({ steps: curve.steps, values: smooth(curve.values, weight) }))];
    return joined(lines.map((line) => ({ ...line, values: line.values.map((v) => (log && v <= 0 ? NaN : v)) })));
  }, [main, others, weight, log]);
  const newest = useRef(data);
  newest.current = data;
  useEffect(() => {
    const element = root.current;
    if (!element) return;
    const style = getComputedStyle(document.documentElement);
    const color = (name: string): string => style.getPropertyValue(`--${name}`).trim();
    const axis = { stroke: color("muted"), grid: { stroke: color("line"), width: 1 }, ticks: { show: false }, font: "11px Inter, system-ui, sans-serif" };
    const size = (): { width: number; height: number } => ({ width: element.clientWidth, height: Math.max(90, element.clientHeight) });
    const made = new uPlot({
      ...size(), legend: { show: false }, scales: { x: { time: false }, y: { distr: log ? 3 : 1 } }, axes: [axis, { ...axis, size: 52 }],
      hooks: { draw: [(plot) => setAxis(axisOf(plot))] },
      series: [{}, { stroke: color("fam-training"), width: 1, alpha: 0.35 }, { stroke: color("fam-training"), width: 2.2 }, ...Array.from({ length: count }, () => ({ stroke: color("muted"), width: 1.4, dash: [5, 4] }))],
    }, newest.current as uPlot.AlignedData, element);
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize(size()));
    watch.observe(element);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [log, count]);
  useEffect(() => plot.current?.setData(data as uPlot.AlignedData), [data]);
  return (
    <div className="plot">
      <div ref={root} className="plot-canvas" role="img" aria-label={`Curve of ${label}`} />
      <Samples samples={samples} axis={axis} />
    </div>
  );
}
