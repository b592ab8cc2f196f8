// A native modal dialog that closes on Escape and on a click beside it; and a list to choose from by typing.
import { useEffect, useId, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { useView } from "../store/view";

export const closeDialog = (): void => useView.getState().set({ dialog: null });

export function Modal({ label, at, className = "", children }: { label: string; at?: { x: number; y: number }; className?: string; children: ReactNode }) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = ref.current;
    if (!element) return;
    const before = document.activeElement as HTMLElement | null;
    element.showModal();
    if (at) {
      const { width, height } = element.getBoundingClientRect();
      element.style.left = `${Math.max(8, Math.min(at.x, innerWidth - width - 8))}px`;
      element.style.top = `${Math.max(8, Math.min(at.y, innerHeight - Math.max(height, 300) - 8))}px`;
    }
    return () => {
      element.close();
      if (before?.isConnected) before.focus({ preventScroll: true });
    };
  }, [at]);
  return (
    <dialog ref={ref} aria-label={label} className={`${className} ${at ? "at" : ""}`} onCancel={(e) => { e.preventDefault(); closeDialog(); }}
      onPointerDown={(e) => { if (e.target === ref.current) closeDialog(); }}>
      {children}
    </dialog>
  );
}

export interface Option {
  id: string;
  node: ReactNode;
  side?: ReactNode;
  about?: string;
  run: () => void;
}

/** Typing narrows, arrows choose, Enter takes: the same for nodes, commands, wires and finds. */
export function Chooser({ label, placeholder, options, at, empty }: { label: string; placeholder: string; options: (text: string) => Option[]; at?: { x: number; y: number }; empty: string }) {
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState(0);
  const list = useId();
  const found = options(text).slice(0, 200);
  const index = Math.min(chosen, found.length - 1);
  const scroll = useRef<HTMLUListElement>(null);
  useEffect(() => {
    scroll.current?.children[index]?.scrollIntoView?.({ block: "nearest" });
  }, [index]);
  const onKey = (event: KeyboardEvent): void => {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (by) {
      event.preventDefault();
      setChosen(Math.max(0, Math.min(found.length - 1, index + by)));
    }
    if (event.key === "Enter" && found[index]) {
      event.preventDefault();
      found[index].run();
    }
  };
  return (
    <Modal label={label} at={at} className="menu">
      <input autoFocus role="combobox" aria-expanded="true" aria-controls={list} aria-activedescendant={found[index] ? `${list}-${index}` : undefined} aria-label={label} placeholder={placeholder}
        value={text} onChange={(e) => { setText(e.target.value); setChosen(0); }} onKeyDown={onKey} spellCheck={false} />
      <ul className="options" role="listbox" id={list} aria-label={label} ref={scroll} tabIndex={-1}>
        {found.map((option, i) => (
          <li key={option.id} id={`${list}-${i}`} role="option" aria-selected={i === index} className="option" onPointerMove={() => setChosen(i)} onClick={option.run}>
            {option.node}<span className="side">{option.side}</span>
          </li>
        ))}
      </ul>
      {found.length ? null : <div className="nothing">{empty}</div>}
      {found[index]?.about ? <div className="about">{found[index].about}</div> : null}
    </Modal>
  );
}
