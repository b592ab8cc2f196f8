// Small dialogs: a refused wire with its remedies, saving, export, earlier versions, the list of keys.
import { useEffect, useState } from "react";
import { Glyph } from "../canvas/socket";
import { api } from "../net/api";
import { failed, insertBridge, openDocument, save } from "../store/actions";
import { COMMANDS } from "../store/commands";
import { activeDoc, activeTab, useDocs } from "../store/docs";
import { useView, type Dialog } from "../store/view";
import { glyphType } from "../panels/library";
import type { Workflow } from "../model/types";
import { closeDialog, Modal } from "./dialog";

type Refused = Extract<Dialog, { kind: "refusal" }>;

export function RefusalDialog({ dialog }: { dialog: Refused }) {
  return (
    <Modal label="This wire is refused" at={dialog.screen}>
      <div className="refusal">
        <p role="alert">{dialog.reason}</p>
        {dialog.bridges.map((bridge) => (
          <button type="button" key={bridge.info.id} className="button" onClick={() => insertBridge(bridge, dialog.from, dialog.to, [Math.round(dialog.at.x) - 300, Math.round(dialog.at.y) - 60])}>
            <Glyph type={glyphType(bridge.info)} />Insert {bridge.info.title}
          </button>
        ))}
        <button type="button" className="button" autoFocus onClick={closeDialog}>Leave it</button>
      </div>
    </Modal>
  );
}

export function SaveDialog() {
  const tab = activeTab(useDocs.getState());
  const [name, setName] = useState(tab?.name ?? (tab?.title === "untitled" ? "" : (tab?.title ?? "")));
  return (
    <Modal label="Save the workflow">
      <form className="sheet" method="dialog" onSubmit={(e) => { e.preventDefault(); if (name.trim()) void save(name.trim()); }}>
        <h2>Save the workflow</h2>
        <p><label>Name <input className="text-input" autoFocus value={name} pattern="[A-Za-z0-9_][A-Za-z0-9_ \-]*" required onChange={(e) => setName(e.target.value)} /></label></p>
        <footer><button type="button" className="button" onClick={closeDialog}>Cancel</button><button type="submit" className="button primary">Save</button></footer>
      </form>
    </Modal>
  );
}

interface Naming {
  label: string;
  name: string;
  done: string;
  fault: (doc: Workflow, name: string) => string;
  take: (name: string) => void;
}

/** Asks for a name, and says while it is typed why one cannot be. */
export function NameDialog({ label, name: before, done, fault, take }: Naming) {
  const [name, setName] = useState(before);
  const wrong = name && name !== before ? fault(activeDoc(), name) : "";
  const ready = name !== "" && name !== before && !wrong;
  return (
    <Modal label={label}>
      <form className="sheet" method="dialog" onSubmit={(e) => { e.preventDefault(); if (ready) { closeDialog(); take(name); } }}>
        <h2>{label}</h2>
        <p><label>Name <input className="text-input" autoFocus value={name} placeholder="denoiser" aria-invalid={wrong !== ""} aria-describedby="name-fault" onFocus={(e) => e.target.select()} onChange={(e) => setName(e.target.value.replace(/ /g, "_"))} /></label></p>
        <p id="name-fault" className="bad" role="alert">{wrong}</p>
        <footer><button type="button" className="button" onClick={closeDialog}>Cancel</button><button type="submit" className="button primary" disabled={!ready}>{done}</button></footer>
      </form>
    </Modal>
  );
}

const KINDS = [["json", "JSON"], ["python", "Python"], ["curl", "curl"]] as const;

export function ExportDialog() {
  const [kind, setKind] = useState<"json" | "python" | "curl">("python");
  const [made, setMade] = useState<{ kind: string; text: string }>({ kind: "", text: "" });
  useEffect(() => {
    let stale = false;
    if (kind === "json") setMade({ kind, text: JSON.stringify(activeDoc(), null, 2) });
    else api.exportAs(activeDoc(), kind).then(({ text }) => { if (!stale) setMade({ kind, text }); }).catch(failed);
    return () => { stale = true; };
  }, [kind]);
  const text = made.kind === kind ? made.text : ""; // never one kind's text under another's name
  const copyText = (): void => void navigator.clipboard.writeText(text).then(() => useView.getState().say("Copied."), failed);
  const download = (): void => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    link.download = `${activeTab(useDocs.getState())?.title ?? "workflow"}.${{ json: "json", python: "py", curl: "sh" }[kind]}`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  return (
    <Modal label="Export">
      <div className="sheet export">
        <h2>Export</h2>
        <div role="tablist" aria-label="As what" className="choice">{KINDS.map(([id, title]) => <button type="button" key={id} role="tab" aria-selected={kind === id} className="button" onClick={() => setKind(id)}>{title}</button>)}</div>
        <textarea className="text-input mono" readOnly aria-label="The exported text" value={text} rows={18} cols={90} />
        <footer><button type="button" className="button" disabled={!text} onClick={copyText}>Copy</button><button type="button" className="button" disabled={!text} onClick={download}>Download</button><button type="button" className="button primary" onClick={closeDialog}>Done</button></footer>
      </div>
    </Modal>
  );
}

export function RevisionsDialog() {
  const tab = activeTab(useDocs.getState());
  const [list, setList] = useState<{ revision: number; modified: number }[] | null>(null);
  useEffect(() => {
    if (tab?.revision === null) setList([]); // the server was never given one
    else if (tab) api.revisions(tab.id).then((answer) => setList(answer.revisions)).catch(() => setList([]));
  }, [tab]);
  const restore = async (n: number): Promise<void> => {
    if (!tab) return;
    try {
      const { document } = await api.revision(tab.id, n);
      openDocument(document, `${tab.title} (version ${n})`);
    } catch (error) {
      failed(error);
    }
  };
  return (
    <Modal label="Earlier versions">
      <div className="sheet">
        <h2>Earlier versions</h2>
        {list?.length === 0 ? <p className="muted">There are none yet: a version is kept with every change.</p> : null}
        <ul className="plain">{list?.map((entry) => (
          <li key={entry.revision}>{new Date(entry.modified * 1000).toLocaleString()} <button type="button" className="button" onClick={() => void restore(entry.revision)}>Open version {entry.revision}</button></li>
        ))}</ul>
        <footer><button type="button" className="button primary" onClick={closeDialog}>Done</button></footer>
      </div>
    </Modal>
  );
}

export function KeysDialog() {
  return (
    <Modal label="Keys">
      <div className="sheet">
        <h2>Keys</h2>
        <dl className="keys">{COMMANDS.filter((command) => command.keys).map((command) => (
          <div key={command.id}><dt>{command.title}</dt><dd>{command.keys?.map((key) => <kbd key={key}>{key}</kbd>)}</dd></div>
        ))}</dl>
        <p className="muted">Drag from a socket to wire; let go over nothing to search what fits. Double-click a wire for a dot, Alt-click to cut it.</p>
        <footer><button type="button" className="button primary" autoFocus onClick={closeDialog}>Done</button></footer>
      </div>
    </Modal>
  );
}
