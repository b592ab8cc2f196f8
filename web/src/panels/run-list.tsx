// The queue and the newest runs as cards: a picture, state, what differs, and what can be done with each.
import { seconds } from "../canvas/status";
import { api, type JobInfo } from "../net/api";
import { failed, openDocument, refreshJob } from "../store/actions";
import { useRuns } from "../store/runs";
import { useView } from "../store/view";
import { Thumb } from "./thumb";

const MOST = 40;

export function jobLine(job: JobInfo): string {
  if (job.state === "running" && job.progress?.total) return `running · step ${job.progress.done} of ${job.progress.total}`;
  if (job.state === "queued") return job.position ? `waits · place ${job.position}` : "waits";
  return [job.state === "done" ? "" : job.state, job.seconds ? seconds(job.seconds) : ""].filter(Boolean).join(" · ") || job.state;
}

async function act(job: JobInfo, what: "cancel" | "retry" | "star" | "open" | "front" | "delete"): Promise<void> {
  const { putJobs, set, jobs } = useRuns.getState();
  try {
    if (what === "cancel") putJobs([await api.jobVerb(job.id, "cancel")]);
    if (what === "retry") putJobs([await api.jobVerb(job.id, "retry")]);
    if (what === "front") await api.jobVerb(job.id, "move", { before: null });
    if (what === "star") putJobs([await api.changeJob(job.id, { starred: !job.starred })]);
    if (what === "delete") {
      await api.deleteJob(job.id);
      const { [job.id]: _, ...rest } = jobs;
      set({ jobs: rest });
    }
    if (what === "open") {
      const { workflow } = await api.job(job.id);
      if (workflow) openDocument(workflow, `${job.title || "run"} (run ${job.number})`);
      set({ shown: job.id });
    }
  } catch (error) {
    failed(error);
  }
}

export function RunList() {
  const jobs = useRuns((state) => state.jobs);
  const paused = useRuns((state) => state.paused);
  const list = Object.values(jobs).sort((a, b) => b.number - a.number).slice(0, MOST);
  if (!list.length) return <p className="empty-state">Nothing ran yet. Press Run, or <kbd>Ctrl+Enter</kbd>.</p>;
  const queue = (verb: "pause" | "resume" | "cancel-all"): void => void api.queue(verb).then(() => useRuns.getState().set(verb === "cancel-all" ? {} : { paused: verb === "pause" }), failed);
  return (
    <div className="cards">
      <div className="queue-tools">
        <button type="button" className="button" onClick={() => queue(paused ? "resume" : "pause")}>{paused ? "Resume queue" : "Pause queue"}</button>
        <button type="button" className="button" onClick={() => queue("cancel-all")}>Cancel all</button>
      </div>
      {list.map((job) => <Card key={job.id} job={job} />)}
    </div>
  );
}

function Card({ job }: { job: JobInfo }) {
  const shown = useRuns((state) => state.shown === job.id);
  const media = job.outputs.find((output) => /^(video|image)\//.test(output.media_type));
  const alarm = useRuns((state) => state.alarms[job.id]);
  const show = (): void => {
    useRuns.getState().set({ shown: job.id });
    void refreshJob(job.id);
  };
  const play = (): void => media && useView.getState().set({ dialog: { kind: "player", files: [media.id] } });
  const size = media?.width ? `${media.frames ? `${media.frames} frames · ` : ""}${media.width}×${media.height}` : "";
  const cached = job.ran || job.cached ? `cached ${job.cached ?? 0} of ${(job.cached ?? 0) + (job.ran ?? 0)} nodes` : "";
  const waits = job.state === "queued" || job.state === "running";
  return (
    <article className={`card ${shown ? "on" : ""} ${job.state}`} aria-label={`Run ${job.number}, ${job.state}`}>
      <button type="button" className="thumb" aria-label={media ? `Play run ${job.number}` : `Show run ${job.number}: ${job.state}`} onClick={media ? play : show}><Thumb job={job} /></button>
      <div className="facts">
        <button type="button" className="title" onClick={show}>#{job.number} {job.title}</button>
        <span>{jobLine(job)}</span><span>{size}</span><span>{cached}</span>
        {job.error ? <span className="bad" title={job.error.message}>{job.error.message}</span> : null}
        {alarm ? <span className="bad" role="alert">{alarm}</span> : null}
        <span className="tools">
          <button type="button" className="small" aria-pressed={job.starred} aria-label={`Star run ${job.number}`} onClick={() => void act(job, "star")}>{job.starred ? "★" : "☆"}</button>
          {job.state === "queued" ? <button type="button" className="small" onClick={() => void act(job, "front")}>first</button> : null}
          {waits ? <button type="button" className="small" title="Ends the run; the newest pass of its loops is kept, and again goes on from it" onClick={() => void act(job, "cancel")}>cancel</button> : <button type="button" className="small" onClick={() => void act(job, "retry")}>again</button>}
          <button type="button" className="small" onClick={() => void act(job, "open")}>open</button>
          {waits ? null : <button type="button" className="small" aria-label={`Delete run ${job.number}`} onClick={() => void act(job, "delete")}>×</button>}
        </span>
      </div>
    </article>
  );
}
