// What a training run shows beside its curve: its samples as dots on the axis of steps, and stopping and going on.
import type { JobInfo } from "../net/api";
import { thinned, type Sample } from "../model/samples";
import { cancelShown, finishShown, goOn } from "../store/actions";
import { useRuns } from "../store/runs";
import { useView } from "../store/view";

/** A dot can be hit where it has this many pixels. */
const DOT = 16;

export interface Axis {
  left: number;
  width: number;
  bottom: number;
  from: number;
  to: number;
}

export function Samples({ samples, axis }: { samples: Sample[]; axis: Axis | null }) {
  if (!axis || axis.to <= axis.from) return null;
  const seen = samples.filter(({ step }) => step >= axis.from && step <= axis.to);
  const x = (step: number): number => axis.left + ((step - axis.from) / (axis.to - axis.from)) * axis.width;
  const span = x(seen.at(-1)?.step ?? 0) - x(seen[0]?.step ?? 0);
  const shown = thinned(seen, Math.max(2, Math.floor(span / DOT)));
  return (
    <div className="samples" role="group" aria-label="Samples">
      {shown.map(({ step, id, name }) => (
        <button type="button" key={id} className="sample" style={{ left: x(step), top: axis.bottom }} aria-label={`Sample at step ${step}`} title={`Step ${step}: ${name}`}
          onClick={() => useView.getState().set({ dialog: { kind: "player", files: [id] } })} />
      ))}
    </div>
  );
}

export function TrainingTools({ job, step }: { job: JobInfo | undefined; step: number | undefined }) {
  const cut = useRuns((state) => (job ? state.cuts[job.id] : undefined));
  if (!job) return null;
  if (job.state === "running" && cut !== undefined) return <span className="muted">after pass {cut}: what follows the loop runs</span>;
  if (job.state === "running") {
    return (
      <>
        <button type="button" className="button" title="The loop ends after this pass; what follows it runs, such as writing the weights" onClick={() => void finishShown()}>Stop and save</button>
        <button type="button" className="button" title="Ends the run at once and keeps its newest pass; Go on takes it up there" onClick={() => void cancelShown()}>Pause</button>
      </>
    );
  }
  if (job.state !== "cancelled" && job.state !== "failed" && cut === undefined) return null;
  return <button type="button" className="button" title="Runs the same work again, from the newest pass that was kept" onClick={() => void goOn(job.id)}>Go on{step === undefined ? "" : ` after step ${step}`}</button>;
}
