// Scripts in a mount namespace of their own, and as a plain user who exists only for the test.
// A new namespace copies every mount that it finds and keeps it alive: those of tests that run beside this one are
// dropped in it first. See mount_namespaces(7), subuid(5).

import { mkdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { quote, type Setting, shell } from './shell.js';

/** First in a mount namespace of one's own, with the variable of `neighbours()`. */
export const dropNeighbours = `
  awk -v below="$NEIGHBOURS" '$3 ~ /^(fuse|overlay)/ && index($2, below) == 1 { print $2 }' /proc/self/mounts |
    xargs -r umount -l 2>/dev/null || true
`;

export const neighbours = (): { readonly NEIGHBOURS: string } => ({
  NEIGHBOURS: `${dirname(tmpdir())}/`,
});

/** Runs a script as `shell` does, in a mount namespace that ends with the last process of it. */
export function privately(script: string, setting: Setting = {}): string {
  return shell(
    `exec unshare --mount --propagation private bash -euo pipefail -c ${quote(`${dropNeighbours}${script}`)}`,
    { ...setting, env: { ...setting.env, ...neighbours() } },
  );
}

export interface PlainUser {
  name: string;
  /** For `setpriv`: the words before the command, which they run as this user at home. */
  run: string;
  home: string;
  remove(): void;
}

/** Makes a user with subordinate ids. `home` must not exist yet; the user's runtime folder lies in it. */
export function makeUser(home: string): PlainUser {
  const name = `varve-t${process.pid}`;
  shell(`useradd --create-home --skel /nonexistent --home-dir ${home} ${name}`);
  for (const kind of ['uid', 'gid']) {
    // useradd gives them where login.defs says so.
    if (readFileSync(`/etc/sub${kind}`, 'utf8').includes(`${name}:`)) continue;
    shell(`usermod --add-sub${kind}s 700000-765535 ${name}`);
  }
  const runtime = `${home}/run`;
  mkdirSync(runtime, { mode: 0o700 });
  shell(`chown ${name}: ${runtime}; chmod 755 ${home}`);
  const environment = `HOME=${home} USER=${name} XDG_RUNTIME_DIR=${runtime} VARVE_RUNTIME_DIR=${runtime} TMPDIR=/tmp`;
  return {
    name,
    home,
    run: `cd ${home}; env ${environment} setpriv --reuid ${name} --regid ${name} --init-groups`,
    remove: () => {
      // His supervisor ends some seconds after its last mount.
      shell(`userdel --force ${name}; ! grep -s "^${name}:" /etc/subuid /etc/subgid`);
    },
  };
}

/** For a script in a private namespace: /dev/fuse as udev makes it, open to everybody, whatever it is here. */
export const openFuseDevice = `
  node=$(mktemp -u "$TMPDIR/fuse.XXXXXX"); mknod -m 666 "$node" c 10 229
  mount --bind "$node" /dev/fuse; rm "$node"
`;
