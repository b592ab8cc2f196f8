// The data set of a training, as report_clips wrote it: pictures, captions, sizes, and what was left out and why.
import { useEffect, useState } from "react";
import { fileUrl, type JobInfo, type OutputFile } from "../net/api";
import { asReport, bars, having, onSheet, type Bar, type ClipReport } from "../model/dataset";
import { failed } from "../store/actions";
import { useRuns } from "../store/runs";

const MOST = 300;

const written = (job: JobInfo): OutputFile[] => job.outputs.filter((file) => file.name.endsWith(".json"));

/** The run that is shown, if it wrote JSON, else the newest that did. */
function chosen(jobs: Record<string, JobInfo>, shown: string): JobInfo | undefined {
  if (jobs[shown] && written(jobs[shown]).length) return jobs[shown];
  return Object.values(jobs).sort((a, b) => b.number - a.number).find((job) => written(job).length);
}

async function read(job: JobInfo): Promise<ClipReport | null> {
  for (const file of written(job)) {
    const report = asReport(await (await fetch(fileUrl(file.id))).json());
    if (report) return report;
  }
  return null;
}

export default function Data() {
  const job = useRuns((state) => chosen(state.jobs, state.shown));
  const files = job ? written(job).map((file) => file.id).join() : "";
  const [report, setReport] = useState<ClipReport | null>(null);
  const [search, setSearch] = useState("");
  useEffect(() => {
    let stale = false;
    setReport(null);
    if (job) read(job).then((found) => { if (!stale) setReport(found); }, failed);
    return () => { stale = true; };
  }, [files]);
  if (!job || !report) return <p className="empty-state">Put report_clips behind the clips of a training and run to it: they are shown here.</p>;
  const sheet = job.outputs.find((file) => file.name === report.pictures.file);
  const found = having(report, search);
  return (
    <div className="data">
      <div className="data-facts">
        <p><b>{report.clips.toLocaleString("en")}</b> clips, {report.seconds.toLocaleString("en")} s of video <span className="muted">(run {job.number})</span></p>
        <Bars title="frames x height x width" bars={bars(report.sizes)} />
        {Object.keys(report.left_out).length ? <Bars title="left out" bars={bars(report.left_out)} /> : <p className="muted">Nothing was left out.</p>}
        {report.files_left_out.slice(0, MOST).map((each) => <p key={`${each.name} ${each.reason}`} className="muted" title={each.detail}><span className="mono">{each.name}</span>: {each.reason}</p>)}
      </div>
      <div className="data-clips">
        <div className="gallery-tools">
          <input className="text-input" type="search" aria-label="Search captions" placeholder="Search captions" value={search} onChange={(e) => setSearch(e.target.value)} />
          <span className="muted">{found.length > MOST ? `the first ${MOST} of ${found.length}` : found.length === report.each.length ? "" : `${found.length} of ${report.each.length}`}</span>
        </div>
        <ul className="tiles plain" aria-label="Clips">
          {found.slice(0, MOST).map((i) => <ClipTile key={i} report={report} i={i} sheet={sheet} />)}
        </ul>
        {found.length ? null : <p className="empty-state">No caption has these words.</p>}
      </div>
    </div>
  );
}

function ClipTile({ report, i, sheet }: { report: ClipReport; i: number; sheet: OutputFile | undefined }) {
  const { name, caption, frames, height, width, start } = report.each[i];
  const at = sheet && onSheet(report, i);
  const { side } = report.pictures;
  return (
    <li className="clip-tile" title={`${name}${start ? ` from second ${start}` : ""}`}>
      {at ? <div className="clip-picture" style={{ width: side, height: side, backgroundImage: `url(${fileUrl(sheet.id)})`, backgroundPosition: `-${at[0]}px -${at[1]}px` }} /> : <div className="clip-picture mono" style={{ width: side, height: side }}>{name}</div>}
      <span className="caption">{caption || <em className="muted">no caption</em>}</span>
      <span className="muted mono">{frames > 1 ? `${frames}x` : ""}{height}x{width}</span>
    </li>
  );
}

function Bars({ title, bars: all }: { title: string; bars: Bar[] }) {
  return (
    <table className="bars">
      <caption>{title}</caption>
      <tbody>{all.map(({ label, count, share }) => <tr key={label}><th scope="row" className="mono">{label}</th><td><span className="bar" style={{ width: `${Math.round(share * 90)}px` }} /> {count.toLocaleString("en")}</td></tr>)}</tbody>
    </table>
  );
}
