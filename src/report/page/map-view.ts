// The treemap: what lies in the upper as areas, coloured by status, with one directory as the whole.
// Made by files-view.ts; squarify.ts says where the areas are.
// A list box for assistive technology; arrows move to the next area in their direction.

import type { TreeItem } from '../page-tree.js';
import { countText, STATUS_WORDS, sizeText } from '../page-words.js';
import { type Rect, squarify } from '../squarify.js';
import { countsText, statusClass } from './badge.js';
import { el, visible } from './dom.js';
import { type Cell, hasHeader, insideOf, isSeen, strata } from './map-cell.js';

export type Weight = 'stored' | 'changes';

export interface MapEvents {
  select(node: TreeItem): void;
  zoom(node: TreeItem): void;
}

const MOST_CELLS = 2000;

export class MapView {
  readonly element: HTMLElement;
  readonly #events: MapEvents;
  readonly #plane: HTMLElement;
  readonly #crumbs: HTMLElement;
  readonly #caption: HTMLElement;
  #root: TreeItem;
  #zoom: TreeItem;
  #weight: Weight = 'stored';
  #cells: Cell[] = [];
  #active: Cell | undefined;
  #selected: TreeItem | undefined;
  #frame = 0;

  constructor(root: TreeItem, events: MapEvents) {
    this.#root = root;
    this.#zoom = root;
    this.#events = events;
    this.#plane = el('div', {
      class: 'plane',
      role: 'listbox',
      'aria-label': 'Treemap of the changes',
      'aria-describedby': 'map-caption',
    });
    this.#crumbs = el('div', { class: 'crumbs', 'aria-label': 'Directory of the map' });
    this.#caption = el('p', { class: 'caption', id: 'map-caption' });
    const weight = el(
      'select',
      {
        'aria-label': 'Areas show',
        change: () => this.#setWeight((weight as HTMLSelectElement).value as Weight),
      },
      el('option', { value: 'stored' }, 'by bytes in the upper'),
      el('option', { value: 'changes' }, 'by number of changes'),
    );
    this.element = el(
      'section',
      { class: 'map', 'aria-label': 'Map' },
      el('div', { class: 'map-head' }, this.#crumbs, weight),
      this.#plane,
      this.#caption,
    );
    this.#plane.addEventListener('keydown', (event) => this.#key(event));
    this.#plane.addEventListener('click', (event) => this.#click(event, false));
    this.#plane.addEventListener('dblclick', (event) => this.#click(event, true));
    this.#plane.addEventListener('pointerover', (event) => this.#say(this.#cellOf(event)));
    this.#plane.addEventListener('pointerleave', () => this.#say(this.#focused()));
    this.#plane.addEventListener('focusout', () => this.#say(undefined));
    this.#plane.addEventListener('focusin', (event) => this.#setActive(this.#cellOf(event)));
    new ResizeObserver(() => this.refresh()).observe(this.#plane);
  }

  /** After another filter. */
  refresh(): void {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  setZoom(node: TreeItem): void {
    this.#zoom = node;
    this.#active = undefined;
    this.refresh();
  }

  select(node: TreeItem | undefined): void {
    this.#selected = node;
    const isInside = node !== undefined && this.#isBelow(node, this.#zoom);
    if (node !== undefined && !isInside) this.setZoom(this.#root);
    for (const cell of this.#cells) this.#mark(cell);
  }

  #setWeight(weight: Weight): void {
    this.#weight = weight;
    this.#draw();
  }

  #isBelow(node: TreeItem, directory: TreeItem): boolean {
    for (let n: TreeItem | undefined = node; n !== undefined; n = n.parent) {
      if (n === directory) return true;
    }
    return false;
  }

  #draw(): void {
    const { clientWidth: width, clientHeight: height } = this.#plane;
    if (width === 0 || height === 0) return;
    const hadFocus = this.#plane.contains(document.activeElement);
    const active = this.#active?.node;
    // A filter may have left nothing of it.
    while (this.#zoom.parent !== undefined && this.#zoom.shown[this.#weight] === 0) {
      this.#zoom = this.#zoom.parent;
    }
    this.#cells = this.#layout({ x: 0, y: 0, width, height });
    this.#plane.replaceChildren(...this.#cells.map((cell, i) => this.#element(cell, i)));
    const leaf = this.#cells.find(({ node }) => node === active);
    this.#setActive(leaf ?? this.#cells.find(({ frame }) => !frame) ?? this.#cells[0]);
    if (hadFocus) this.#active?.element?.focus();
    this.#drawCrumbs();
    if (this.#cells.length > 0) return;
    const text =
      this.#root.shown.changes === 0
        ? 'Nothing matches the filter.'
        : 'None of this takes space in the upper: deletions and metadata have no bytes.';
    this.#plane.append(el('p', { class: 'empty' }, text));
  }

  #layout(whole: Rect): Cell[] {
    const cells: Cell[] = [];
    const weightOf = (node: TreeItem): number => node.shown[this.#weight];
    interface Wanted {
      readonly directory: TreeItem;
      readonly within: Rect;
      readonly cell?: Cell;
    }
    const queue: Wanted[] = [{ directory: this.#zoom, within: whole }];
    for (let i = 0; i < queue.length; i++) {
      const { directory, within, cell } = queue[i] as Wanted;
      const children = directory.children
        .filter((child) => weightOf(child) > 0)
        .sort((a, b) => weightOf(b) - weightOf(a));
      const rects = squarify(children.map(weightOf), within);
      const drawn = rects.filter(isSeen);
      const weight = children.reduce(
        (sum, child, k) => sum + (isSeen(rects[k] as Rect) ? weightOf(child) : 0),
        0,
      );
      // Where most is too small to be drawn, the whole is drawn as strata.
      const isHeap = weight < weightOf(directory) / 2 || cells.length + drawn.length > MOST_CELLS;
      if (isHeap && cell !== undefined) {
        cell.heap = true;
        continue;
      }
      for (const [k, child] of children.entries()) {
        const rect = rects[k] as Rect;
        if (!isSeen(rect)) continue;
        const made = this.#cell(child, rect);
        cells.push(made);
        if (!made.frame) continue;
        const inside = insideOf(made);
        const canHold = inside.width > 3 && inside.height > 3;
        if (canHold) queue.push({ directory: made.node, within: inside, cell: made });
        else made.heap = true;
      }
    }
    return cells;
  }

  #cell(child: TreeItem, { x, y, width, height }: Rect): Cell {
    const frame = child.children.length > 0;
    const [node, label] = frame ? this.#joined(child) : [child, child.name];
    return { x: x + 0.5, y: y + 0.5, width: width - 1, height: height - 1, node, label, frame };
  }

  /** Follows directories that hold one directory and nothing else that has an area. */
  #joined(directory: TreeItem): [TreeItem, string] {
    let node = directory;
    let label = node.name;
    for (;;) {
      const heavy = node.children.filter(({ shown }) => shown[this.#weight] > 0);
      const [only] = heavy;
      if (heavy.length !== 1 || only === undefined || only.children.length === 0) {
        return [node, label];
      }
      node = only;
      label = `${label}/${node.name}`;
    }
  }

  #element(cell: Cell, index: number): HTMLElement {
    const { node, label, frame, x, y, width, height } = cell;
    const status = node.item?.status;
    const kind = frame ? 'frame' : `leaf ${statusClass(status ?? 'A')}`;
    const hasName = frame ? hasHeader(cell) : width > 34 && height > 15;
    const element = el(
      'div',
      {
        class: `cell ${kind}`,
        role: 'option',
        tabindex: -1,
        'aria-label': this.#describe(cell),
        'data-cell': index,
      },
      hasName && el('span', { class: 'cell-name' }, visible(label)),
      hasName && !frame && height > 32 && width > 52
        ? el('span', { class: 'cell-size' }, this.#amount(node))
        : undefined,
    );
    element.style.transform = `translate(${x}px, ${y}px)`;
    element.style.width = `${width}px`;
    element.style.height = `${height}px`;
    if (cell.heap === true) element.style.backgroundImage = strata(node.shown);
    cell.element = element;
    this.#mark(cell);
    return element;
  }

  #amount(node: TreeItem): string {
    return this.#weight === 'stored'
      ? sizeText(node.shown.stored)
      : countText(node.shown.changes, 'change');
  }

  #describe({ node, frame }: Cell): string {
    const status = node.item?.status;
    const what =
      frame || status === undefined
        ? `directory, ${countText(node.shown.changes, 'change')}: ${countsText(node.shown)}`
        : STATUS_WORDS[status].toLowerCase();
    return `${node.path || '/'}, ${sizeText(node.shown.stored)}, ${what}`;
  }

  #mark({ node, element }: Cell): void {
    element?.setAttribute('aria-selected', String(node === this.#selected));
  }

  #drawCrumbs(): void {
    const way: TreeItem[] = [];
    for (let n: TreeItem | undefined = this.#zoom; n !== undefined; n = n.parent) way.unshift(n);
    this.#crumbs.replaceChildren(
      ...way.map((node, i) =>
        el(
          'button',
          {
            type: 'button',
            class: 'crumb',
            'aria-current': i === way.length - 1 ? 'true' : undefined,
            click: () => this.#events.zoom(node),
          },
          node.name === '' ? '/' : visible(node.name),
        ),
      ),
    );
    this.#crumbs.scrollLeft = this.#crumbs.scrollWidth;
  }

  #setActive(cell: Cell | undefined): void {
    if (this.#active?.element !== undefined) this.#active.element.tabIndex = -1;
    this.#active = cell;
    if (cell?.element !== undefined) cell.element.tabIndex = 0;
    this.#say(this.#focused());
  }

  #focused(): Cell | undefined {
    return this.#active?.element === document.activeElement ? this.#active : undefined;
  }

  /** The line below the map: always there, so that nothing moves. */
  #say(cell: Cell | undefined): void {
    const { path, shown } = this.#zoom;
    const text =
      cell === undefined
        ? `${path || '/'}, ${sizeText(shown.stored)}, ${countText(shown.changes, 'change')}`
        : this.#describe(cell);
    this.#caption.replaceChildren(visible(text));
  }

  #cellOf(event: Event): Cell | undefined {
    const found = (event.target as HTMLElement).closest<HTMLElement>('[data-cell]');
    return found === null ? undefined : this.#cells[Number(found.dataset['cell'])];
  }

  #click(event: Event, double: boolean): void {
    const cell = this.#cellOf(event);
    if (cell === undefined) return;
    cell.element?.focus();
    if (cell.frame) this.#events.zoom(cell.node);
    else if (!double) this.#events.select(cell.node);
    else if (cell.node.parent !== undefined) this.#events.zoom(cell.node.parent);
  }

  /** The directory one step from the zoom towards a cell. */
  #towards(cell: Cell): TreeItem | undefined {
    let node: TreeItem | undefined = cell.node;
    while (node !== undefined && node.parent !== this.#zoom) node = node.parent;
    return node?.folder ? this.#joined(node)[0] : undefined;
  }

  /** The next directory outside that shows more. */
  #around(zoom: TreeItem): TreeItem {
    let node = zoom.parent ?? zoom;
    while (node.parent !== undefined && node.shown[this.#weight] === zoom.shown[this.#weight]) {
      node = node.parent;
    }
    return node;
  }

  #key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || this.#active === undefined) return;
    const step = ARROWS[event.key];
    const inner = this.#towards(this.#active);
    if (step !== undefined) this.#neighbour(this.#active, step[0], step[1])?.element?.focus();
    else if (event.key === 'Enter' || event.key === ' ') {
      if (this.#active.frame) this.#events.zoom(this.#active.node);
      else this.#events.select(this.#active.node);
    } else if (event.key === '+' && inner !== undefined) this.#events.zoom(inner);
    else if (OUT.has(event.key)) {
      if (this.#zoom.parent === undefined) return;
      this.#events.zoom(this.#around(this.#zoom));
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** The nearest area whose middle lies in a direction, those straight ahead first. */
  #neighbour(from: Cell, dx: number, dy: number): Cell | undefined {
    const middle = (cell: Cell): [number, number] => [
      cell.x + cell.width / 2,
      cell.y + cell.height / 2,
    ];
    const [x, y] = middle(from);
    let best: Cell | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const cell of this.#cells) {
      if (cell === from || (cell.frame && !from.frame)) continue;
      const [cx, cy] = middle(cell);
      const ahead = (cx - x) * dx + (cy - y) * dy;
      const aside = Math.abs((cx - x) * dy) + Math.abs((cy - y) * dx);
      const distance = ahead + 2 * aside;
      if (ahead <= 0.5 || distance >= least) continue;
      least = distance;
      best = cell;
    }
    return best;
  }
}

const ARROWS: Readonly<Record<string, readonly [number, number]>> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

const OUT: ReadonlySet<string> = new Set(['-', 'Backspace', 'Escape']);
