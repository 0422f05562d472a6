// Changed keys: filters, the tree of keys, and the values of what is chosen, with what lies below it.
// Made by main.ts for a tab of kind `keys`.
// The tree only shows and asks; this decides.

import { type KeysTab, keyItemsOf } from '../keys-page.js';
import { applyKeyFilter, buildKeys, type KeyNode, shownKeys } from '../keys-tree.js';
import { expandUpTo, rowsOf, setExpanded, shownChildren } from '../tree-rows.js';
import { el } from './dom.js';
import { KEY_ROWS } from './key-row.js';
import { keysDetail } from './keys-detail.js';
import { KeysFilter } from './keys-filter.js';
import { PanelSwitch } from './panel-switch.js';
import { splitter } from './splitter.js';
import { TreeView } from './tree-view.js';

/** Rows that are open at first. */
const FIRST_ROWS = 60;
const SEPARATOR = '\\';

type Panel = 'tree' | 'detail';

export class KeysView {
  readonly element: HTMLElement;
  readonly #id: string;
  readonly #root: KeyNode;
  readonly #filter: KeysFilter;
  readonly #tree: TreeView<KeyNode>;
  readonly #detail: HTMLElement;
  /** On a narrow screen one panel at a time. */
  readonly #switch: PanelSwitch<Panel>;
  #selected: KeyNode;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(tab: KeysTab) {
    this.#id = tab.id;
    this.#root = buildKeys(keyItemsOf(tab));
    this.#selected = this.#root;
    this.#filter = new KeysFilter(tab.id, tab.types, tab.summary, () => this.#refilter());
    const scroller = el('div', { class: 'scroller' });
    this.#tree = new TreeView(scroller, KEY_ROWS, {
      select: (node, go) => this.#chosen(node, go),
      toggle: (node, expanded, siblings) => this.#toggle(node, expanded, siblings),
    });
    this.#detail = el('section', { class: 'detail-panel', 'aria-label': 'Values', tabindex: 0 });
    const panels = el(
      'div',
      { class: 'panels' },
      el('section', { class: 'tree-panel', 'aria-label': 'Keys' }, scroller),
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
      this.#detail,
    );
    this.#switch = new PanelSwitch(panels, [
      ['tree', 'Keys'],
      ['detail', 'Values'],
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
    this.#tree.setRows(this.#rows());
    this.fromHash();
  }

  /** Keys of which the filter leaves something. */
  shown(): KeyNode[] {
    return shownKeys(this.#root);
  }

  /** The link that leads to what is chosen. */
  hash(): string {
    return this.#hashOf(this.#selected);
  }

  /** Goes where the address says, if that is here. */
  fromHash(): void {
    const node = this.#find(location.hash);
    if (node === undefined || node === this.#selected) this.#drawDetail();
    else this.#select(node, true);
  }

  focusFilter(): void {
    this.#filter.focus();
  }

  toggleNoise(): void {
    this.#filter.toggleNoise();
  }

  step(by: 1 | -1): void {
    const next = this.#tree.neighbour(by);
    if (next !== undefined) this.#chosen(next, false);
  }

  expandAll(expanded: boolean): void {
    setExpanded(this.#root, expanded);
    if (!expanded) this.#selected = this.#root;
    this.#tree.setRows(this.#rows());
    this.#tree.select(this.#selected);
    this.#drawDetail();
  }

  focusPanel(panel: Panel): void {
    this.#switch.show(panel);
    if (panel === 'tree') this.#tree.focus();
    else this.#detail.focus();
  }

  #rows(): ReturnType<typeof rowsOf<KeyNode>> {
    return rowsOf(this.#root, SEPARATOR);
  }

  #apply(): boolean {
    const filter = this.#filter.read();
    if (filter === undefined) return false;
    applyKeyFilter(this.#root, filter);
    this.#filter.say(this.#root.shown.changes);
    return true;
  }

  #refilter(): void {
    if (!this.#apply()) return;
    // Few matches are shown without a further click.
    if (this.#root.shown.changes <= 200) setExpanded(this.#root, true);
    let rows = this.#rows();
    if (rows.length < FIRST_ROWS / 4) {
      expandUpTo(this.#root, FIRST_ROWS);
      rows = this.#rows();
    }
    this.#tree.setRows(rows);
    this.#drawDetail();
  }

  #toggle(node: KeyNode, expanded: boolean, siblings: boolean): void {
    const nodes = siblings && node.parent !== undefined ? shownChildren(node.parent) : [node];
    for (const each of nodes) each.expanded = expanded;
    this.#tree.setRows(this.#rows());
  }

  #chosen(node: KeyNode, go: boolean): void {
    this.#selected = node;
    this.#tree.select(node);
    history.replaceState(null, '', this.#hashOf(node));
    clearTimeout(this.#timer);
    // An arrow key that is held down draws nothing on its way.
    if (go) this.#drawDetail();
    else this.#timer = setTimeout(() => this.#drawDetail(), 60);
    if (go && node.children.length === 0) this.#switch.show('detail');
  }

  #select(node: KeyNode, go: boolean): void {
    if (node.shown.changes === 0) {
      this.#filter.showAll(true);
      this.#apply();
    }
    for (let n = node.parent; n !== undefined; n = n.parent) n.expanded = true;
    this.#tree.setRows(this.#rows());
    this.#chosen(node, go);
    if (go) this.#switch.show('detail');
  }

  #drawDetail(): void {
    const events = {
      select: (node: KeyNode) => this.#select(node, true),
      hash: (node: KeyNode) => this.#hashOf(node),
    };
    this.#detail.replaceChildren(keysDetail(this.#selected, events));
    this.#detail.scrollTop = 0;
  }

  /** `#registry/HKEY_CURRENT_USER/Software`: a slash in a name is escaped. */
  #hashOf(node: KeyNode): string {
    const parts = node.path.split(SEPARATOR).map((part) => encodeURIComponent(part.toWellFormed()));
    return `#${this.#id}/${parts.join('/')}`;
  }

  #find(hash: string): KeyNode | undefined {
    const prefix = `#${this.#id}/`;
    if (!hash.startsWith(prefix)) return undefined;
    let node: KeyNode | undefined = this.#root;
    for (const part of hash.slice(prefix.length).split('/')) {
      if (part === '') continue;
      let name: string;
      try {
        name = decodeURIComponent(part).toLowerCase();
      } catch {
        return undefined;
      }
      node = node?.children.find((child) => child.name.toLowerCase() === name);
    }
    return node;
  }
}
