// A tree of changes: only the rows that can be seen are elements.
// Made by files-view.ts and keys-view.ts, which say how a row looks; tree-rows.ts says which rows there are.
// Follows the tree view pattern of the ARIA Authoring Practices 1.2: roving tabindex, arrows, Home, End, `*`.

import type { Branch, TreeRow } from '../tree-rows.js';
import { el } from './dom.js';

export interface TreeEvents<N> {
  /** A row was chosen; `go` also asks for its details (Enter, a click). */
  select(node: N, go: boolean): void;
  /** A directory is to be opened or closed, or all beside it opened. */
  toggle(node: N, expanded: boolean, siblings: boolean): void;
}

/** How the nodes of one kind of tree are shown. */
export interface TreeLooks<N> {
  /** Of the tree, for screen readers. */
  readonly label: string;
  /** What a screen reader says of a row. */
  labelOf(node: N, label: string): string;
  contentOf(node: N, label: string, canOpen: boolean): readonly (HTMLElement | undefined)[];
  /** Whether a step to the next change stops there. */
  isStop(node: N): boolean;
}

/** Rows beyond the edges of what is seen. */
const MARGIN = 12;

export class TreeView<N extends Branch<N>> {
  readonly element: HTMLElement;
  readonly #scroller: HTMLElement;
  readonly #events: TreeEvents<N>;
  readonly #looks: TreeLooks<N>;
  readonly #height = matchMedia('(pointer: coarse)').matches ? 38 : 28;
  #rows: readonly TreeRow<N>[] = [];
  #places = new Map<N, number>();
  readonly #shown = new Map<number, HTMLElement>();
  /** The row that the tab key reaches. */
  #active = 0;
  #selected: N | undefined;
  #frame = 0;

  constructor(scroller: HTMLElement, looks: TreeLooks<N>, events: TreeEvents<N>) {
    this.#scroller = scroller;
    this.#events = events;
    this.#looks = looks;
    this.element = el('div', { class: 'tree', role: 'tree', 'aria-label': looks.label });
    this.element.addEventListener('keydown', (event) => this.#key(event));
    this.element.addEventListener('click', (event) => this.#click(event));
    this.element.addEventListener('focusin', (event) => {
      const index = this.#indexOf(event.target as HTMLElement);
      if (index !== undefined) this.#setActive(index);
    });
    scroller.append(this.element);
    scroller.addEventListener('scroll', () => this.#later(), { passive: true });
    new ResizeObserver(() => this.#later()).observe(scroller);
  }

  setRows(rows: readonly TreeRow<N>[]): void {
    const hadFocus = this.element.contains(document.activeElement);
    const active = this.#rows[this.#active]?.node;
    this.#rows = rows;
    this.#places = new Map(rows.map(({ node }, i) => [node, i]));
    this.#active = Math.max(0, this.#nearest(active) ?? this.#nearest(this.#selected) ?? 0);
    for (const element of this.#shown.values()) element.remove();
    this.#shown.clear();
    this.element.style.height = `${rows.length * this.#height}px`;
    this.#render();
    if (hadFocus) this.#shown.get(this.#active)?.focus({ preventScroll: true });
  }

  /** Marks a node; scrolls to its row. Its parents must be open. */
  select(node: N | undefined): void {
    this.#selected = node;
    const index = node === undefined ? undefined : this.#places.get(node);
    if (index !== undefined) {
      this.#setActive(index);
      this.#reveal(index);
    }
    for (const [i, element] of this.#shown) this.#mark(i, element);
  }

  focus(): void {
    this.#reveal(this.#active);
    this.#shown.get(this.#active)?.focus({ preventScroll: true });
  }

  /** The change before or after the selected one. */
  neighbour(step: 1 | -1): N | undefined {
    for (let i = this.#active + step; i >= 0 && i < this.#rows.length; i += step) {
      const { node } = this.#rows[i] as TreeRow<N>;
      if (this.#looks.isStop(node)) return node;
    }
    return undefined;
  }

  /** The row of a node, or of the first directory above it that has one. */
  #nearest(node: N | undefined): number | undefined {
    for (let n: N | undefined = node; n !== undefined; n = n.parent) {
      const place = this.#places.get(n);
      if (place !== undefined) return place;
    }
    return undefined;
  }

  #later(): void {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#render();
    });
  }

  #render(): void {
    const { scrollTop, clientHeight } = this.#scroller;
    const first = Math.max(0, Math.floor(scrollTop / this.#height) - MARGIN);
    const end = Math.ceil((scrollTop + clientHeight) / this.#height) + MARGIN;
    const last = Math.min(this.#rows.length, end) - 1;
    const wanted = (i: number): boolean => i === this.#active || (i >= first && i <= last);
    for (const [i, element] of this.#shown) {
      if (wanted(i)) continue;
      element.remove();
      this.#shown.delete(i);
    }
    // In the order of the rows, as a screen reader walks them.
    let previous: HTMLElement | undefined;
    const place = (i: number): void => {
      if (i >= this.#rows.length) return;
      let element = this.#shown.get(i);
      if (element === undefined) {
        element = this.#row(i);
        this.#shown.set(i, element);
        if (previous === undefined) this.element.prepend(element);
        else previous.after(element);
      }
      previous = element;
    };
    if (this.#active < first) place(this.#active);
    for (let i = first; i <= last; i++) place(i);
    if (this.#active > last) place(this.#active);
  }

  #row(i: number): HTMLElement {
    const { node, label, level, position, siblings } = this.#rows[i] as TreeRow<N>;
    const canOpen = node.children.length > 0;
    const element = el(
      'div',
      {
        class: node.folder ? 'row folder' : 'row',
        role: 'treeitem',
        'aria-level': level,
        'aria-posinset': position,
        'aria-setsize': siblings,
        'aria-expanded': canOpen ? String(node.expanded) : undefined,
        'aria-label': this.#looks.labelOf(node, label),
        'data-row': i,
      },
      ...this.#looks.contentOf(node, label, canOpen),
    );
    element.style.top = `${i * this.#height}px`;
    element.style.height = `${this.#height}px`;
    element.style.setProperty('--level', String(Math.min(level - 1, 24)));
    this.#mark(i, element);
    return element;
  }

  #mark(i: number, element: HTMLElement): void {
    element.tabIndex = i === this.#active ? 0 : -1;
    element.setAttribute('aria-selected', String(this.#rows[i]?.node === this.#selected));
  }

  #setActive(index: number): void {
    const before = this.#shown.get(this.#active);
    this.#active = index;
    if (before !== undefined) before.tabIndex = -1;
    const now = this.#shown.get(index);
    if (now !== undefined) now.tabIndex = 0;
  }

  #reveal(index: number): void {
    const { scrollTop, clientHeight } = this.#scroller;
    const top = index * this.#height;
    const below = top + this.#height - clientHeight;
    // From near a row is followed; one that lies further away comes to the middle.
    const middle = top - (clientHeight - this.#height) / 2;
    const isFar = top < scrollTop - 2 * this.#height || below > scrollTop + 2 * this.#height;
    if (top < scrollTop) this.#scroller.scrollTop = isFar ? middle : top - 6;
    else if (below > scrollTop) this.#scroller.scrollTop = isFar ? middle : below + 12;
    this.#render();
  }

  #move(index: number): void {
    const to = Math.max(0, Math.min(this.#rows.length - 1, index));
    const row = this.#rows[to];
    if (row === undefined) return;
    this.#setActive(to);
    this.#reveal(to);
    this.#shown.get(to)?.focus({ preventScroll: true });
    this.#events.select(row.node, false);
  }

  #key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const row = this.#rows[this.#active];
    if (row === undefined) return;
    const { node } = row;
    const page = Math.max(1, Math.floor(this.#scroller.clientHeight / this.#height) - 1);
    const canOpen = node.children.length > 0;
    switch (event.key) {
      case 'ArrowDown':
        this.#move(this.#active + 1);
        break;
      case 'ArrowUp':
        this.#move(this.#active - 1);
        break;
      case 'PageDown':
        this.#move(this.#active + page);
        break;
      case 'PageUp':
        this.#move(this.#active - page);
        break;
      case 'Home':
        this.#move(0);
        break;
      case 'End':
        this.#move(this.#rows.length - 1);
        break;
      case 'ArrowRight':
        if (canOpen && !node.expanded) this.#events.toggle(node, true, false);
        else if (canOpen) this.#move(this.#active + 1);
        break;
      case 'ArrowLeft':
        if (canOpen && node.expanded) this.#events.toggle(node, false, false);
        else if (row.parent >= 0) this.#move(row.parent);
        break;
      case '*':
        this.#events.toggle(node, true, true);
        break;
      case 'Enter':
        this.#events.select(node, true);
        break;
      case ' ':
        if (canOpen) this.#events.toggle(node, !node.expanded, false);
        else this.#events.select(node, true);
        break;
      default:
        return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #click(event: MouseEvent): void {
    const index = this.#indexOf(event.target as HTMLElement);
    const row = index === undefined ? undefined : this.#rows[index];
    if (index === undefined || row === undefined) return;
    const { node } = row;
    this.#setActive(index);
    this.#shown.get(index)?.focus({ preventScroll: true });
    const onTwisty = (event.target as HTMLElement).closest('.twisty') !== null;
    if (!onTwisty) this.#events.select(node, true);
    if (node.children.length > 0) this.#events.toggle(node, !node.expanded, false);
  }

  #indexOf(target: HTMLElement): number | undefined {
    const index = target.closest<HTMLElement>('[data-row]')?.dataset['row'];
    return index === undefined ? undefined : Number(index);
  }
}
