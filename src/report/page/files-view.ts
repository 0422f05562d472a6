// The changes of files: filters, tree, map and details as one view, and what chosen means for each of them.
// Made by main.ts for a tab of kind `files`.
// The tree and the map only show and ask; this decides, so that both always agree.

import { type FilesTab, type Item, itemsOf } from '../page-data.js';
import { applyFilter, buildTree, matches, type TreeItem } from '../page-tree.js';
import { expandUpTo, rowsOf, setExpanded, shownChildren } from '../tree-rows.js';
import type { NodeEvents } from './detail-head.js';
import { detailView } from './detail-view.js';
import { el } from './dom.js';
import { FILE_ROWS } from './file-row.js';
import { FilterBar } from './filter-bar.js';
import { MapView } from './map-view.js';
import { PanelSwitch } from './panel-switch.js';
import { splitter } from './splitter.js';
import { TreeView } from './tree-view.js';

/** Rows that are open at first. */
const FIRST_ROWS = 60;

type Panel = 'tree' | 'map' | 'detail';

export class FilesView {
  readonly element: HTMLElement;
  readonly #items: readonly Item[];
  readonly #news: number;
  readonly #root: TreeItem;
  readonly #filter: FilterBar;
  readonly #tree: TreeView<TreeItem>;
  readonly #map: MapView;
  readonly #detail: HTMLElement;
  /** On a narrow screen one panel at a time. */
  readonly #switch: PanelSwitch<Panel>;
  #selected: TreeItem;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #events: NodeEvents<TreeItem> = {
    select: (node) => this.#select(node, true),
    hash: (node) => hashOf(node),
  };

  constructor(tab: FilesTab) {
    this.#items = itemsOf(tab);
    this.#news = this.#items.filter(({ status }) => status !== '=').length;
    this.#root = buildTree(this.#items);
    this.#selected = this.#root;
    this.#filter = new FilterBar(() => this.#refilter());
    const scroller = el('div', { class: 'scroller' });
    this.#tree = new TreeView(scroller, FILE_ROWS, {
      select: (node, go) => this.#chosen(node, go),
      toggle: (node, expanded, siblings) => this.#toggle(node, expanded, siblings),
    });
    this.#map = new MapView(this.#root, {
      select: (node) => this.#select(node, true),
      zoom: (node) => {
        this.#map.setZoom(node);
        this.#select(node, false);
      },
    });
    this.#detail = el('section', { class: 'detail-panel', 'aria-label': 'Details', tabindex: 0 });
    const right = el('div', { class: 'right' }, this.#map.element);
    right.append(
      splitter(right, {
        property: '--map',
        label: 'Height of the map',
        vertical: false,
        least: 10,
        most: 85,
        usual: 40,
      }),
      this.#detail,
    );
    const panels = el(
      'div',
      { class: 'panels' },
      el('section', { class: 'tree-panel', 'aria-label': 'Tree' }, scroller),
    );
    panels.append(
      splitter(panels, {
        property: '--tree',
        label: 'Width of the tree',
        vertical: true,
        least: 15,
        most: 80,
        usual: 42,
      }),
      right,
    );
    this.#switch = new PanelSwitch(panels, [
      ['tree', 'Tree'],
      ['map', 'Map'],
      ['detail', 'Details'],
    ]);
    this.element = el(
      'div',
      { class: 'files' },
      this.#filter.element,
      this.#switch.element,
      panels,
    );
  }

  /** Once the element is in the page. */
  start(): void {
    this.#apply();
    expandUpTo(this.#root, FIRST_ROWS);
    this.#tree.setRows(rowsOf(this.#root));
    this.#fromHash();
    addEventListener('hashchange', () => this.#fromHash());
  }

  /** What the filter leaves. */
  shown(): Item[] {
    const filter = this.#filter.read();
    return filter === undefined ? [] : this.#items.filter((item) => matches(filter, item));
  }

  /** The link that leads to what is chosen. */
  hash(): string {
    return hashOf(this.#selected);
  }

  focusFilter(): void {
    this.#filter.focus();
  }

  step(by: 1 | -1): void {
    const next = this.#tree.neighbour(by);
    if (next !== undefined) this.#select(next, false);
  }

  expandAll(expanded: boolean): void {
    setExpanded(this.#root, expanded);
    if (!expanded) this.#selected = this.#root;
    this.#tree.setRows(rowsOf(this.#root));
    this.#tree.select(this.#selected);
  }

  focusPanel(panel: Panel): void {
    this.#switch.show(panel);
    if (panel === 'tree') this.#tree.focus();
    else if (panel === 'detail') this.#detail.focus();
    else this.#map.element.querySelector<HTMLElement>('.cell[tabindex="0"]')?.focus();
  }

  toggleDiff(name: 'split' | 'wrap'): void {
    this.#detail.querySelector<HTMLElement>(`[data-name="${name}"]`)?.click();
  }

  #apply(): void {
    const filter = this.#filter.read();
    if (filter === undefined) return;
    applyFilter(this.#root, filter);
    this.#filter.say(this.#root.shown.changes, this.#news);
  }

  #refilter(): void {
    this.#apply();
    // Few matches are shown without a further click.
    if (this.#root.shown.changes <= 200) setExpanded(this.#root, true);
    let rows = rowsOf(this.#root);
    if (rows.length < FIRST_ROWS / 4) {
      expandUpTo(this.#root, FIRST_ROWS);
      rows = rowsOf(this.#root);
    }
    this.#tree.setRows(rows);
    this.#map.refresh();
    if (this.#selected.children.length > 0) this.#drawDetail();
  }

  #toggle(node: TreeItem, expanded: boolean, siblings: boolean): void {
    const nodes = siblings && node.parent !== undefined ? shownChildren(node.parent) : [node];
    for (const each of nodes) each.expanded = expanded;
    this.#tree.setRows(rowsOf(this.#root));
  }

  /** From the tree, whose row is seen and marked there. */
  #chosen(node: TreeItem, go: boolean): void {
    this.#selected = node;
    this.#tree.select(node);
    this.#map.select(node);
    history.replaceState(null, '', hashOf(node));
    clearTimeout(this.#timer);
    if (!go) {
      // An arrow key that is held down draws nothing on its way.
      this.#timer = setTimeout(() => this.#drawDetail(), 60);
      return;
    }
    this.#drawDetail();
    if (node.children.length === 0) this.#switch.show('detail');
  }

  #select(node: TreeItem, go: boolean): void {
    const { item } = node;
    if (node.shown.changes === 0 && item !== undefined) {
      this.#filter.clear();
      this.#filter.showStatus(item.status);
      this.#apply();
    }
    for (let n = node.parent; n !== undefined; n = n.parent) n.expanded = true;
    this.#tree.setRows(rowsOf(this.#root));
    this.#chosen(node, go);
    if (go) this.#switch.show('detail');
  }

  #drawDetail(): void {
    this.#detail.replaceChildren(detailView(this.#selected, this.#events));
    this.#detail.scrollTop = 0;
  }

  #fromHash(): void {
    const path = pathOf(location.hash);
    const node = path === undefined ? undefined : find(this.#root, path);
    if (node === undefined) this.#drawDetail();
    else if (node !== this.#selected || node === this.#root) this.#select(node, path !== '');
  }
}

/** `#/etc/hosts`. */
function hashOf(node: TreeItem): string {
  return `#/${node.path.split('/').map(encodePart).join('/')}`;
}

/** @returns undefined for a link that leads to no path. */
function pathOf(hash: string): string | undefined {
  if (!hash.startsWith('#/')) return undefined;
  try {
    return decodeURIComponent(hash.slice(2)).replace(/\/$/, '');
  } catch {
    return undefined;
  }
}

/** Lone surrogates are in no UTF-8 path; a document may hold them all the same. */
function encodePart(part: string): string {
  return encodeURIComponent(part.toWellFormed());
}

function find(root: TreeItem, path: string): TreeItem | undefined {
  let node: TreeItem | undefined = root;
  for (const name of path.split('/')) {
    if (name !== '') node = node?.children.find((child) => child.name === name);
  }
  return node;
}
