// What begins when the page opens: nodes, open tabs from their drafts, events, checks after each change, drafts.
import { api } from "../net/api";
import { localDrafts } from "../net/drafts";
import { listen } from "../net/events";
import { withPlaces } from "../model/layout";
import { refreshJob } from "./actions";
import { watchChecks } from "./checks";
import { BLANK, activeDoc, useDocs } from "./docs";
import { watchDrafts } from "./keep";
import { useRuns } from "./runs";
import { loadJobs, loadRegistry, loadWorkflows, watchSystem } from "./server";
import { useView } from "./view";

declare global {
  interface Window {
    __doc?: () => unknown;
    __selection?: () => ReadonlySet<string>;
  }
}

const whenIdle = (act: () => void): void => void ("requestIdleCallback" in window ? requestIdleCallback(act, { timeout: 500 }) : setTimeout(act, 50));

async function open(): Promise<void> {
  const [drafts] = await Promise.all([localDrafts.all(), loadRegistry()]);
  const registry = useView.getState().registry;
  const { open: openTab, activate } = useDocs.getState();
  const { active: dropped } = useDocs.getState(); // a file may be let go over the page before the nodes are read
  for (const draft of drafts.sort((a, b) => a.at - b.at)) {
    openTab({ document: withPlaces(draft.document, registry), title: draft.title, name: draft.name, id: draft.id, revision: draft.revision, changed: draft.changed });
  }
  if (dropped) activate(dropped);
  if (drafts.length || dropped) return;
  const first = await api.workflow("text_to_video").catch(() => null);
  if (useDocs.getState().tabs.length) return;
  if (first) openTab({ document: withPlaces(first, registry), title: "text_to_video" });
  else openTab({ document: BLANK, title: "untitled" });
}

function onJobEvent(job: string, kind: string): void {
  if (!job || !/^(Job|RunFinished|FileWritten)/.test(kind) || kind === "JobDeleted") return;
  void refreshJob(job);
}

/** Begin; the returned function ends all of it. */
export function start(): () => void {
  const ends: (() => void)[] = [];
  let ended = false;
  window.__doc = activeDoc;
  window.__selection = () => useView.getState().selection;
  void open()
    .catch((error: unknown) => useView.getState().say(`The nodes could not be read: ${String(error)}`, "error"))
    .then(() => {
      if (ended) return;
      ends.push(watchDrafts()); // before the first edit can be made: what is changed while nobody listens is not kept
      whenIdle(() => {
        if (ended) return;
        ends.push(watchChecks(), watchSystem(), connectEvents());
        void loadWorkflows().catch(() => undefined);
      });
    });
  return () => {
    ended = true;
    ends.forEach((end) => end());
  };
}

function connectEvents(): () => void {
  return listen({
    state: (connected) => useRuns.getState().set({ connected }),
    event: (logged) => {
      if (logged.event.event === "Resync") {
        void loadJobs().catch(() => undefined);
        return;
      }
      useRuns.getState().take(logged);
      onJobEvent(logged.job, logged.event.event);
    },
    preview: ({ job, path, blob }) => {
      const { previews, set } = useRuns.getState();
      const key = `${job} ${path}`;
      if (previews[key]) URL.revokeObjectURL(previews[key]);
      set({ previews: { ...previews, [key]: URL.createObjectURL(blob) } });
    },
  });
}
