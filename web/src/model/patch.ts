// Changes of a JSON document as small operations that know how to undo themselves. Knows no workflow.
import type { Op } from "./types";

type Tree = Record<string, unknown>;

function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function getAt(tree: unknown, path: readonly string[]): unknown {
  let value = tree;
  for (const key of path) {
    if (!isTree(value)) return undefined;
    value = value[key];
  }
  return value;
}

/** The object with one key set, at its old place, at the given place or at the end; or taken away. */
function withKey(tree: Tree, key: string, value: unknown, at?: number): Tree {
  if (value === undefined) {
    const { [key]: _, ...rest } = tree;
    return rest;
  }
  if (key in tree || at === undefined) return { ...tree, [key]: value };
  const entries = Object.entries(tree);
  entries.splice(at, 0, [key, value]);
  return Object.fromEntries(entries);
}

interface Step {
  tree: unknown;
  inverse: Op;
}

/** One operation. What is missing on the way is made; the inverse takes it away again. */
export function applyOp(root: unknown, op: Op): Step {
  const set = (tree: unknown, depth: number): { tree: unknown; inverse: Op } => {
    const here = isTree(tree) ? tree : {};
    const key = op.path[depth];
    const path = op.path.slice(0, depth + 1);
    const at = Object.keys(here).indexOf(key);
    const before: Op = { path, value: here[key], at: at < 0 ? undefined : at };
    if (depth === op.path.length - 1) return { tree: withKey(here, key, op.value, op.at), inverse: before };
    if (here[key] === undefined && op.value === undefined) return { tree, inverse: { path: op.path, value: undefined } };
    const below = set(here[key], depth + 1);
    return {
      tree: below.tree === here[key] ? here : withKey(here, key, below.tree),
      inverse: isTree(here[key]) ? below.inverse : before,
    };
  };
  return set(root, 0);
}

/** All operations in order, and those that lead back, in their order. */
export function applyOps<T>(root: T, ops: readonly Op[]): { tree: T; inverse: Op[] } {
  let tree: unknown = root;
  const inverse: Op[] = [];
  for (const op of ops) {
    const step = applyOp(tree, op);
    tree = step.tree;
    inverse.unshift(step.inverse);
  }
  return { tree: tree as T, inverse };
}
