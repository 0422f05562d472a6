// SQLite on a mount: a database that lies in the lower layer is changed, journalled in each way, and vacuumed.
// The same statements run on a plain copy; the databases must stay sound and equal byte for byte, the lower untouched.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { shell } from './shell.js';

const skip = requires({ root: true, features: ['fuse'], packages: ['sqlite3'] });

const varve = `${process.execPath} ${fileURLToPath(new URL('../../bundle/programs/main.js', import.meta.url))}`;

/** About 30 MB: larger than what is copied up in the foreground. */
const rows = 60_000;

const make = `
  CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, body BLOB);
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows})
    INSERT INTO item SELECT i, 'name ' || (i * 7919 % ${rows}), zeroblob(i % 900) FROM n;
  CREATE INDEX by_name ON item (name);
`;

const change = `
  BEGIN; UPDATE item SET body = CAST(name AS BLOB) || body WHERE id % 5 = 0; DELETE FROM item WHERE id % 11 = 0; COMMIT;
  BEGIN; INSERT INTO item (name) SELECT name || ' again' FROM item WHERE id % 3 = 0; ROLLBACK;
  BEGIN; INSERT INTO item (name, body) SELECT name || ' again', zeroblob(500) FROM item WHERE id % 13 = 0; COMMIT;
  PRAGMA wal_checkpoint(TRUNCATE);
`;

for (const journal of ['delete', 'truncate', 'wal']) {
  test(`a database of the lower layer is changed with journal_mode=${journal}`, { skip }, (t) => {
    const folder = tempDir(t);
    for (const name of ['lower', 'plain', 'upper', 'work', 'mnt']) mkdirSync(join(folder, name));
    shell('sqlite3 lower/data.db', { cwd: folder, input: make });
    shell(
      `cp lower/data.db plain/; sha256sum lower/data.db >before
       ${varve} mount -q --backend=fuse -o lowerdir=lower,upperdir=upper,workdir=work mnt`,
      { cwd: folder },
    );
    const results = ['mnt', 'plain'].map((name) => {
      const cwd = join(folder, name);
      // A reader of the unchanged database goes on while it is copied up and changed: it sees the change.
      const said = shell(
        `coproc reader { sqlite3 data.db; }; to=\${reader[1]}; from=\${reader[0]}
         ask() { echo "$1" >&$to; read -r -t 60 answer <&$from; echo "$answer"; }
         ask 'SELECT count(*), sum(length(body)) FROM item;'
         printf '%s' "$SETUP" "$CHANGE" | sqlite3 -bail data.db
         ask 'SELECT count(*), sum(length(body)) FROM item;'
         echo .quit >&$to; wait $reader_PID || true
         printf 'PRAGMA integrity_check; VACUUM; PRAGMA mmap_size=1000000000; REINDEX; PRAGMA integrity_check;
           SELECT count(*), sum(length(body)), sum(id) FROM item;' | sqlite3 -bail data.db
         ls`,
        { cwd, env: { SETUP: `PRAGMA journal_mode=${journal};\n`, CHANGE: change } },
      );
      const sums = shell('sha256sum data.db', { cwd });
      return said + sums;
    });
    assert.equal(results[0], results[1]);
    assert.match(results[0] as string, /\nok\n\d+\nok\n/);
    shell(`${varve} umount -q mnt; cmp upper/data.db plain/data.db; sha256sum -c --quiet before`, {
      cwd: folder,
    });
  });
}
