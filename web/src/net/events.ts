// The server's events over one WebSocket that comes back by itself and asks for what it missed. Keeps no state of runs.

export interface Logged {
  seq: number;
  job: string;
  at: number;
  event: { event: string; [key: string]: unknown };
}

export interface Preview {
  job: string;
  path: string;
  media_type: string;
  blob: Blob;
}

export interface Listener {
  event(logged: Logged): void;
  preview(preview: Preview): void;
  state(open: boolean): void;
}

const FIRST_WAIT = 400;
const LONGEST_WAIT = 5000;

/** `[4 bytes: length of the header][JSON header][picture]`. */
export function readPreview(buffer: ArrayBuffer): Preview {
  const length = new DataView(buffer).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length))) as { job: string; path: string; media_type: string };
  return { ...header, blob: new Blob([buffer.slice(4 + length)], { type: header.media_type }) };
}

/** Listen until the returned function is called. */
export function listen(listener: Listener): () => void {
  let socket: WebSocket | null = null;
  let after: number | null = null;
  let wait = FIRST_WAIT;
  let timer = 0;
  let ended = false;

  const open = (): void => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    socket = new WebSocket(`${scheme}://${location.host}/api/events`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      wait = FIRST_WAIT;
      socket?.send(JSON.stringify({ token: "", after, jobs: null }));
      listener.state(true);
    };
    socket.onmessage = (message) => {
      if (typeof message.data !== "string") {
        listener.preview(readPreview(message.data as ArrayBuffer));
        return;
      }
      const logged = JSON.parse(message.data as string) as Logged;
      if (typeof logged.seq === "number") {
        if (after !== null && logged.seq <= after && logged.seq > 0) return;
        after = logged.seq;
      }
      listener.event(logged);
    };
    socket.onclose = () => {
      if (ended) return;
      listener.state(false);
      timer = window.setTimeout(open, wait);
      wait = Math.min(wait * 2, LONGEST_WAIT);
    };
  };
  open();
  return () => {
    ended = true;
    clearTimeout(timer);
    socket?.close();
  };
}
