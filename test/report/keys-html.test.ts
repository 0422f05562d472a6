// The tab of keys on the HTML page in headless Chromium: tabs, tree, filters, values, noise, links, keyboard, hostile data, print.
// Every page is watched as in html.test.ts.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { type KeyChange, keysDocument } from '../../src/report/keys.js';
import type { KeysPart } from '../../src/report/page-data.js';
import { requires } from '../support/requires.js';
import { launch, open } from './browser.js';
import { binary, dword, KEYS, text } from './key-samples.js';
import { added, textFile } from './samples.js';

const skip = requires({ packages: ['chromium'] });
let browser: Browser;

before(async () => {
  if (skip === false) browser = await launch();
});
after(async () => {
  await browser?.close();
});

const part = (keys: readonly KeyChange[] = KEYS, alone = false): KeysPart => ({
  title: 'Registry',
  document: keysDocument(keys, true),
  alone,
});

const FILES = [added('a', textFile('a\n')), added('b', textFile('b\n'))];
const HASH = '#registry/';

const panel = (page: Page) => page.locator('#panel-registry');
const names = (page: Page): Promise<string[]> => panel(page).locator('.tree .name').allInnerTexts();
const headings = (page: Page): Promise<string[]> => panel(page).locator('h3.key').allInnerTexts();
const count = async (page: Page): Promise<string> =>
  (await panel(page).locator('.count').textContent()) ?? '';
const focusedRow = (page: Page): Promise<string | undefined> =>
  page.evaluate('document.activeElement?.querySelector(".name")?.textContent');

test('two tabs: by mouse, keyboard and link; each has its own chips and keys', {
  skip,
}, async (t) => {
  const { page, verify } = await open(t, browser, FILES, { keys: part() });
  assert.deepEqual(await page.locator('[role=tab]').allInnerTexts(), ['Files 2', 'Registry 14']);
  assert.equal(await page.locator('#chips').isVisible(), true);
  assert.equal(await page.locator('#chips-registry').isVisible(), false);
  await page.locator('#tab-files').focus();
  await page.keyboard.press('ArrowRight');
  assert.equal(await page.locator('#tab-registry').getAttribute('aria-selected'), 'true');
  assert.equal(await page.locator('#chips').isVisible(), false);
  assert.equal(await panel(page).isVisible(), true);
  assert.ok(page.url().endsWith('#registry/'));
  await page.keyboard.press('?');
  const help = await page.locator('dialog[open] dd').allInnerTexts();
  assert.ok(help.includes('Filter the paths · Filter keys, names and data'), help.join('\n'));
  await page.keyboard.press('Escape');
  await page.keyboard.press('/');
  assert.equal(await page.evaluate('document.activeElement.id'), 'search-registry');
  await page.keyboard.press('Escape');
  await page.click('#tab-files');
  assert.ok(page.url().endsWith('#/'));
  assert.deepEqual(await page.locator('#panel-files .tree .name').allInnerTexts(), ['a', 'b']);
  await page.evaluate(
    "void (location.hash = '#registry/HKEY_CURRENT_USER/Software/Acme/Editor%2F2')",
  );
  await panel(page).locator('.detail .last', { hasText: 'Editor/2' }).waitFor();
  assert.equal(await page.locator('#tab-registry').getAttribute('aria-selected'), 'true');
  verify();
});

test('the tree of keys by keyboard; values with both sides', { skip }, async (t) => {
  const { page, verify } = await open(t, browser, [], { keys: part(KEYS, true) });
  assert.equal(await page.locator('[role=tab]').count(), 0, 'one tab needs no row');
  assert.deepEqual(await names(page), [
    'HKEY_CURRENT_USER',
    'Control Panel\\Desktop',
    'Software\\Acme',
    'Editor/2',
    'HKEY_LOCAL_MACHINE\\Software',
    'Classes\\.txt',
    'Microsoft\\Old',
    'Below',
  ]);
  assert.deepEqual(
    await headings(page),
    [
      'HKEY_CURRENT_USER\\Control Panel\\Desktop',
      'HKEY_CURRENT_USER\\Software\\Acme',
      'HKEY_CURRENT_USER\\Software\\Acme\\Editor/2',
      'HKEY_LOCAL_MACHINE\\Software\\Classes\\.txt',
      'HKEY_LOCAL_MACHINE\\Software\\Microsoft\\Old',
      'HKEY_LOCAL_MACHINE\\Software\\Microsoft\\Old\\Below',
    ].map(
      (path) =>
        `${path.includes('Desktop') ? 'M' : path.includes('Acme') ? 'A' : path.includes('.txt') ? 'M' : 'D'}\n${path}`,
    ),
  );
  await page.keyboard.press('t');
  assert.equal(await focusedRow(page), 'HKEY_CURRENT_USER');
  await page.keyboard.press('j');
  assert.ok(page.url().endsWith('#registry/HKEY_CURRENT_USER/Control%20Panel/Desktop'));
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  await page.locator('.detail .last', { hasText: 'Editor/2' }).waitFor();
  assert.deepEqual(await page.locator('.values tbody tr').allInnerTexts(), [
    'A\t(Default)\tREG_SZ\t\nThe editor',
    'A\tCount\tREG_DWORD\t\n0x00001267 (4711)',
    'A\tKeys\tREG_BINARY\t\n00 01 02 03 04 05 06 07  ........\n08 09 0a 0b 0c 0d 0e 0f  ........\n10 41 1f                 .A.',
    'A\tRecent\tREG_MULTI_SZ\t\none\ntwo',
  ]);
  const row = page.locator('[role=treeitem][aria-selected=true]');
  assert.match(
    (await row.getAttribute('aria-label')) ?? '',
    /^Editor\/2, new key, 5 changes: 5 added$/,
  );
  await page.keyboard.press('t');
  await page.keyboard.press('ArrowLeft');
  assert.equal(await focusedRow(page), 'Software\\Acme');
  await page.keyboard.press('c');
  assert.deepEqual(await names(page), ['HKEY_CURRENT_USER', 'HKEY_LOCAL_MACHINE\\Software']);
  await page.keyboard.press('e');
  assert.equal((await names(page)).length, 8);
  await page.locator('.row', { hasText: '.txt' }).click();
  await page.locator('.detail .last', { hasText: '.txt' }).waitFor();
  assert.deepEqual(await page.locator('.data .was, .data .is').allInnerTexts(), [
    '#class="old"',
    '#class="new"',
    'txtfile',
    '0x00000001 (1)',
    'text',
  ]);
  await page.locator('.row', { hasText: 'Desktop' }).click();
  await page.locator('.detail .last', { hasText: 'Desktop' }).waitFor();
  assert.deepEqual(await page.locator('.data mark').allInnerTexts(), ['old', 'new']);
  verify();
});

test('filters: statuses, noise, type, names and data', { skip }, async (t) => {
  const { page, verify } = await open(t, browser, [], { keys: part(KEYS, true) });
  assert.equal(await count(page), '14 changes');
  await page.keyboard.press('n');
  assert.equal(await count(page), '16 changes');
  assert.ok((await names(page)).includes('Wine\\Fonts'));
  assert.deepEqual(await panel(page).locator('.value-name .tag').allInnerTexts(), ['fonts']);
  await page.keyboard.press('n');
  await page.click('#chips-registry .chip[data-status="A"]');
  assert.equal(await count(page), '8 of 14 changes');
  await panel(page).locator('.result .toggle').click();
  await page.keyboard.press('/');
  await page.keyboard.type('OLD bmp');
  await panel(page).locator('.count', { hasText: '1 of 14' }).waitFor();
  assert.deepEqual(await names(page), ['HKEY_CURRENT_USER\\Control Panel\\Desktop']);
  await panel(page).locator('.regexp').click();
  await page.fill('#search-registry', '(');
  await page.locator('#search-registry[aria-invalid=true]').waitFor();
  await page.fill('#search-registry', '\\(Default\\)');
  await panel(page).locator('.count', { hasText: '2 of 14' }).waitFor();
  await panel(page).locator('.result .toggle').click();
  await page.getByLabel('Type of value').selectOption('REG_MULTI_SZ');
  assert.equal(await count(page), '1 of 14 changes');
  // A link to what is noise, or filtered, shows it.
  await page.evaluate("void (location.hash = '#registry/HKEY_CURRENT_USER/Software/Wine/Fonts')");
  await page.locator('.detail .last', { hasText: 'Fonts' }).waitFor();
  assert.equal(await count(page), '16 changes');
  verify();
});

test('hostile names and data are shown, never interpreted', { skip }, async (t) => {
  const script = '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=1">';
  const keys: KeyChange[] = [
    {
      path: `HKEY_CURRENT_USER\\${script.replaceAll('\\', '')}`,
      status: 'A',
      values: [
        { name: script, status: 'A', after: text(`${script}\u202e\u2028\x00`) },
        { name: '__proto__', status: 'A', after: text('javascript:window.hacked=1') },
        { name: '', status: 'A', noise: script, after: binary('3c7363726970743e') },
      ],
    },
    { path: 'HKEY_CURRENT_USER\\__proto__\\constructor', status: 'A', values: [] },
  ];
  const { page, verify } = await open(t, browser, [], { keys: part(keys, true), hash: HASH });
  await page.keyboard.press('n');
  await page.locator('.values .tag').waitFor();
  assert.equal(await page.locator('#app img, #app script').count(), 0);
  assert.ok((await names(page)).includes('__proto__\\constructor'));
  assert.match(
    (await page.locator('.data .is').allInnerTexts()).join('\n'),
    /\\u\{202e\}\\u\{2028\}\\x00/,
  );
  assert.equal(await page.evaluate('"hacked" in globalThis'), false);
  verify();
});

test('a whole registry: few elements, and quick', { skip }, async (t) => {
  const keys: KeyChange[] = Array.from({ length: 9000 }, (_, i) => ({
    path: `HKEY_LOCAL_MACHINE\\Software\\Classes\\${String(i).padStart(4, '0')}`,
    status: 'A',
    values: [
      { name: '', status: 'A', after: text(`class ${i}`) },
      { name: 'n', status: 'A', after: dword(i) },
    ],
  }));
  const { page, verify } = await open(t, browser, [], { keys: part(keys, true) });
  const started = performance.now();
  await page.keyboard.press('e');
  await page.locator('.row .name', { hasText: /^0003$/ }).waitFor();
  const expanded = performance.now() - started;
  assert.ok((await page.locator('.row').count()) < 120, 'only what is seen is there');
  assert.ok((await page.locator('.key-section').count()) < 500);
  await page.locator('.more', { hasText: 'further keys' }).click();
  await page.fill('#search-registry', 'class 8765');
  await page.locator('.count', { hasText: '3 of 27,000' }).waitFor();
  t.diagnostic(`expand all ${Math.round(expanded)} ms`);
  assert.ok(expanded < 3000);
  verify();
});

test('360 pixels, paper, and without scripts', { skip }, async (t) => {
  const narrow = { viewport: { width: 360, height: 640 }, colorScheme: 'dark' as const };
  const { page, verify } = await open(t, browser, FILES, {
    keys: part(),
    hash: HASH,
    context: narrow,
  });
  const isNarrow = (): Promise<boolean> =>
    page.evaluate('document.documentElement.scrollWidth <= innerWidth');
  assert.ok(await isNarrow());
  assert.equal(await panel(page).locator('.detail-panel').isVisible(), false);
  await panel(page).locator('.row', { hasText: 'Editor' }).click();
  assert.ok(await panel(page).locator('.values').isVisible());
  assert.ok(await isNarrow());
  await page.evaluate("void dispatchEvent(new Event('beforeprint'))");
  await page.emulateMedia({ media: 'print' });
  assert.equal(await page.locator('.on-paper tbody tr').count(), 14, 'keys and values, no noise');
  assert.equal(await page.locator('.on-paper tr', { hasText: 'Count' }).isVisible(), true);
  assert.equal(await page.locator('#panel-files').isVisible(), false);
  verify();
  const plain = await open(t, browser, FILES, {
    keys: part(),
    context: { javaScriptEnabled: false },
  });
  const list = (await plain.page.locator('.plain').textContent()) ?? '';
  assert.match(list, /A {2}a\n/);
  assert.match(
    list,
    /M {2}HKEY_CURRENT_USER\\Control Panel\\Desktop\\Wallpaper = "C:\\windows\\old.bmp" → "C/,
  );
  assert.equal(await plain.page.locator('.tabs').isVisible(), false);
  plain.verify();
});
