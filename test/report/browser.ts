// Headless Chromium on a page of a diff: opened from a file, watched for errors and requests.
// Used by html.test.ts and keys-html.test.ts; one browser for all tests of a file.
// Chromium's own sandbox needs what root has not, so it is off: the pages are the test's own.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { documentOf, type StackNames } from '../../src/report/document.js';
import { pageOf } from '../../src/report/html.js';
import type { KeysPart } from '../../src/report/page-data.js';
import { type TextLimits, textsOf } from '../../src/report/page-texts.js';
import type { Change } from '../../src/union/change.js';
import { tempDir } from '../support/temp.js';

export async function launch(): Promise<Browser> {
  return await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  });
}

export const ABOUT: StackNames = { lowerdirs: ['/srv/base'], upperdir: '/srv/upper' };

export interface Opened {
  readonly page: Page;
  readonly file: string;
  /** Fails when the page has logged an error, thrown one, or asked for anything but itself. */
  verify(): void;
}

export interface OpenOptions {
  readonly about?: StackNames;
  readonly hash?: string;
  readonly context?: BrowserContextOptions;
  readonly limits?: TextLimits;
  readonly keys?: KeysPart;
}

/** The page of some changes; it is closed when the test ends. */
export async function open(
  t: TestContext,
  browser: Browser,
  changes: readonly Change[],
  options: OpenOptions = {},
): Promise<Opened> {
  const file = join(tempDir(t), 'diff.html');
  const pieces = pageOf(
    documentOf(changes, options.about ?? ABOUT),
    textsOf(changes, options.limits),
    options.keys,
  );
  writeFileSync(file, [...pieces].join(''));
  const context = await browser.newContext({
    viewport: { width: 1280, height: 800 },
    ...options.context,
  });
  t.after(() => context.close());
  const problems: string[] = [];
  context.on('request', (request) => {
    const url = request.url();
    if (url !== pathToFileURL(file).href && !url.startsWith('data:')) problems.push(`asks ${url}`);
  });
  const page = await context.newPage();
  // Generous: a machine under load is slow, and what never comes is a failure in any case.
  page.setDefaultTimeout(60_000);
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') problems.push(message.text());
  });
  page.on('pageerror', (error) => void problems.push(String(error)));
  await page.goto(pathToFileURL(file).href + (options.hash ?? ''));
  return { page, file, verify: () => assert.deepEqual(problems, []) };
}
