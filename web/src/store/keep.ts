// Nothing is lost: every change goes to the browser's own store at once and to the server's drafts a moment later.
import { api, ApiError } from "../net/api";
import { localDrafts } from "../net/drafts";
import type { Workflow } from "../model/types";
import { isChanged, useDocs, type Tab } from "./docs";

const LOCAL_MS = 150;
const SERVER_MS = 1200;

async function toServer(tab: Tab): Promise<void> {
  try {
    const { revision } = await api.saveDraft(tab.id, { document: tab.history.doc, title: tab.title, base: tab.revision });
    useDocs.getState().change(tab.id, { revision });
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 409) return;
    const { revision, document } = error.body as { revision: number; document: Workflow };
    useDocs.getState().change(tab.id, { conflict: { revision, document } });
  }
}

function toBrowser(tab: Tab, at: number): void {
  const { id, title, name, revision, history } = tab;
  void localDrafts.put({ id, title, name, revision, document: history.doc, changed: isChanged(tab), at }).catch(() => undefined);
}

export function watchDrafts(): () => void {
  const timers = new Map<string, ReturnType<typeof setTimeout>[]>();
  const forget = (id: string): void => timers.get(id)?.forEach(clearTimeout);
  const keep = (tab: Tab, i: number): void => {
    forget(tab.id);
    timers.set(tab.id, [
      setTimeout(() => toBrowser(tab, i), LOCAL_MS),
      setTimeout(() => {
        const now = useDocs.getState().tabs.find((t) => t.id === tab.id);
        if (now && !now.conflict && isChanged(now)) void toServer(now);
      }, SERVER_MS),
    ]);
  };
  useDocs.getState().tabs.forEach((tab, i) => toBrowser(tab, i));
  const flush = (): void => useDocs.getState().tabs.forEach((tab, i) => toBrowser(tab, i));
  window.addEventListener("pagehide", flush);
  const end = useDocs.subscribe((state, before) => {
    state.tabs.forEach((tab, i) => {
      const old = before.tabs.find((t) => t.id === tab.id);
      if (!old || old.history.doc !== tab.history.doc || old.saved !== tab.saved || old.title !== tab.title || (old.conflict && !tab.conflict)) keep(tab, i);
      else if (old.revision !== tab.revision) toBrowser(tab, i); // what the server answered needs no saving again
    });
    for (const old of before.tabs) {
      if (state.tabs.some((tab) => tab.id === old.id)) continue;
      forget(old.id);
      void localDrafts.remove(old.id);
    }
  });
  return () => {
    end();
    window.removeEventListener("pagehide", flush);
    timers.forEach((list) => list.forEach(clearTimeout));
  };
}
