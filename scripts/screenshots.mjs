// `npm run screenshots`: makes the pictures of docs/images again, from a sample stack and with Debian's chromium.
// Needs root, chromium, attr, and for the same letters as before fonts-inter and fonts-jetbrains-mono.
// Runs itself again in a mount namespace with a /srv of its own, so that no path of this machine is in a picture.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { makeSamplePrefixes } from './sample-prefix.mjs';
import { makeSampleStack } from './sample-stack.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const images = join(root, 'docs', 'images');
const INSIDE = 'VARVE_SCREENSHOTS_INSIDE';

/** @param {string} command @param {string[]} args @param {object} [options] */
const run = (command, args, options = {}) => {
  const result = spawnSync(command, args, { encoding: 'utf8', ...options });
  if (result.status === 0) return result.stdout;
  process.stderr.write(result.stderr ?? String(result.error));
  process.exit(1);
};

if (process.env[INSIDE] === undefined) {
  const env = { ...process.env, [INSIDE]: '1' };
  const args = ['--mount', process.execPath, fileURLToPath(import.meta.url)];
  process.exit(spawnSync('unshare', args, { stdio: 'inherit', env }).status ?? 1);
}

/** @param {...string} args */
const varve = (...args) => run(join(root, 'varve'), args);

/** The 16 colours of a terminal on a dark ground. @type {Record<string, string>} */
const COLOURS = {
  30: '#3b3a36',
  31: '#f27f76',
  32: '#55c78b',
  33: '#e3ae45',
  34: '#86aefc',
  35: '#b79bfa',
  36: '#5fc7d6',
  37: '#e9e5db',
};

/** Text with SGR sequences as HTML. @param {string} text */
const terminalHtml = (text) => {
  const spans = text.split(/(\x1b\[[\d;]*m)/).reduce(
    ({ html, style }, piece) => {
      const codes = /^\x1b\[([\d;]*)m$/.exec(piece)?.[1];
      if (codes === undefined) {
        const escaped = piece.replace(/[&<]/g, (char) => (char === '&' ? '&amp;' : '&lt;'));
        return { html: `${html}<span style="${style}">${escaped}</span>`, style };
      }
      let now = style;
      for (const code of codes.split(';')) {
        if (code === '' || code === '0') now = '';
        else if (code === '1') now += 'font-weight:700;';
        else if (code === '2') now += 'opacity:.62;';
        else if (COLOURS[code] !== undefined) now += `color:${COLOURS[code]};`;
      }
      return { html, style: now };
    },
    { html: '', style: '' },
  );
  return `<!doctype html><meta charset="utf-8"><style>
    body { margin: 0; padding: 24px; background: transparent; width: max-content }
    figure { margin: 0; border-radius: 10px; overflow: hidden; background: #1d1c18; color: #e9e5db;
      box-shadow: 0 2px 14px rgb(0 0 0 / 35%) }
    header { display: flex; gap: 7px; padding: 11px 14px; background: #2a2823 }
    header i { width: 11px; height: 11px; border-radius: 6px; background: #57534a }
    pre { margin: 0; padding: 12px 18px 18px; font: 13.5px/1.5 "JetBrains Mono", monospace;
      font-variant-ligatures: none }
    </style><figure><header><i></i><i></i><i></i></header><pre>${spans.html}</pre></figure>`;
};

const main = async () => {
  run('mount', ['-t', 'tmpfs', 'none', '/srv']);
  mkdirSync('/srv/shop');
  mkdirSync(images, { recursive: true });
  const { lower, upper } = makeSampleStack('/srv/shop');
  const scratch = mkdtempSync(join(tmpdir(), 'varve-screenshots-'));
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--force-color-profile=srgb', '--font-render-hinting=none'],
  });
  try {
    const html = join(scratch, 'diff.html');
    varve('diff', '--quiet', '--html', html, upper, lower);
    for (const [name, scheme] of /** @type {const} */ ([
      ['diff-html', 'light'],
      ['diff-html-dark', 'dark'],
    ])) {
      const page = await browser.newPage({
        viewport: { width: 1320, height: 860 },
        colorScheme: scheme,
        deviceScaleFactor: 1.5,
      });
      await page.goto(`file://${html}#/etc/nginx/nginx.conf`);
      await page.locator('.diff').waitFor();
      if (scheme === 'dark') await page.keyboard.press('s');
      // The map draws once more when it has its size.
      await page.waitForTimeout(300);
      await page.screenshot({ path: join(images, `${name}.png`) });
      await page.close();
    }
    makeSamplePrefixes('/srv/wine');
    const registry = join(scratch, 'registry.html');
    const prefixes = ['/srv/wine/default', '/srv/wine/office'];
    varve('wine', 'diff', '--quiet', '--html', registry, ...prefixes);
    for (const [name, scheme] of /** @type {const} */ ([
      ['wine-diff-html', 'light'],
      ['wine-diff-html-dark', 'dark'],
    ])) {
      const page = await browser.newPage({
        viewport: { width: 1320, height: 860 },
        colorScheme: scheme,
        deviceScaleFactor: 1.5,
      });
      await page.goto(`file://${registry}#registry/HKEY_LOCAL_MACHINE/Software`);
      await page.locator('.values').first().waitFor();
      await page.screenshot({ path: join(images, `${name}.png`) });
      await page.close();
    }
    const text = varve('diff', '--color', 'always', upper, lower);
    const page = await browser.newPage({
      viewport: { width: 1100, height: 600 },
      deviceScaleFactor: 1.5,
    });
    await page.setContent(terminalHtml(`$ varve diff ${upper} ${lower}\n${text.trimEnd()}`));
    const shot = { path: join(images, 'diff-terminal.png'), omitBackground: true };
    await page.locator('body').screenshot(shot);
  } finally {
    await browser.close();
    rmSync(scratch, { recursive: true, force: true });
  }
};

await main();
