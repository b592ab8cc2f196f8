// The page: its parts and where they lie, dialogs, messages, and what begins when it opens.
import { lazy, Suspense, useEffect } from "react";
import { Canvas } from "./canvas/canvas";
import { FindDialog, PaletteDialog, SearchDialog, WireDialog } from "./dialogs/choosers";
import { ExportDialog, KeysDialog, NameDialog, RefusalDialog, RevisionsDialog, SaveDialog } from "./dialogs/sheets";
import { Drawer } from "./panels/drawer";
import { Inspector } from "./panels/inspector";
import { Library } from "./panels/library";
import { TopBar } from "./panels/topbar";
import { FormView } from "./panels/form";
import { Crumbs, EstimateLine } from "./panels/overlays";
import { Banners } from "./panels/banners";
import { nextTheme, onKey } from "./store/commands";
import { baseName, nameFault } from "./model/define";
import { defineNodes, renameTo } from "./store/wires";
import { start } from "./store/start";
import { useView } from "./store/view";
import { onDragOver, onDrop } from "./store/drop";

const Player = lazy(() => import("./player/player"));

function useTheme(): void {
  const theme = useView((state) => state.theme);
  useEffect(() => {
    const media = matchMedia("(prefers-color-scheme: light)");
    const put = (): void => {
      document.documentElement.dataset.theme = theme === "system" ? (media.matches ? "light" : "dark") : theme;
    };
    put();
    media.addEventListener("change", put);
    return () => media.removeEventListener("change", put);
  }, [theme]);
}

export function App() {
  useTheme();
  useEffect(start, []);
  useEffect(() => {
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, []);
  const panels = useView((state) => state.panels);
  const form = useView((state) => state.form);
  return (
    <div className="app" onDragOver={onDragOver} onDrop={onDrop}>
      <Banners />
      <TopBar />
      <Rail />
      {panels.library ? <Library /> : null}
      <main className="main">{form ? <FormView /> : <><Canvas /><Crumbs /><EstimateLine /></>}</main>
      {panels.inspector && !form ? <Inspector /> : null}
      {panels.drawer ? <Drawer /> : null}
      <Dialogs />
      <Toasts />
      <div id="spoken" className="sr" aria-live="polite" />
    </div>
  );
}

function Rail() {
  const panels = useView((state) => state.panels);
  const form = useView((state) => state.form);
  const { set } = useView.getState();
  const toggle = (name: keyof typeof panels) => () => set({ panels: { ...panels, [name]: !panels[name] } });
  return (
    <nav className="rail" aria-label="Panels">
      <button type="button" className="icon" aria-label="Library" aria-pressed={panels.library} title="Library (Alt+1)" onClick={toggle("library")}>☰</button>
      <button type="button" className="icon" aria-label="Inspector" aria-pressed={panels.inspector} title="Inspector (Alt+2)" onClick={toggle("inspector")}>◧</button>
      <button type="button" className="icon" aria-label="Runs and results" aria-pressed={panels.drawer} title="Runs and results (Alt+3)" onClick={toggle("drawer")}>▤</button>
      <button type="button" className="icon" aria-label="Form view" aria-pressed={form} title="Form (Alt+F)" onClick={() => set({ form: !form })}>☷</button>
      <span className="gap" />
      <button type="button" className="icon" aria-label="Commands" title="Commands (Ctrl+K)" onClick={() => set({ dialog: { kind: "palette" } })}>⌘</button>
      <button type="button" className="icon" aria-label="Theme" title="Dark or light (Alt+T)" onClick={nextTheme}>◐</button>
      <button type="button" className="icon" aria-label="Keys and help" title="Keys (?)" onClick={() => set({ dialog: { kind: "keys" } })}>?</button>
    </nav>
  );
}

function Dialogs() {
  const dialog = useView((state) => state.dialog);
  switch (dialog?.kind) {
    case "search": return <SearchDialog dialog={dialog} />;
    case "refusal": return <RefusalDialog dialog={dialog} />;
    case "palette": return <PaletteDialog />;
    case "find": return <FindDialog />;
    case "wire": return <WireDialog id={dialog.id} />;
    case "keys": return <KeysDialog />;
    case "export": return <ExportDialog />;
    case "revisions": return <RevisionsDialog />;
    case "save": return <SaveDialog />;
    case "define": return <NameDialog label="Make a definition" name="" done="Make it" fault={nameFault} take={(name) => defineNodes(dialog.ids, name)} />;
    case "rename": return <NameDialog label="Rename the definition" name={baseName(dialog.definition)} done="Rename" fault={(doc, name) => nameFault(doc, name, dialog.definition)} take={(name) => renameTo(dialog.definition, name)} />;
    case "player": return <Suspense fallback={null}><Player files={dialog.files} /></Suspense>;
    default: return null;
  }
}

function Toasts() {
  const toasts = useView((state) => state.toasts);
  return <div className="toasts" role="status" aria-live="polite">{toasts.map((toast) => <div key={toast.id} className={`toast ${toast.tone}`}>{toast.text}</div>)}</div>;
}
