// What the podman tests share: its configuration; with varve as mount_program also a small image, the session and its results.
// The same session runs as root and as a plain user. Settings follow containers.conf(5), containers-storage.conf(5).

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Debian packages of both. */
export const podmanPackages = ['busybox-static', 'podman', 'runc', 'uidmap'];

/**
 * Where the session finds its folder: paths of sockets below it stay short enough for podman and conmon, which wait in
 * vain for a container's end where they are not.
 */
export const place = '/mnt';

/** In the session's mount namespace, before it begins. */
export const enterPlace = `mount --bind "$FOLDER" ${place}`;

/**
 * Writes containers.conf and storage.conf into `folder`, which exists and is at `place` for podman; its runtime folder, too.
 *
 * @param options the lines of storage.conf behind its table [storage]
 * @returns the environment that leads podman there
 */
export function configurePodman(folder: string, options: string): Record<string, string> {
  writeFileSync(
    join(folder, 'containers.conf'),
    `[containers]
netns = "none"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "${place}/tmp"
`,
  );
  writeFileSync(
    join(folder, 'storage.conf'),
    `[storage]
driver = "overlay"
graphroot = "${place}/store"
runroot = "${place}/run"
rootless_storage_path = "${place}/store"
${options}
`,
  );
  mkdirSync(join(folder, 'runtime'), { mode: 0o700 });
  return {
    CONTAINERS_CONF: `${place}/containers.conf`,
    CONTAINERS_STORAGE_CONF: `${place}/storage.conf`,
  };
}

/**
 * Writes configuration and a build context into `folder`, which exists.
 *
 * @returns the environment that the session needs
 */
export function preparePodman(folder: string, mountProgram: string): Record<string, string> {
  mkdirSync(join(folder, 'context'));
  writeFileSync(join(folder, 'context/hello'), 'hello\n');
  writeFileSync(
    join(folder, 'context/Containerfile'),
    `FROM base
COPY hello /srv/hello
RUN rm -r /data/gone && rm -r /data/again && mkdir /data/again && touch /data/again/fresh
RUN test ! -e /data/gone && ls /data/again && mkdir /deep && for i in 1 2 3; do echo $i >/deep/$i; done
RUN rm -r /deep && mv /data/old /data/new && chown 5:6 /srv/hello && chmod 4755 /data/keep
CMD ["cat", "/srv/hello"]
`,
  );
  const options = `[storage.options.overlay]\nmount_program = "${mountProgram}"`;
  return { ...configurePodman(folder, options), FOLDER: folder };
}

/** The same content for everybody: an image of busybox and some files. Run where podman runs. */
const makeImage = `
  mkdir -p image/{bin,etc,tmp,proc,sys,dev,srv,data/{gone,again,old/sub}}; chmod 1777 image/tmp
  cp /bin/busybox image/bin/; for name in $(/bin/busybox --list | grep -v '^busybox$'); do
    ln -s busybox image/bin/$name; done
  echo 'root:x:0:0:root:/:/bin/sh' >image/etc/passwd
  for name in gone/file again/file old/sub/file keep other; do echo $name >image/data/$name; done
  tar -C image -c --owner=0 --group=0 . | podman import -q - base >/dev/null
`;

/** Each part prints under its own heading; what differs from run to run is left out. */
export const session = `
  cd ${place}; export XDG_RUNTIME_DIR=$PWD/runtime VARVE_RUNTIME_DIR=$PWD/runtime
  heading() { echo "== $1"; echo "$SECONDS s: $1" >&2; }
  # A listing without times; podman's own files left out.
  list='cd /data && find . ! -name . | sort | xargs stat -c "%n %A %u:%g %s" | sed "/^[^ ]* d/s/ [0-9]*$//"'
  ${makeImage}
  heading program
  podman info --format '{{index .Store.GraphOptions "overlay.mount_program"}}' | grep -o 'fuse-overlayfs: version [0-9.]*'

  heading run
  podman run --name first base sh -c '
    awk "\\$2 == \\"/\\" { print \\$3 }" /proc/mounts
    echo new >/data/fresh; rm -r /data/gone; rm -r /data/again; mkdir /data/again; echo 2 >/data/again/other
    chmod 600 /data/keep; ln /data/keep /data/hard; ln -s keep /data/link; mv /data/old /data/moved
    echo more >>/data/moved/sub/file; touch /tmp/passing; rm /tmp/passing; chown 7:8 /data/other; id -u'
  heading diff
  podman diff first | grep /data | sort
  heading commit
  podman commit -q first second >/dev/null
  podman run --rm second sh -c "$list; cat /data/moved/sub/file; stat -c %h /data/keep"
  heading build
  podman build -q -t built context >/dev/null
  podman run --rm built
  podman run --rm built sh -c "$list; ls -ln /srv | awk 'NR > 1 { print \\$1, \\$2, \\$3, \\$4, \\$5, \\$9 }'; echo \\$(ls /)"
  heading save
  podman save -q built -o built.tar >/dev/null 2>&1; rm -rf saved; mkdir saved; tar -xf built.tar -C saved
  for layer in $(sed 's/.*"Layers":\\[//; s/\\].*//; s/[",]/ /g' saved/manifest.json); do
    tar -tf saved/$layer | grep -E '^(\\./)?(data|deep|srv|\\.wh)' | sed 's,^\\./,,' | grep -v '/$' | sort; echo --
  done
  heading exec
  podman run -d --name third --user 33:34 second sh -c 'trap "exit 0" TERM; while :; do sleep 0.1; done' >/dev/null
  podman exec third sh -c 'id -u; id -g; echo mine >/tmp/mine; ! echo x 2>/dev/null >/data/other'
  echo copied >copied; podman cp copied third:/data/copied; podman exec --user 0 third cat /data/copied /tmp/mine
  podman diff third | grep -E ' /(data|tmp)' | sort
  podman stop -t 10 third >/dev/null; podman start third >/dev/null; podman exec third cat /data/copied
  heading clean
  podman rm -f -t 1 first third >/dev/null; podman rmi -af >/dev/null; ls store/overlay
  awk 'index($2, "${place}/store") == 1' /proc/self/mounts
`;

/** @param said what the session printed */
export function checkSession(said: string): void {
  const parts = new Map<string, string>();
  for (const part of said.split(/^== /m).slice(1)) {
    const [name, ...lines] = part.split('\n');
    parts.set(name as string, lines.join('\n').trim());
  }
  for (const [name, wanted] of Object.entries(expected)) {
    assert.equal(parts.get(name), wanted.trim(), `podman ${name}`);
  }
}

const expected: Record<string, string> = {
  program: 'fuse-overlayfs: version 1.10',
  run: 'fuse.varve\n0',
  diff: `
A /data/again/other
A /data/fresh
A /data/hard
A /data/link
A /data/moved
A /data/moved/sub
A /data/moved/sub/file
C /data
C /data/again
C /data/keep
C /data/other
D /data/again/file
D /data/gone
D /data/old`,
  commit: `
./again drwxr-xr-x 0:0
./again/other -rw-r--r-- 0:0 2
./fresh -rw-r--r-- 0:0 4
./hard -rw------- 0:0 5
./keep -rw------- 0:0 5
./link lrwxrwxrwx 0:0 4
./moved drwxr-xr-x 0:0
./moved/sub drwxr-xr-x 0:0
./moved/sub/file -rw-r--r-- 0:0 18
./other -rw-r--r-- 7:8 6
old/sub/file
more
2`,
  build: `
hello
./again drwxr-xr-x 0:0
./again/fresh -rw-r--r-- 0:0 0
./keep -rwsr-xr-x 0:0 5
./new drwxr-xr-x 0:0
./new/sub drwxr-xr-x 0:0
./new/sub/file -rw-r--r-- 0:0 13
./other -rw-r--r-- 0:0 6
-rw-r--r-- 1 5 6 6 hello
bin data dev etc proc run srv sys tmp`,
  save: `
data/again/file
data/gone/file
data/keep
data/old/sub/file
data/other
--
srv/hello
--
data/.wh.gone
data/again/.wh.file
data/again/fresh
--
deep/1
deep/2
deep/3
--
.wh.deep
data/.wh.old
data/keep
data/new/sub/file
srv/hello
--`,
  exec: `
33
34
copied
mine
A /data/copied
A /tmp/mine
C /data
C /tmp
copied`,
  clean: 'l',
};
