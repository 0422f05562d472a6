// The program of the HTML page: reads the data that stands in it and shows a tab of each of its parts.
// Bundled by the build into dist/bundle/page/page.js, which html.ts writes into every page.
// It asks the network for nothing, and writes nothing but preferences.

import type { FilesTab, PageData } from '../page-data.js';
import { byId, el } from './dom.js';
import { FilesView } from './files-view.js';
import { printsAsList } from './print.js';
import { type Shortcut, tools } from './tools.js';

/** What a tab of some kind becomes. */
interface TabView {
  readonly element: HTMLElement;
  /** Called once, when it is in the page. */
  start(): void;
  readonly shortcuts: readonly Shortcut[];
}

const RENDERERS: { readonly files: (tab: FilesTab) => TabView } = {
  files(tab) {
    const view = new FilesView(tab);
    printsAsList(() => view.shown());
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
    return { element: view.element, start: () => view.start(), shortcuts };
  },
};

function main(): void {
  const data = JSON.parse(byId('data').textContent ?? '') as PageData;
  const app = byId('app');
  const views = data.tabs.map((tab) => RENDERERS[tab.kind](tab));
  const panels = views.map((view, i) => {
    const id = `panel-${data.tabs[i]?.id}`;
    return el('div', { class: 'tab-panel', id, hidden: i > 0 }, view.element);
  });
  const started = new Set<number>();
  const show = (index: number): void => {
    panels.forEach((panel, i) => {
      panel.hidden = i !== index;
    });
    if (started.has(index)) return;
    started.add(index);
    views[index]?.start();
  };
  // One tab needs no row of tabs.
  if (views.length > 1) app.append(tabRow(data, panels, show));
  app.append(...panels);
  show(0);
  tools(views.flatMap(({ shortcuts }) => shortcuts));
}

/** Follows the tabs pattern of the ARIA Authoring Practices 1.2. */
function tabRow(
  data: PageData,
  panels: readonly HTMLElement[],
  show: (index: number) => void,
): HTMLElement {
  const tabs = data.tabs.map(({ id, title }, i) =>
    el(
      'button',
      {
        type: 'button',
        class: 'tab',
        role: 'tab',
        id: `tab-${id}`,
        'aria-controls': `panel-${id}`,
        'aria-selected': String(i === 0),
        tabindex: i === 0 ? 0 : -1,
        click: () => choose(i),
      },
      title,
    ),
  );
  const choose = (index: number): void => {
    tabs.forEach((tab, i) => {
      tab.setAttribute('aria-selected', String(i === index));
      tab.tabIndex = i === index ? 0 : -1;
    });
    tabs[index]?.focus();
    show(index);
  };
  panels.forEach((panel, i) => {
    panel.setAttribute('role', 'tabpanel');
    panel.setAttribute('aria-labelledby', `tab-${data.tabs[i]?.id}`);
  });
  return el(
    'div',
    {
      class: 'tabs',
      role: 'tablist',
      keydown: (event: KeyboardEvent) => {
        const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
        if (step === 0) return;
        const now = tabs.indexOf(document.activeElement as HTMLButtonElement);
        choose((now + step + tabs.length) % tabs.length);
      },
    },
    ...tabs,
  );
}

main();
