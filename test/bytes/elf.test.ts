// What programs of this machine name, and what becomes of damaged ones.
// Under test: src/bytes/elf.ts; the oracle is readelf(1), as libraries of programs are tested in boot/.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { machineOf, readNeeds } from '../../src/bytes/elf.js';
import { MemorySource } from '../../src/bytes/source.js';
import { requires } from '../support/requires.js';

const PROGRAMS = ['/bin/ls', '/bin/bash', process.execPath];

const needsOf = (bytes: Uint8Array) => readNeeds(new MemorySource(bytes));

test('interpreter and libraries are those that readelf shows', {
  skip: requires({ packages: ['binutils'] }),
}, () => {
  for (const path of PROGRAMS) {
    const shown = spawnSync('readelf', ['-W', '-l', '-d', path], { encoding: 'utf8' }).stdout;
    const needs = needsOf(readFileSync(path));
    const libraries = [...shown.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(([, name]) => name);
    assert.deepEqual(needs?.libraries, libraries, path);
    const interpreter = /program interpreter: (.*)\]/.exec(shown)?.[1];
    assert.equal(needs?.interpreter, interpreter, path);
  }
});

test('what is no program has no needs, whatever its length', () => {
  for (const text of ['', '#!/bin/sh\n', 'MZ'.padEnd(200), '\x7fELF'.padEnd(100, '\x01')]) {
    assert.equal(needsOf(Buffer.from(text, 'latin1')), undefined);
    assert.equal(machineOf(new MemorySource(Buffer.from(text, 'latin1'))), undefined);
  }
});

test('a damaged program is a RangeError or names something, and never takes long', () => {
  const whole = readFileSync('/bin/ls');
  const damage = fc.array(fc.tuple(fc.nat(1023), fc.nat(255)), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(damage, fc.integer({ min: 0, max: whole.length }), (changes, length) => {
      const bytes = Buffer.from(whole.subarray(0, length));
      for (const [at, value] of changes) if (at > 5 && at < length) bytes[at] = value;
      try {
        for (const name of needsOf(bytes)?.libraries ?? []) assert.ok(name.length <= 4096 + 64);
      } catch (error) {
        assert.ok(error instanceof RangeError, String(error));
      }
    }),
    { numRuns: 400 },
  );
});
