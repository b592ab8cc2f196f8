// The right control for one input: number, text, choice, switch, file. Knows the port, not the node.
import { useEffect, useRef, useState, type KeyboardEvent } from "react";
import { api } from "../net/api";
import type { Json, PortInfo } from "../model/types";
import { failed } from "../store/actions";

export interface FieldProps {
  port: PortInfo;
  value: Json | undefined;
  label: string;
  onChange: (value: Json | undefined) => void;
  invalid?: boolean;
  id?: string;
}

const isNumber = (type: string): boolean => type === "int" || type === "float";

/** What stands between the bounds; a number the bounds forbid is moved to the nearest that they allow. */
export function clampNumber(port: PortInfo, value: number): number {
  let next = port.type === "int" ? Math.round(value) : value;
  if (port.minimum !== undefined && port.minimum !== null) next = Math.max(port.minimum, next);
  if (port.maximum !== undefined && port.maximum !== null) next = Math.min(port.maximum, next);
  return next;
}

/** A text as the value that an input's type wants, or the reason why it is none. */
export function parseValue(port: PortInfo, text: string): { value: Json } | { error: string } {
  if (isNumber(port.type)) {
    const value = Number(text.trim());
    if (text.trim() === "" || !Number.isFinite(value)) return { error: "A number is needed." };
    if (port.type === "int" && !Number.isInteger(value)) return { error: "A whole number is needed." };
    const clamped = clampNumber(port, value);
    if (clamped !== value) return { error: value < clamped ? `At least ${clamped}.` : `At most ${clamped}.` };
    if (port.exclusive_minimum !== undefined && port.exclusive_minimum !== null && value <= port.exclusive_minimum) return { error: `More than ${port.exclusive_minimum}.` };
    if (port.exclusive_maximum !== undefined && port.exclusive_maximum !== null && value >= port.exclusive_maximum) return { error: `Less than ${port.exclusive_maximum}.` };
    return { value };
  }
  if (port.type.startsWith("list[")) {
    try {
      const value = JSON.parse(text) as Json;
      return Array.isArray(value) ? { value } : { error: "A list is needed, like [1, 2]." };
    } catch {
      if (port.type === "list[str]") return { value: text.split(",").map((part) => part.trim()).filter(Boolean) };
      return { error: "A list is needed, like [1, 2]." };
    }
  }
  return { value: text };
}

export function showValue(value: Json | undefined): string {
  if (value === undefined || value === null) return "";
  if (typeof value === "number") return Math.abs(value) >= 1e-4 || value === 0 ? String(+value.toPrecision(7)) : value.toExponential();
  return typeof value === "string" ? value : JSON.stringify(value);
}

export function Field(props: FieldProps) {
  const { port, value, label, onChange } = props;
  if (port.choices?.length) {
    return (
      <select className="field-input nodrag" id={props.id} aria-label={label} value={showValue(value)} onChange={(e) => onChange(port.choices!.find((c) => showValue(c) === e.target.value))}>
        {value === undefined || value === null ? <option value="" /> : null}
        {port.choices.map((choice) => <option key={showValue(choice)}>{showValue(choice)}</option>)}
      </select>
    );
  }
  if (port.type === "bool") {
    return <button type="button" role="switch" id={props.id} aria-label={label} aria-checked={value === true} className="switch nodrag" onClick={() => onChange(value !== true)}><span /></button>;
  }
  if (port.file_endings?.length) return <FileField {...props} />;
  return <TextField {...props} />;
}

/** Text and numbers: what is typed counts on Enter or when the field is left; a number also by arrows and by dragging. */
function TextField({ port, value, label, onChange, invalid, id }: FieldProps) {
  const shown = showValue(value);
  const [text, setText] = useState(shown);
  const [error, setError] = useState("");
  const editing = useRef(false);
  useEffect(() => {
    if (!editing.current) setText(shown);
  }, [shown]);
  const numeric = isNumber(port.type);
  const commit = (next: string): void => {
    const parsed = parseValue(port, next);
    if ("error" in parsed) return setError(parsed.error);
    setError("");
    if (showValue(parsed.value) !== shown || value === undefined) onChange(parsed.value);
  };
  const leave = (): void => {
    editing.current = false;
    if (text !== shown) commit(text);
    if (numeric && "error" in parseValue(port, text)) {
      setText(shown);
      setError("");
    }
  };
  const stepBy = (direction: number, large: boolean): void => {
    const now = Number(text) || 0;
    const step = port.step ?? (port.type === "int" ? 1 : Math.max(10 ** (Math.floor(Math.log10(Math.abs(now) || 1)) - 1), 1e-9));
    const next = clampNumber(port, +(now + direction * step * (large ? 10 : 1)).toPrecision(10));
    setText(showValue(next));
    onChange(next);
  };
  const onKey = (event: KeyboardEvent<HTMLInputElement | HTMLTextAreaElement>): void => {
    if (event.key === "Enter" && (!port.multiline || event.ctrlKey || event.metaKey)) commit(text);
    if (numeric && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      stepBy(event.key === "ArrowUp" ? 1 : -1, event.shiftKey);
    }
    if (event.key === "Escape") {
      setText(shown);
      editing.current = false;
      event.currentTarget.blur();
    }
  };
  const shared = {
    id, value: text, "aria-label": label, "aria-invalid": Boolean(error) || invalid || undefined, title: error || undefined, spellCheck: false,
    onFocus: () => { editing.current = true; }, onBlur: leave, onKeyDown: onKey,
  };
  if (port.multiline) return <textarea {...shared} className="field-input area nodrag nowheel" onChange={(e) => { setText(e.target.value); onChange(e.target.value); }} />;
  return <input {...shared} className={`field-input nodrag ${numeric ? "number" : ""}`} inputMode={numeric ? "decimal" : "text"} autoComplete="off" onChange={(e) => setText(e.target.value)} />;
}

/** A file the server can read: chosen from what was uploaded, or uploaded now. */
function FileField(props: FieldProps) {
  const picker = useRef<HTMLInputElement>(null);
  const upload = async (file: File | undefined): Promise<void> => {
    if (!file) return;
    try {
      props.onChange((await api.upload(file, file.name)).path);
    } catch (error) {
      failed(error);
    }
  };
  return (
    <span className="file-field nodrag">
      <TextField {...props} />
      <button type="button" className="small" aria-label={`Upload a file for ${props.label}`} onClick={() => picker.current?.click()}>…</button>
      <input ref={picker} type="file" hidden accept={props.port.file_endings?.join(",")} onChange={(e) => void upload(e.target.files?.[0])} />
    </span>
  );
}
