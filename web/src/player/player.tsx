// The player: one clip or two with locked playheads; scrubbing hits the frame, J K L, in and out, film strip, comparing.
import { useCallback, useEffect, useMemo, useRef, useState, type KeyboardEvent, type PointerEvent } from "react";
import { api, fileUrl, frameUrl, stripUrl, type JobInfo, type OutputFile } from "../net/api";
import { failed } from "../store/actions";
import { addLoader } from "../store/drop";
import { useRuns } from "../store/runs";
import { canvasHand } from "../canvas/hand";
import { closeDialog, Modal } from "../dialogs/dialog";
import { frameAt, middleOf, shuttle, stepped } from "./clock";
import { differences, type Difference } from "./diff";

type Compare = "wipe" | "side" | "difference" | "flicker";
const COMPARES: Compare[] = ["wipe", "side", "difference", "flicker"];
const STRIP = 16;
const FLICKER_MS = 400;

interface Clip {
  job: JobInfo;
  file: OutputFile;
}

function useClips(ids: string[]): Clip[] {
  const jobs = useRuns((state) => state.jobs);
  return useMemo(() => ids.flatMap((id) => {
    const job = Object.values(jobs).find((j) => j.outputs.some((file) => file.id === id));
    const file = job?.outputs.find((f) => f.id === id);
    return job && file ? [{ job, file }] : [];
  }), [ids, jobs]);
}

function useDifferences(clips: Clip[]): Difference[] {
  const [found, setFound] = useState<Difference[]>([]);
  const [a, b] = clips.map((clip) => clip.job.id);
  useEffect(() => {
    if (!a || !b) return;
    void Promise.all([api.job(a), api.job(b)]).then(([left, right]) => setFound(differences(left, right)), failed);
  }, [a, b]);
  return found;
}

export default function Player({ files }: { files: string[] }) {
  const clips = useClips(files);
  const [main, other] = clips;
  const differing = useDifferences(clips);
  const fps = main?.file.fps || 8;
  const frames = main?.file.frames || Math.max(1, Math.round((main?.file.seconds ?? 1) * fps));
  const still = main ? !main.file.media_type.startsWith("video/") : true;
  const [frame, setFrame] = useState(0);
  const [speed, setSpeed] = useState(1);
  const [range, setRange] = useState<{ first: number; last: number } | null>(null);
  const [compare, setCompare] = useState<Compare>("wipe");
  const [wipe, setWipe] = useState(0.5);
  const [front, setFront] = useState(true);
  const [zoom, setZoom] = useState(1);
  const videos = useRef<(HTMLVideoElement | null)[]>([]);
  const span = useMemo(() => range ?? { first: 0, last: frames - 1 }, [range, frames]);
  const now = useRef(0);

  const seek = useCallback((to: number) => {
    const next = Math.max(0, Math.min(frames - 1, Math.round(to)));
    now.current = next;
    setFrame(next);
    for (const video of videos.current) if (video) video.currentTime = middleOf(next, fps);
  }, [frames, fps]);
  const stepTo = useCallback((by: number) => {
    setSpeed(0);
    seek(stepped(now.current, by, span));
  }, [seek, span]);

  useEffect(() => play(videos.current, speed, fps, span, seek), [speed, fps, span, seek]);
  useEffect(() => {
    const video = videos.current[0];
    if (!video || still) return;
    let handle = 0;
    const follow = (_: number, meta: VideoFrameCallbackMetadata): void => {
      const at = frameAt(meta.mediaTime + 0.25 / fps, fps, frames);
      if (!video.paused) {
        now.current = at;
        setFrame(at);
        if (at > span.last || at < span.first) seek(span.first);
      }
      handle = video.requestVideoFrameCallback(follow);
    };
    handle = video.requestVideoFrameCallback(follow);
    return () => video.cancelVideoFrameCallback(handle);
  }, [fps, frames, span, seek, still, main?.file.id]);
  useEffect(() => {
    if (compare !== "flicker" || !other) return setFront(true);
    const timer = setInterval(() => setFront((shown) => !shown), FLICKER_MS);
    return () => clearInterval(timer);
  }, [compare, other]);

  const onKey = (event: KeyboardEvent): void => {
    if ((event.target as Element).matches("input, select")) return;
    const key = event.key.toLowerCase();
    const acts: Record<string, () => void> = {
      " ": () => setSpeed(speed ? 0 : 1), j: () => setSpeed(shuttle(speed, "j")), k: () => setSpeed(0), l: () => setSpeed(shuttle(speed, "l")),
      ",": () => stepTo(-1), ".": () => stepTo(1), arrowleft: () => stepTo(-1), arrowright: () => stepTo(1), home: () => stepTo(span.first - now.current), end: () => stepTo(span.last - now.current),
      i: () => setRange({ first: now.current, last: Math.max(now.current, span.last) }), o: () => setRange({ first: Math.min(span.first, now.current), last: now.current }), x: () => setRange(null),
      c: () => setCompare(COMPARES[(COMPARES.indexOf(compare) + 1) % COMPARES.length]),
    };
    if (!acts[key]) return;
    event.preventDefault();
    acts[key]();
  };
  const firstImage = async (): Promise<void> => {
    try {
      const picture = await (await fetch(frameUrl(main.file.id, now.current))).blob();
      const upload = await api.upload(picture, `frame_${now.current}.png`);
      closeDialog();
      addLoader(upload.path, "frame.png", canvasHand.middle().screen);
    } catch (error) {
      failed(error);
    }
  };
  if (!main) return <Modal label="Player"><div className="sheet">This result is no longer there.<footer><button type="button" className="button" onClick={closeDialog}>Close</button></footer></div></Modal>;
  const over = other && compare !== "side";
  return (
    <Modal label="Player">
      <div className="player" onKeyDown={onKey} tabIndex={-1}>
        <header>
          <h2>#{main.job.number} {main.job.title}{other ? ` and #${other.job.number}` : ""}</h2>
          {other ? <div className="choice" role="tablist" aria-label="How to compare">{COMPARES.map((kind) => <button type="button" key={kind} role="tab" aria-selected={kind === compare} className="button" onClick={() => setCompare(kind)}>{kind}</button>)}</div> : null}
          <button type="button" className="button" onClick={closeDialog}>Close</button>
        </header>
        <div className={`stage ${other ? (over ? "over" : "side") : ""} ${other ? compare : ""}`} onPointerMove={(e) => { if (over) setWipe((e.clientX - e.currentTarget.getBoundingClientRect().left) / e.currentTarget.clientWidth); }}>
          {still ? <img src={fileUrl(main.file.id)} alt={main.file.name} style={{ scale: String(zoom) }} /> : clips.map((clip, i) => (
            <video key={clip.file.id} ref={(element) => { videos.current[i] = element; }} src={fileUrl(clip.file.id)} muted playsInline loop preload="auto" aria-label={`Run ${clip.job.number}`}
              style={{ scale: String(zoom), ...(i === 1 && compare === "wipe" ? { clipPath: `inset(0 0 0 ${wipe * 100}%)` } : {}), ...(i === 1 && compare === "flicker" ? { opacity: front ? 1 : 0 } : {}) }} />
          ))}
          {other && compare === "wipe" ? <span className="wipe-line" style={{ left: `${wipe * 100}%` }} /> : null}
          {other ? <><span className="side-label" style={{ left: 8 }}>#{main.job.number}</span><span className="side-label" style={{ right: 8 }}>#{other.job.number}</span></> : null}
        </div>
        {still ? null : <Filmstrip file={main.file} frame={frame} frames={frames} span={range} onSeek={(to) => { setSpeed(0); seek(to); }} />}
        {still ? null : (
          <div className="transport">
            <button type="button" className="button" autoFocus aria-label={speed ? "Pause" : "Play"} onClick={() => setSpeed(speed ? 0 : 1)}>{speed ? "❚❚" : "►"}</button>
            <button type="button" className="button" aria-label="Frame back" onClick={() => stepTo(-1)}>‹</button>
            <button type="button" className="button" aria-label="Frame forward" onClick={() => stepTo(1)}>›</button>
            <span className="mono" data-frame={frame} aria-live="off">frame {frame} of {frames - 1} · {(frame / fps).toFixed(2)} s</span>
            <button type="button" className="button" onClick={() => setRange({ first: frame, last: Math.max(frame, span.last) })}>In <kbd>I</kbd></button>
            <button type="button" className="button" onClick={() => setRange({ first: Math.min(span.first, frame), last: frame })}>Out <kbd>O</kbd></button>
            {range ? <button type="button" className="button" onClick={() => setRange(null)}>Whole <kbd>X</kbd></button> : null}
            <label>speed <select className="field-input" style={{ width: "auto" }} value={speed} onChange={(e) => setSpeed(Number(e.target.value))}>{[...new Set([-4, -2, -1, 0, 0.25, 0.5, 1, 2, 4, speed])].sort((a, b) => a - b).map((s) => <option key={s} value={s}>{s}×</option>)}</select></label>
            <label>zoom <select className="field-input" style={{ width: "auto" }} value={zoom} onChange={(e) => setZoom(Number(e.target.value))}>{[1, 2, 4].map((z) => <option key={z} value={z}>{z}×</option>)}</select></label>
            <span className="gap" />
            <button type="button" className="button" onClick={() => void firstImage()}>Use frame as image</button>
            <a className="button" href={fileUrl(main.file.id)} download={main.file.name}>Download</a>
          </div>
        )}
        {other ? <Differences list={differing} left={main.job.number} right={other.job.number} /> : null}
      </div>
    </Modal>
  );
}

/** Forwards the browser plays; backwards frames are stepped, since no browser does. */
function play(videos: (HTMLVideoElement | null)[], speed: number, fps: number, span: { first: number; last: number }, seek: (to: number) => void): () => void {
  const all = videos.filter((video) => video !== null);
  if (speed > 0) {
    for (const video of all) {
      video.playbackRate = speed;
      video.play().catch(() => undefined);
    }
    const lock = setInterval(() => {
      const [first, second] = all;
      if (first && second && Math.abs(first.currentTime - second.currentTime) > 0.5 / fps) second.currentTime = first.currentTime;
    }, 500);
    return () => clearInterval(lock);
  }
  for (const video of all) video.pause();
  if (speed === 0 || !all[0]) return () => undefined;
  let at = frameAt(all[0].currentTime, fps, span.last + 1);
  const timer = setInterval(() => {
    at = stepped(at, -1, span);
    seek(at);
  }, 1000 / (fps * -speed));
  return () => clearInterval(timer);
}

function Filmstrip({ file, frame, frames, span, onSeek }: { file: OutputFile; frame: number; frames: number; span: { first: number; last: number } | null; onSeek: (frame: number) => void }) {
  const root = useRef<HTMLDivElement>(null);
  const put = (event: PointerEvent): void => {
    if (event.buttons !== 1) return;
    const rect = root.current!.getBoundingClientRect();
    onSeek(Math.max(0, Math.min(frames - 1, Math.floor(((event.clientX - rect.left) / rect.width) * frames))));
  };
  const share = (k: number): string => `${(k / frames) * 100}%`;
  return (
    <div ref={root} className="filmstrip" role="slider" aria-label="Frame" tabIndex={0} aria-valuemin={0} aria-valuemax={frames - 1} aria-valuenow={frame}
      onPointerDown={(e) => { e.currentTarget.setPointerCapture(e.pointerId); put(e); }} onPointerMove={put}>
      <img src={stripUrl(file.id, STRIP, 48)} alt="" draggable={false} />
      {span ? <span className="range" style={{ left: share(span.first), width: share(span.last - span.first + 1) }} /> : null}
      <span className="head" style={{ left: share(frame + 0.5) }} />
    </div>
  );
}

function Differences({ list, left, right }: { list: Difference[]; left: number; right: number }) {
  if (!list.length) return <p className="muted">Both runs have the same values.</p>;
  return (
    <dl className="differences" aria-label="What differs">
      <dt /><dd className="muted">#{left}</dd><dd className="muted">#{right}</dd>
      {list.map((d) => <Row key={d.place} d={d} />)}
    </dl>
  );
}

function Row({ d }: { d: Difference }) {
  return <><dt>{d.place}</dt><dd title={d.left}>{d.left}</dd><dd title={d.right}>{d.right}</dd></>;
}
