// Drafts in the browser's IndexedDB: every open tab as it stands, so that nothing is lost when server or page go away.
import type { Workflow } from "../model/types";

export interface Draft {
  id: string;
  title: string;
  name: string | null;
  document: Workflow;
  revision: number | null;
  changed: boolean;
  at: number;
}

const STORE = "drafts";

function database(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("kineograph", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("IndexedDB is not available."));
  });
}

async function within<T>(mode: IDBTransactionMode, act: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const db = await database();
  return new Promise<T>((resolve, reject) => {
    const request = act(db.transaction(STORE, mode).objectStore(STORE));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("The draft could not be kept."));
  }).finally(() => db.close());
}

export const localDrafts = {
  all: (): Promise<Draft[]> => within<Draft[]>("readonly", (store) => store.getAll() as IDBRequest<Draft[]>).catch(() => []),
  put: (draft: Draft): Promise<unknown> => within("readwrite", (store) => store.put(draft)),
  remove: (id: string): Promise<unknown> => within("readwrite", (store) => store.delete(id)).catch(() => undefined),
};
