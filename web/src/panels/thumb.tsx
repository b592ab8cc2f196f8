// A small picture of a run: the first frame of what it wrote, the newest preview while it runs, else its state.
import { fileUrl, frameUrl, type JobInfo, type OutputFile } from "../net/api";
import { useRuns } from "../store/runs";

export const isMedia = (file: OutputFile): boolean => /^(video|image)\//.test(file.media_type);

export function Thumb({ job }: { job: JobInfo }) {
  const live = useRuns((state) => Object.entries(state.previews).findLast(([key]) => key.startsWith(`${job.id} `))?.[1]);
  const file = job.outputs.find(isMedia);
  if (file) return <img loading="lazy" alt="" src={file.media_type.startsWith("video/") ? frameUrl(file.id, 0) : fileUrl(file.id)} />;
  if (live) return <img alt="" src={live} />;
  return <span className="muted">{job.state}</span>;
}
