// Frames and seconds of one clip, and seeking that hits the frame: its middle is aimed at. Knows no page.

/** Seconds in the middle of a frame: rounding to either side stays in it. */
export function middleOf(frame: number, fps: number): number {
  return (frame + 0.5) / fps;
}

export function frameAt(seconds: number, fps: number, frames: number): number {
  return Math.max(0, Math.min(frames - 1, Math.floor(seconds * fps + 1e-4)));
}

export interface Range {
  first: number;
  last: number;
}

/** The frame after so many steps, inside the loop of in and out points. */
export function stepped(frame: number, by: number, { first, last }: Range): number {
  const length = last - first + 1;
  return first + ((((frame - first + by) % length) + length) % length);
}

/** J, K and L: backwards, stop, forwards; the same key again doubles the speed. */
export function shuttle(speed: number, key: "j" | "k" | "l"): number {
  if (key === "k") return 0;
  const sign = key === "l" ? 1 : -1;
  return Math.sign(speed) === sign ? Math.max(-8, Math.min(8, speed * 2)) : sign;
}
