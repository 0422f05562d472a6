// The HTML page in headless Chromium: tree, filters, map, details, keyboard, hostile names, size, print, no scripts.
// Every page is watched: an error in its console or a request for anything but itself fails the test.

import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { after, before, test } from 'node:test';
import type { Browser, Locator, Page } from 'playwright-core';
import { S } from '../../src/linux/constants.js';
import { makeNode } from '../../src/tree/tree.js';
import type { Change } from '../../src/union/change.js';
import { requires } from '../support/requires.js';
import { launch, open } from './browser.js';
import { added, deleted, folder, modified, NONE, textFile, utf8 } from './samples.js';

const skip = requires({ packages: ['chromium'] });
let browser: Browser;

before(async () => {
  if (skip === false) browser = await launch();
});
after(async () => {
  await browser?.close();
});

const LINES = Array.from({ length: 30 }, (_, i) => `line ${i}\n`);

// What runs in the page is text: the tests are compiled without the types of a browser.

/** Which element has focus, and whether it is to be seen. */
const FOCUS = `(() => {
  const element = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  const isShown = outlineStyle !== 'none' && outlineWidth !== '0px';
  return [element.getAttribute('role') ?? (element.className || element.tagName), isShown];
})()`;

/** What somebody would do who had got a script in. */
const INTRUDE = `(async () => {
  const element = document.createElement('script');
  element.textContent = 'window.hacked = 1';
  document.body.append(element);
  return await fetch('https://example.invalid/').then(() => 'fetched', () => 'refused');
})()`;

/** Opens all directories and scrolls to the end; milliseconds until each is drawn. */
const WALK = `(async () => {
  const settle = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  let start = performance.now();
  document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'e', bubbles: true }));
  await settle();
  const expand = performance.now() - start;
  const scroller = document.querySelector('.scroller');
  start = performance.now();
  for (let i = 1; i <= 10; i++) {
    scroller.scrollTop = (scroller.scrollHeight * i) / 10;
    await settle();
  }
  return { expand, scroll: (performance.now() - start) / 10 };
})()`;

/** The sum of all layout shifts since the page was opened. */
const SHIFTS = `new Promise((done) => {
  let sum = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) sum += entry.value;
  }).observe({ type: 'layout-shift', buffered: true });
  setTimeout(() => done(sum), 300);
})`;

/** Every status once or more, in the order of a walk. */
const SAMPLE: readonly Change[] = [
  { path: '', status: '=', before: folder(), after: folder(), differs: NONE, stored: 0 },
  { path: 'etc', status: '=', before: folder(), after: folder(), differs: NONE, stored: 0 },
  modified(
    'etc/app.conf',
    textFile(LINES.join('')),
    textFile(LINES.with(14, 'line XIV\n').join('')),
  ),
  deleted('etc/gone', textFile('bye\n')),
  modified('etc/secret', textFile('s\n'), textFile('s\n', { mode: 0o600, uid: 5 }), {
    mode: true,
    owner: true,
  }),
  added('opt', folder()),
  added('opt/app', folder()),
  added('opt/app/big.bin', textFile('\0'.repeat(60_000))),
  { ...added('opt/app/link', makeNode(S.IFLNK | 0o777, { target: 'big.bin' })), stored: 0 },
  added('opt/app/small.bin', textFile('\0'.repeat(20_000))),
  {
    path: 'opt/moved',
    from: 'usr/old',
    status: 'R',
    before: folder(),
    after: folder(),
    differs: NONE,
    stored: 0,
  },
  {
    path: 'var/same',
    status: '=',
    before: textFile('same\n'),
    after: textFile('same\n'),
    differs: { ...NONE, time: true },
    stored: 5,
  },
];

const textOf = async (locator: Locator): Promise<string> => (await locator.textContent()) ?? '';
const names = (page: Page): Promise<string[]> => page.locator('.tree .name').allInnerTexts();
const goTo = (page: Page, hash: string): Promise<void> =>
  page.evaluate(`void (location.hash = '${hash}')`);
const event = (page: Page, name: string): Promise<void> =>
  page.evaluate(`void dispatchEvent(new Event('${name}'))`);
const focusedRow = (page: Page): Promise<string | undefined> =>
  page.evaluate('document.activeElement?.querySelector(".name")?.textContent');

test('the tree: rows, ARIA, the keyboard alone, details and a link to each', {
  skip,
}, async (t) => {
  const { page, verify } = await open(t, browser, SAMPLE);
  assert.deepEqual(await names(page), [
    'etc',
    'app.conf',
    'gone',
    'secret',
    'opt',
    'app',
    'big.bin',
    'link → big.bin',
    'small.bin',
    'moved ← usr/old',
  ]);
  await page.keyboard.press('t');
  assert.equal(await focusedRow(page), 'etc');
  assert.equal(await page.locator('[role=treeitem][tabindex="0"]').count(), 1, 'roving tabindex');
  await page.keyboard.press('ArrowLeft');
  assert.deepEqual((await names(page)).slice(0, 2), ['etc', 'opt']);
  const etc = page.locator('[role=treeitem]').first();
  assert.equal(await etc.getAttribute('aria-expanded'), 'false');
  assert.match(
    (await etc.getAttribute('aria-label')) ?? '',
    /^etc, directory, 3 changes: 2 modified, 1 deleted$/,
  );
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowRight');
  assert.equal(await focusedRow(page), 'app.conf');
  const conf = page.locator('[role=treeitem][aria-selected=true]');
  assert.deepEqual(
    await conf.evaluate((row) =>
      ['aria-level', 'aria-posinset', 'aria-setsize'].map((name) => row.getAttribute(name)),
    ),
    ['2', '1', '3'],
  );
  await page.locator('.detail .last', { hasText: 'app.conf' }).waitFor();
  assert.ok(page.url().endsWith('#/etc/app.conf'));
  assert.deepEqual(await page.locator('.diff .removed .text, .diff .added .text').allInnerTexts(), [
    'line 14',
    'line XIV',
  ]);
  assert.deepEqual(await page.locator('.diff mark').allInnerTexts(), ['14', 'XIV']);
  await page.keyboard.press('End');
  assert.equal(await focusedRow(page), 'moved ← usr/old');
  await page.keyboard.press('k');
  await page.keyboard.press('k');
  assert.ok(page.url().endsWith('#/opt/app/link'));
  await page.keyboard.press('t');
  await page.keyboard.press('ArrowLeft');
  assert.equal(await focusedRow(page), 'app');
  await page.keyboard.press('c');
  assert.deepEqual(await names(page), ['etc', 'opt']);
  await page.keyboard.press('e');
  assert.equal((await names(page)).length, 10);
  await page.keyboard.press('?');
  assert.equal(await page.locator('dialog[open] dt').count(), 17);
  await page.keyboard.press('Escape');
  await goTo(page, '#/etc/secret');
  await page.locator('.facts-table .was', { hasText: '0644' }).waitFor();
  assert.deepEqual(await page.locator('.facts-table tr.differs').allInnerTexts(), [
    'Mode\t0644 rw-r--r--\t0600 rw-------',
    'Owner\t0:0\t5:0',
  ]);
  verify();
});

test('Tab reaches everything that can be used, and what has focus shows it', {
  skip,
}, async (t) => {
  const { page, verify } = await open(t, browser, SAMPLE, { hash: '#/etc/app.conf' });
  const seen: string[] = [];
  for (let i = 0; i < 40; i++) {
    await page.keyboard.press('Tab');
    const [what, isShown] = await page.evaluate<[string, boolean]>(FOCUS);
    if (await page.evaluate('document.activeElement === document.body')) break;
    assert.ok(isShown, `${what}: focus is not visible`);
    seen.push(what);
  }
  for (const what of [
    'chip',
    'toggle regexp',
    'treeitem',
    'separator',
    'option',
    'detail-panel',
    'step',
    'toggle',
  ]) {
    assert.ok(seen.includes(what), `${what} is reached by Tab (${seen.join(', ')})`);
  }
  verify();
});

test('filters: status, text, regular expression, aspect, type, size', { skip }, async (t) => {
  const { page, verify } = await open(t, browser, SAMPLE);
  const count = (): Promise<string> => textOf(page.locator('.count'));
  const leaves = async (): Promise<string[]> =>
    (await page.locator('.row:not(.folder) .name').allInnerTexts()).map(
      (text) => text.split(' ')[0] as string,
    );
  assert.equal(await count(), '9 changes');
  await page.click('.chip[data-status="="]');
  assert.ok((await leaves()).includes('same'));
  assert.equal(await textOf(page.locator('.row', { hasText: 'same' }).locator('.tag')), 'time');
  await page.click('.chip[data-status="="]');
  await page.click('.chip[data-status="A"]');
  assert.deepEqual(await leaves(), ['app.conf', 'gone', 'secret']);
  assert.equal(await count(), '4 of 9 changes');
  await page.locator('.result .toggle').click();
  assert.equal(await count(), '9 changes');
  await page.keyboard.press('/');
  await page.keyboard.type('APP bin');
  await page.locator('.count', { hasText: '2 of 9' }).waitFor();
  assert.deepEqual(await leaves(), ['big.bin', 'small.bin']);
  await page.click('.regexp');
  await page.fill('#search', '(');
  await page.locator('#search[aria-invalid=true]').waitFor();
  await page.fill('#search', '^usr/|secret$');
  await page.locator('.count', { hasText: '2 of 9' }).waitFor();
  assert.deepEqual(
    await names(page),
    ['etc', 'secret', 'opt/moved ← usr/old'],
    'a path before counts',
  );
  await page.locator('.result .toggle').click();
  await page.getByLabel('What differs').selectOption({ label: 'Owner differs' });
  assert.deepEqual(await leaves(), ['secret']);
  await page.locator('.result .toggle').click();
  await page.getByLabel('Type', { exact: true }).selectOption({ label: 'Symbolic links' });
  assert.deepEqual(await leaves(), ['link']);
  await page.locator('.result .toggle').click();
  await page.getByLabel('Size', { exact: true }).selectOption({ label: '≥ 1 KiB' });
  assert.deepEqual(await leaves(), ['big.bin', 'small.bin']);
  verify();
});

test('the map: areas follow bytes; mouse and keyboard choose and zoom', { skip }, async (t) => {
  const { page, verify } = await open(t, browser, SAMPLE);
  const area = (name: string): Promise<number> =>
    page
      .locator('.cell.leaf', { hasText: name })
      .evaluate((cell) => (cell.clientWidth + 1) * (cell.clientHeight + 1));
  const ratio = (await area('big.bin')) / (await area('small.bin'));
  assert.ok(ratio > 2.8 && ratio < 3.2, `60,000 bytes and 20,000: ${ratio}`);
  await page.locator('.cell.leaf', { hasText: 'small.bin' }).click();
  assert.ok(page.url().endsWith('#/opt/app/small.bin'));
  assert.equal(await textOf(page.locator('.row[aria-selected=true] .name')), 'small.bin');
  await page.locator('.note', { hasText: 'no text' }).waitFor();
  const active = (): Promise<string | null | undefined> =>
    page.evaluate('document.activeElement?.getAttribute("aria-label")');
  assert.match((await active()) ?? '', /^opt\/app\/small.bin, 19.5 KiB, added$/);
  await page.keyboard.press('ArrowLeft');
  assert.match((await active()) ?? '', /^opt\/app\/big.bin/);
  assert.match(await textOf(page.locator('.caption')), /^opt\/app\/big.bin, 58.6 KiB, added$/);
  await page.keyboard.press('+');
  await page.locator('.crumb[aria-current]', { hasText: 'app' }).waitFor();
  assert.equal(await page.locator('.cell').count(), 2);
  await page.keyboard.press('m');
  await page.keyboard.press('-');
  await page.locator('.crumb[aria-current]', { hasText: '/' }).waitFor();
  await page.locator('.map select').selectOption('changes');
  await page.locator('.cell', { hasText: 'gone' }).waitFor();
  assert.equal(await page.locator('.cell.leaf').count(), 7, 'deletions have an area here');
  await page
    .locator('.cell.frame', { hasText: 'etc' })
    .first()
    .click({ position: { x: 6, y: 6 } });
  await page.locator('.crumb[aria-current]', { hasText: 'etc' }).waitFor();
  verify();
});

test('hostile names and contents are shown, never interpreted', { skip }, async (t) => {
  const script = '<script>window.hacked=1</script>';
  const evil = [
    `</script>${script}`,
    `<img src=x onerror="window.hacked=1">`,
    `--><script>window.hacked=1</script><!--`,
    `"><svg onload=window.hacked=1>`,
    `'+alert(1)+'\u2028window.hacked=1\u2029`,
    `a\u202egpj.exe`,
    `new\nline\ttab\x1b[31m`,
    `{{constructor.constructor('window.hacked=1')()}}`,
    `javascript:window.hacked=1`,
    '__proto__',
    'constructor',
    `%3Cscript%3E`,
    `\ufeffbom\u200b`,
  ].map((name) => utf8(name.replaceAll('/', '∕')));
  const slashes = utf8(`d${script}`);
  const content = `<!--<script>${script}]]></style></textarea>\u2028\u2029\u202e${script}\n`;
  const changes: Change[] = [
    ...evil.map((name) => added(name, textFile(content))),
    added('bytes\xff\xfe', textFile('x\n')),
    added(slashes, textFile(content)),
    {
      ...modified(
        'link',
        makeNode(S.IFLNK | 0o777, { target: utf8(script) }),
        makeNode(S.IFLNK | 0o777, { target: 'javascript:window.hacked=1' }),
      ),
      stored: 0,
    },
    modified(
      'xattr',
      textFile('x', { xattrs: new Map([[utf8(`user.${script}`), Buffer.from(script)]]) }),
      textFile('x'),
      { xattr: true },
    ),
  ].sort((a, b) => (a.path < b.path ? -1 : 1));
  const about = { lowerdirs: [`/x${script}`], upperdir: `/up"'${script}` };
  const { page, file, verify } = await open(t, browser, changes, { about });
  assert.equal(await page.locator('img, svg[onload], #app script').count(), 0);
  await page.keyboard.press('t');
  for (let i = 0; i < 30; i++) {
    await page.keyboard.press('ArrowDown');
    await page.waitForTimeout(70);
  }
  const shown = await names(page);
  assert.ok(shown.includes('<img src=x onerror="window.hacked=1">'), shown.join('\n'));
  assert.ok(shown.includes('a\\u{202e}gpj.exe'), 'directions are not turned');
  assert.ok(shown.includes('new\\nline\\ttab\\x1b[31m'));
  assert.ok(shown.includes('bytes\\xff\\xfe'));
  assert.ok(shown.includes('__proto__'));
  await event(page, 'beforeprint');
  assert.equal(await page.evaluate('"hacked" in globalThis'), false);
  const source = readFileSync(file, 'utf8');
  assert.equal(source.match(/<script/g)?.length, source.match(/<\/script/g)?.length);
  assert.doesNotMatch(source, /[\u2028\u2029\u202e]/);
  // What gets in all the same may neither run nor ask.
  const refused = await page.evaluate(INTRUDE);
  assert.equal(refused, 'refused');
  assert.equal(await page.evaluate('"hacked" in globalThis'), false);
  assert.throws(verify, /Content Security Policy/, 'and the browser says why');
});

test('100,000 changes: few elements, and quick', { skip }, async (t) => {
  const changes: Change[] = [];
  for (let d = 0; d < 100; d++) {
    const dir = `usr/share/${String(d).padStart(3, '0')}`;
    changes.push(added(dir, folder()));
    for (let f = 0; f < 999; f++) {
      const after = makeNode(S.IFREG | 0o644, { size: 100 + ((f * 7919) % 50_000) });
      changes.push(added(`${dir}/file-${String(f).padStart(3, '0')}.so`, after));
    }
  }
  const started = performance.now();
  const { page, file, verify } = await open(t, browser, changes);
  await page.locator('.row').first().waitFor();
  const loaded = performance.now() - started;
  assert.ok(statSync(file).size < 20 * 1024 * 1024, 'the page stays below 20 MiB');
  const took = await page.evaluate<{ expand: number; scroll: number }>(WALK);
  const last = page.locator('.row', { hasText: 'file-998.so' });
  await last.last().waitFor();
  assert.ok((await page.locator('.row').count()) < 120, 'only what is seen is there');
  assert.ok((await page.locator('.cell').count()) <= 2000);
  const strata = page.locator('.cell.frame[style*="linear-gradient"]');
  assert.ok((await strata.count()) >= 100, 'a directory of tiny files shows what became of them');
  const typed = performance.now();
  await page.fill('#search', '077/file-123');
  await page.locator('.count', { hasText: '1 of 100,000' }).waitFor();
  const filtered = performance.now() - typed;
  t.diagnostic(
    `open ${Math.round(loaded)} ms, expand all ${Math.round(took.expand)} ms, scroll ${Math.round(took.scroll)} ms, filter ${Math.round(filtered)} ms`,
  );
  assert.ok(took.expand < 3000 && took.scroll < 500 && filtered < 3000, JSON.stringify(took));
  verify();
});

test('360 pixels: nothing is cut off sideways, one panel at a time', { skip }, async (t) => {
  const { page, verify } = await open(t, browser, SAMPLE, {
    context: { viewport: { width: 360, height: 640 }, colorScheme: 'dark' },
  });
  const isNarrow = (): Promise<boolean> =>
    page.evaluate('document.documentElement.scrollWidth <= innerWidth');
  assert.ok(await isNarrow());
  assert.equal(await page.locator('.detail-panel').isVisible(), false);
  await page.locator('.row', { hasText: 'app.conf' }).click();
  assert.ok(await page.locator('.diff').isVisible());
  assert.ok(await isNarrow());
  await page.keyboard.press('s');
  assert.ok(await isNarrow());
  await page.click('[data-panel=map]');
  assert.ok(await page.locator('.cell').first().isVisible());
  await page.click('[data-panel=tree]');
  assert.ok(await page.locator('.row').first().isVisible());
  assert.equal(
    await page.evaluate('getComputedStyle(document.documentElement).backgroundColor'),
    'rgb(22, 21, 18)',
  );
  verify();
});

test('nothing moves while the page loads', { skip }, async (t) => {
  const { page, verify } = await open(t, browser, SAMPLE, { hash: '#/etc/app.conf' });
  const shift = await page.evaluate(SHIFTS);
  assert.equal(shift, 0);
  verify();
});

test('on paper: all changes as a list, and the lines that are shown', { skip }, async (t) => {
  const { page, verify } = await open(t, browser, SAMPLE, { hash: '#/etc/app.conf' });
  await event(page, 'beforeprint');
  await page.emulateMedia({ media: 'print' });
  assert.equal(await page.locator('.on-paper tbody tr').count(), 9);
  assert.ok(await page.locator('.diff').isVisible());
  assert.equal(await page.locator('.tree-panel').isVisible(), false);
  await event(page, 'afterprint');
  assert.equal(await page.locator('.on-paper').count(), 0);
  assert.ok((await page.pdf()).length > 5000);
  verify();
});

test('without scripts: the summary and a plain list', { skip }, async (t) => {
  const { page, verify } = await open(t, browser, SAMPLE, {
    context: { javaScriptEnabled: false },
  });
  const text = await textOf(page.locator('.plain'));
  assert.ok(text.includes('M  etc/app.conf\n'), text);
  assert.ok(text.includes('R  usr/old → opt/moved'), text);
  assert.doesNotMatch(text, /var\/same/);
  assert.match(await textOf(page.locator('.facts')), /^9 changes/);
  assert.equal(await page.locator('#app').isVisible(), false);
  verify();
});

test('lines: side by side, long files in portions, what was left out is said', {
  skip,
}, async (t) => {
  const many = Array.from({ length: 3000 }, (_, i) => `${i} ${'x'.repeat(20)}\n`).join('');
  const wide = `${'y'.repeat(10_000)}\n`;
  const changes = [
    added('long', textFile(many)),
    modified('mixed', textFile('a\nb\nc\n'), textFile('a\nB\nB2\nc')),
    added('wide', textFile(wide)),
    added('zlast', textFile('x\n'.repeat(9000))),
  ];
  const { page, verify } = await open(t, browser, changes, {
    hash: '#/mixed',
    limits: { total: 60_000, each: 40_000 },
  });
  await page.click('[data-name=split]');
  assert.deepEqual(
    await page
      .locator('.pair')
      .evaluateAll((pairs) =>
        pairs.map((pair) =>
          [...pair.children].map((side) => side.querySelector('.text')?.textContent ?? ''),
        ),
      ),
    [
      ['a', 'a'],
      ['b', 'B'],
      ['c', 'B2'],
      ['', 'c'],
      ['', 'No newline at end of file'],
    ],
  );
  await page.click('[data-name=split]');
  await goTo(page, '#/long');
  await page.locator('.more', { hasText: 'more lines' }).click();
  assert.match(await textOf(page.locator('.note')), /further lines left out: this file is large/);
  await goTo(page, '#/wide');
  await page.locator('.added .text', { hasText: '… (6001 more)' }).waitFor();
  await goTo(page, '#/zlast');
  await page.locator('.note', { hasText: 'no room' }).waitFor();
  verify();
});
