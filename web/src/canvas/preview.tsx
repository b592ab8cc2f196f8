// The room in a node that shows what it wrote, and while it runs the strip of frames that the server sends.
import { useMemo } from "react";
import { PREVIEW } from "../model/geometry";
import { fileUrl, stripUrl } from "../net/api";
import { useRuns } from "../store/runs";
import { useView } from "../store/view";

const STRIP_COUNT = 7;

export function Preview({ id, top }: { id: string; top: number }) {
  const shown = useRuns((state) => state.shown);
  const outputs = useRuns((state) => state.jobs[state.shown]?.outputs);
  const file = useMemo(() => outputs?.findLast((output) => output.node === id), [outputs, id]);
  const live = useRuns((state) => state.previews[`${shown} ${id}`] ?? Object.entries(state.previews).findLast(([key]) => key.startsWith(`${shown} `))?.[1]);
  const open = (): void => {
    if (file) useView.getState().set({ dialog: { kind: "player", files: [file.id] } });
  };
  return (
    <div className="preview nodrag" style={{ top, height: PREVIEW - 8 }} onDoubleClick={open}>
      {file?.media_type.startsWith("video/") ? (
        <>
          <video key={file.id} src={fileUrl(file.id)} muted loop autoPlay playsInline aria-label={`Result ${file.name}`} />
          <img className="strip" src={stripUrl(file.id, STRIP_COUNT, 48)} alt="" />
        </>
      ) : file?.media_type.startsWith("image/") ? (
        <img className="still" src={fileUrl(file.id)} alt={`Result ${file.name}`} />
      ) : live ? (
        <img className="still" src={live} alt="What it looks like so far" />
      ) : (
        <span className="empty">{file ? file.name : "the result shows here"}</span>
      )}
      {file ? <button type="button" className="open-player" onClick={open} aria-label={`Open ${file.name} in the player`}>⤢</button> : null}
    </div>
  );
}
