// All results: search, stars, and comparing two of them side by side.
import { useEffect, useState } from "react";
import { api, type JobInfo } from "../net/api";
import { failed } from "../store/actions";
import { useRuns } from "../store/runs";
import { useView } from "../store/view";
import { isMedia, Thumb } from "./thumb";

export function Gallery() {
  const [search, setSearch] = useState("");
  const [starred, setStarred] = useState(false);
  const [found, setFound] = useState<JobInfo[]>([]);
  const [chosen, setChosen] = useState<string[]>([]);
  const newest = useRuns((state) => Object.values(state.jobs).filter((job) => job.state === "done").length);
  useEffect(() => {
    const timer = setTimeout(() => {
      const query: Record<string, string> = { limit: "60", order: "newest" };
      if (search) query.search = search;
      if (starred) query.starred = "true";
      api.jobs(query).then((page) => { setFound(page.jobs); useRuns.getState().putJobs(page.jobs); }, failed);
    }, 200);
    return () => clearTimeout(timer);
  }, [search, starred, newest]);
  const files = found.flatMap((job) => job.outputs.filter(isMedia).slice(0, 1).map((file) => ({ job, file })));
  const toggle = (id: string): void => setChosen((now) => (now.includes(id) ? now.filter((one) => one !== id) : [...now.slice(-1), id]));
  const play = (ids: string[]): void => useView.getState().set({ dialog: { kind: "player", files: ids } });
  return (
    <div className="gallery" onKeyDown={(e) => { if (e.key.toLowerCase() === "c" && chosen.length === 2 && !(e.target as Element).matches("input")) play(chosen); }}>
      <div className="gallery-tools">
        <input className="text-input" type="search" aria-label="Search results" placeholder="Search results" value={search} onChange={(e) => setSearch(e.target.value)} />
        <button type="button" className="button" aria-pressed={starred} onClick={() => setStarred(!starred)}>★ only</button>
        <button type="button" className="button" disabled={chosen.length !== 2} onClick={() => play(chosen)}>Compare two</button>
      </div>
      <div className="tiles">
        {files.map(({ job, file }) => (
          <figure key={file.id} className={chosen.includes(file.id) ? "tile on" : "tile"}>
            <button type="button" className="thumb" aria-label={`Play result of run ${job.number}`} onClick={() => play([file.id])}><Thumb job={job} /></button>
            <figcaption><label><input type="checkbox" checked={chosen.includes(file.id)} onChange={() => toggle(file.id)} aria-label={`Compare run ${job.number}`} /> #{job.number} {job.starred ? "★" : ""} <span className="muted">{job.title}</span></label></figcaption>
          </figure>
        ))}
        {files.length ? null : <p className="empty-state">{search || starred ? "No result is so: look for another word, or without the star." : "No results yet."}</p>}
      </div>
    </div>
  );
}
