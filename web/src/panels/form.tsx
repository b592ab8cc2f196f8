// The workflow as a form: its inputs, a Run button, the result. Also what a telephone shows.
import { setInput } from "../model/edit";
import { apply, cancelShown, run } from "../store/actions";
import { activeTab, BLANK, useDocs } from "../store/docs";
import { fileUrl } from "../net/api";
import { useRuns } from "../store/runs";
import { inputPort } from "../canvas/edges";
import { jobLine } from "./run-list";
import { isMedia } from "./thumb";
import { Field } from "../widgets/field";
import { useTemplates } from "../store/server";
import { openNamed } from "../store/actions";

export function FormView() {
  const doc = useDocs((state) => activeTab(state)?.history.doc ?? BLANK);
  const title = useDocs((state) => activeTab(state)?.title ?? "");
  const templates = useTemplates();
  const inputs = Object.entries(doc.inputs ?? {});
  const job = useRuns((state) => state.jobs[state.shown]);
  const file = job?.outputs.find(isMedia);
  const busy = job?.state === "running" || job?.state === "queued";
  return (
    <div className="form-view">
      <form onSubmit={(e) => { e.preventDefault(); void run(); }}>
        <label>Workflow
          <select className="field-input" value="" onChange={(e) => void openNamed(e.target.value, false)}>
            <option value="">{title}</option>
            {templates.map((t) => <option key={t.name} value={t.name}>{t.title}</option>)}
          </select>
        </label>
        {doc.about ? <p className="muted">{doc.about}</p> : null}
        {inputs.length ? null : <p className="muted">This workflow has no inputs. In the graph, press ↥ beside a value to make it one.</p>}
        {inputs.map(([name, spec]) => (
          <div className="line" key={name}>
            <label htmlFor={`form-${name}`}>{name.replace(/_/g, " ")}</label>
            <Field id={`form-${name}`} port={{ ...inputPort(name, spec), multiline: name.includes("prompt") }} value={spec.default} label={name} onChange={(value) => apply(setInput("", name, "default", value), `input ${name}`)} />
            {spec.about ? <small className="muted">{spec.about}</small> : null}
          </div>
        ))}
        <button type="submit" className="button primary">Run</button>
        {busy ? <button type="button" className="button" onClick={() => void cancelShown()}>Cancel</button> : null}
      </form>
      <section aria-label="Result" className="form-result">
        {job ? <p role="status">#{job.number} {jobLine(job)}</p> : <p className="muted">The result shows here.</p>}
        {job?.progress && busy ? <progress max={job.progress.total || 1} value={job.progress.done} aria-label="Progress" /> : null}
        {job?.error ? <p className="bad" role="alert">{job.error.message}</p> : null}
        {file?.media_type.startsWith("video/") ? <video controls loop autoPlay muted playsInline src={fileUrl(file.id)} aria-label="Result" /> : null}
        {file?.media_type.startsWith("image/") ? <img src={fileUrl(file.id)} alt="Result" /> : null}
      </section>
    </div>
  );
}
