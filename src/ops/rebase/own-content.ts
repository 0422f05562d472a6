// Tells which contents of a plan are files of the old upper itself, and which: a file that stays as it is need not be copied.
// Put around the upper's view by open-plan.ts; asked by wine/update, which gives such files one name more.
// Nothing is kept alive by it: contents are known as long as the plan has them.

import type { Content, TreeNode } from '../../tree/tree.js';
import type { Handle, LayerView, Seen } from '../../union/view.js';

export class OwnContent implements LayerView {
  readonly label: string;
  readonly marks: LayerView['marks'];
  readonly #upper: LayerView;
  readonly #paths = new WeakMap<Content, string>();

  constructor(upper: LayerView) {
    this.label = upper.label;
    this.marks = upper.marks;
    this.#upper = upper;
  }

  /** Whether the bytes of a node are those of the upper's file at a path. */
  isAt(path: string, { content }: TreeNode): boolean {
    return content !== undefined && this.#paths.get(content) === path;
  }

  look(path: string): Seen | undefined {
    const seen = this.#upper.look(path);
    if (seen?.node.content !== undefined) this.#paths.set(seen.node.content, path);
    return seen;
  }

  list(path: string): string[] {
    return this.#upper.list(path);
  }

  handle(path: string): Handle | undefined {
    return this.#upper.handle(path);
  }

  named(handle: Handle): string | undefined {
    return this.#upper.named?.(handle);
  }

  namesOf(ids: ReadonlySet<string>): Map<string, string[]> {
    return this.#upper.namesOf?.(ids) ?? new Map();
  }

  close(): void {
    this.#upper.close();
  }
}
