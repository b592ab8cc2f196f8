// What must be known but stops nobody: the server is away, another tab was faster, a file of an older version was opened.
import { withPlaces } from "../model/layout";
import { startHistory } from "../store/history";
import { activeTab, newId, useDocs } from "../store/docs";
import { useRuns } from "../store/runs";
import { useView } from "../store/view";

export function Banners() {
  const connected = useRuns((state) => state.connected);
  const tab = useDocs(activeTab);
  const { change } = useDocs.getState();
  const conflict = tab?.conflict;
  const theirs = (): void => {
    if (!tab || !conflict) return;
    change(tab.id, { history: startHistory(withPlaces(conflict.document, useView.getState().registry)), revision: conflict.revision, conflict: null });
  };
  const mine = (): void => {
    if (tab && conflict) change(tab.id, { revision: conflict.revision, conflict: null });
  };
  const both = (): void => {
    if (!tab) return;
    useDocs.getState().change(tab.id, { id: newId(), title: `${tab.title} (mine)`, name: null, revision: null, conflict: null });
    useDocs.setState((state) => ({ active: state.tabs.find((t) => t.title === `${tab.title} (mine)`)?.id ?? state.active }));
  };
  return (
    <div className="banners" aria-live="polite">
      {connected === false ? <div className="banner" role="status">The server does not answer. Go on editing: everything is kept here, and it reconnects by itself.</div> : null}
      {conflict ? (
        <div className="banner" role="alert">
          This workflow was changed in another tab.
          <button type="button" className="button" onClick={mine}>Keep mine</button>
          <button type="button" className="button" onClick={theirs}>Take theirs</button>
          <button type="button" className="button" onClick={both}>Keep both</button>
        </div>
      ) : null}
    </div>
  );
}
