// After each change, a moment later: the server's check, what is cached and why, and what it would cost.
import { api } from "../net/api";
import type { Workflow } from "../model/types";
import { activeTab, useDocs } from "./docs";
import { useRuns } from "./runs";

const CHECK_MS = 350;
const ESTIMATE_MS = 1500;

/** Positions and notes change nothing that a check says. */
function content(doc: Workflow): string {
  const { ui: _, about: __, ...rest } = doc;
  return JSON.stringify(rest);
}

export function watchChecks(): () => void {
  let before = "";
  let timer: ReturnType<typeof setTimeout>;
  let later: ReturnType<typeof setTimeout>;
  let asked: AbortController | null = null;
  const ask = async (doc: Workflow, signal: AbortSignal): Promise<void> => {
    const { set } = useRuns.getState();
    try {
      const answer = await api.plan(doc, signal);
      set({ problems: answer.problems ?? [], plan: answer.nodes ?? {} });
      if (!answer.ok) return set({ estimate: null });
      later = setTimeout(() => void api.estimate(doc, signal).then((estimate) => set({ estimate }), () => set({ estimate: null })), ESTIMATE_MS);
    } catch {
      // no answer, no marks: the banner says that the server is away
    }
  };
  const look = (): void => {
    const doc = activeTab(useDocs.getState())?.history.doc;
    if (!doc || !Object.keys(doc.nodes).length) return useRuns.getState().set({ problems: [], plan: {}, estimate: null });
    const now = content(doc);
    if (now === before) return;
    before = now;
    asked?.abort();
    clearTimeout(later);
    asked = new AbortController();
    void ask(doc, asked.signal);
  };
  const wait = (): void => {
    clearTimeout(timer);
    timer = setTimeout(look, CHECK_MS);
  };
  wait();
  const ends = [
    useDocs.subscribe((state, old) => {
      if (activeTab(state)?.history.doc !== activeTab(old)?.history.doc) wait();
    }),
    useRuns.subscribe((state, old) => {
      const ended = Object.values(state.jobs).filter((job) => job.state === "done").length !== Object.values(old.jobs).filter((job) => job.state === "done").length;
      if (ended) {
        before = "";
        wait();
      }
    }),
  ];
  return () => {
    ends.forEach((end) => end());
    clearTimeout(timer);
    clearTimeout(later);
    asked?.abort();
  };
}
