// Which programs a command line names before it runs: those of `sh -c` too.
// Under test: programsOf() of src/cli/run-registry.ts. What is named wrongly costs bytes and nothing else.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { programsOf } from '../../src/cli/run-registry.js';

test('the program, and of a script the first word of each command', () => {
  const rows: [string[], string[]][] = [
    [['/usr/bin/env'], ['/usr/bin/env']],
    [['grep', '-c', 'python', 'file'], ['grep']],
    [['bash'], ['bash']],
    [['sh', 'script', 'apt-get'], ['sh']],
    [
      ['/bin/bash', '-c', 'apt-get --version'],
      ['/bin/bash', 'apt-get'],
    ],
    [
      ['/bin/sh', '-ec', "LANG=C A=b ls -l; cat x | sort -u && (exec nginx -g 'daemon off')"],
      ['/bin/sh', 'ls', 'cat', 'sort', 'nginx'],
    ],
    [
      ['dash', '-c', 'if true; then git status; else echo "$x"; fi\nls'],
      ['dash', 'if', 'git', 'echo', 'fi', 'ls'],
    ],
    [['sh', '-c', '"$0" a'], ['sh']],
    [['sh', '-c'], ['sh']],
    [
      ['ash', '-c', Array.from({ length: 99 }, (_, i) => `p${i}`).join(';')],
      ['ash', ...'01234567'].map((n) => (n === 'ash' ? n : `p${n}`)),
    ],
  ];
  for (const [words, programs] of rows)
    assert.deepEqual(programsOf(words), programs, words.join(' '));
});
