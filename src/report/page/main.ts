// The program of the HTML page: reads the data that stands in it and shows a tab of each of its parts.
// Bundled by the build into dist/bundle/page/page.js, which html.ts writes into every page.
// It asks the network for nothing, and writes nothing but preferences.

import type { KeysTab } from '../keys-page.js';
import type { FilesTab, PageData, PageTab } from '../page-data.js';
import { byId, el } from './dom.js';
import { FilesView } from './files-view.js';
import { KeysView } from './keys-view.js';
import { type PaperList, paperFiles, paperKeys, printsAsList } from './print.js';
import { type Tab, tabs } from './tabs.js';
import { type Shortcut, tools } from './tools.js';

/** What a tab of some kind becomes. */
interface TabView {
  readonly element: HTMLElement;
  /** Called once, when it is in the page and to be seen. */
  start(): void;
  readonly shortcuts: readonly Shortcut[];
  paper(): PaperList;
  /** The link that leads to what is shown there. */
  hash(): string;
}

const RENDERERS = {
  files(tab: FilesTab): TabView {
    const view = new FilesView(tab);
    const shortcuts: Shortcut[] = [
      { key: '/', does: 'Filter the paths', run: () => view.focusFilter() },
      { key: 'j', does: 'Next change', run: () => view.step(1) },
      { key: 'k', does: 'Change before', run: () => view.step(-1) },
      { key: 'e', does: 'Open all directories', run: () => view.expandAll(true) },
      { key: 'c', does: 'Close all directories', run: () => view.expandAll(false) },
      { key: 't', does: 'To the tree', run: () => view.focusPanel('tree') },
      { key: 'm', does: 'To the map', run: () => view.focusPanel('map') },
      { key: 'd', does: 'To the details', run: () => view.focusPanel('detail') },
      { key: 's', does: 'Lines side by side or unified', run: () => view.toggleDiff('split') },
      { key: 'w', does: 'Wrap long lines or not', run: () => view.toggleDiff('wrap') },
    ];
    return {
      element: view.element,
      start: () => view.start(),
      shortcuts,
      paper: () => paperFiles(view.shown()),
      hash: () => view.hash(),
    };
  },
  keys(tab: KeysTab): TabView {
    const view = new KeysView(tab);
    addEventListener('hashchange', () => view.fromHash());
    const shortcuts: Shortcut[] = [
      { key: '/', does: 'Filter keys, names and data', run: () => view.focusFilter() },
      { key: 'j', does: 'Next change', run: () => view.step(1) },
      { key: 'k', does: 'Change before', run: () => view.step(-1) },
      { key: 'e', does: 'Open all keys', run: () => view.expandAll(true) },
      { key: 'c', does: 'Close all keys', run: () => view.expandAll(false) },
      { key: 't', does: 'To the tree', run: () => view.focusPanel('tree') },
      { key: 'd', does: 'To the values', run: () => view.focusPanel('detail') },
      { key: 'n', does: 'Show or hide noise', run: () => view.toggleNoise() },
    ];
    return {
      element: view.element,
      start: () => view.start(),
      shortcuts,
      paper: () => paperKeys(view.shown()),
      hash: () => view.hash(),
    };
  },
};

function viewOf(tab: PageTab): TabView {
  return tab.kind === 'files' ? RENDERERS.files(tab) : RENDERERS.keys(tab);
}

function main(): void {
  const data = JSON.parse(byId('data').textContent ?? '') as PageData;
  const views = data.tabs.map((tab): TabView & Tab => ({ ...viewOf(tab), id: tab.id }));
  for (const { id, element } of views) {
    byId('app').append(el('div', { class: 'tab-panel', id: `panel-${id}`, hidden: true }, element));
  }
  const started = new Set<TabView>();
  const current = tabs(views, (view) => {
    if (started.has(view)) return;
    started.add(view);
    view.start();
  });
  printsAsList(() => current().paper());
  tools(
    () => current().shortcuts,
    views.flatMap(({ shortcuts }) => shortcuts),
  );
}

main();
