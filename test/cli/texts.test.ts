// Help, manual pages, completions and setup: made from one table, so they name the same things.
// Under test: src/cli/{help,man,completion,setup}.ts. The overview is compared with a golden text.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { COMMANDS } from '../../src/cli/commands.js';
import { completionScript, SHELLS } from '../../src/cli/completion.js';
import { manual, overview } from '../../src/cli/help.js';
import { manPages } from '../../src/cli/man.js';
import { OPTIONS } from '../../src/stack/option-table.js';
import { tempDir } from '../support/temp.js';
import { cliIn } from './cli.js';

const OVERVIEW = `varve - stack directories and images and mount the union

USAGE
  varve COMMAND [flags] [operands]

COMMANDS
  mount        stack layers and mount the union.
  run          run a command in an image.
  try          try a command over the system, then keep or drop it.
  pull         fetch an image from a registry.
  push         put a tree, an image or a stack into a registry.
  images       list what was pulled, remove it.
  record       remember what a lazy mount needs first.
  top          watch what is being loaded.
  evict        give back the space of content that can be fetched again.
  umount       unmount, when everything is safely stored.
  status       show the mounts, their layers, requests and memory.
  reload       replace the server of a mount, without unmounting.
  diff         tell what the upper of a stack has changed.
  why          tell which layer owns a path, and its life through the layers.
  commit       freeze the upper of a stack as a new layer.
  discard      take away what the upper of a stack has.
  detach       let go of a layer under a mount that is in use.
  check        list what of an upper no longer fits the layers below it.
  apply        merge an upper down into a directory.
  flatten      make one layer, image or archive of a stack.
  split        cut a tree into layers by rules.
  rebase       make an upper fit a new version of its layers.
  up           mount named stacks.
  down         unmount named stacks.
  stack        keep stacks under names in varve.yaml.
  image        build EROFS images, look into them, check and mount them.
  store        keep the content of many images once, by digest.
  wine         run Wine in prefixes made of layers.
  boot         boot from images: build, sign, install, look into them.
  layer-store  give podman the layers of images without pulling them.
  demo         show everything once, on layers made in a temporary folder.
  doctor       list what this machine offers and what varve does without it.
  setup        link varve into the system, or show how.
  completion   print the completion script of a shell.
  help         explain a command.
`;

test('the overview', () => {
  assert.equal(overview().slice(0, OVERVIEW.length), OVERVIEW);
});

test('no line of any manual is wider than a terminal', () => {
  for (const text of [overview(), ...COMMANDS.map(manual)]) {
    for (const line of text.split('\n')) {
      // A term that is longer than its column stands on a line of its own; examples are not broken.
      if (!/^ {2}(?:[A-Z_]+=\S+ )*varve /.test(line)) assert.ok(line.length <= 80, line);
    }
  }
});

test('every command, flag and option is in the manual, the pages and the completions', () => {
  const pages = manPages('1.2.3');
  for (const command of COMMANDS) {
    const text = manual(command);
    const page = pages.find((p) => p.file === `varve-${command.name.replaceAll(' ', '-')}.1`)?.text;
    for (const flag of command.flags) {
      assert.ok(text.includes(`--${flag.name}`), `${command.name} --${flag.name}`);
      assert.ok(
        page?.includes(`\\-\\-${flag.name.replaceAll('-', '\\-')}`),
        `page of ${command.name}: ${flag.name}`,
      );
    }
  }
  const mount = manual(COMMANDS[0] as (typeof COMMANDS)[number]);
  const mountPage = pages.find((p) => p.file === 'varve-mount.1')?.text ?? '';
  for (const option of OPTIONS) {
    assert.ok(mount.includes(option.name), option.name);
    assert.ok(mountPage.includes(option.name), option.name);
    if (option.group === 'ignored') continue;
    for (const shell of SHELLS)
      assert.ok(completionScript(shell).includes(option.name), `${shell}: ${option.name}`);
  }
});

test('manual pages are man(7): no stray control lines, no bare minus signs', () => {
  for (const { file, text } of manPages('1.2.3')) {
    assert.match(text, /^\.TH /, file);
    for (const line of text.split('\n')) {
      if (line.startsWith('.'))
        assert.match(line, /^\.(TH|SH|SS|PP|TP|B|BR|I|br)\b/, `${file}: ${line}`);
      assert.doesNotMatch(line.replace(/\\-/g, ''), /(^|\s)-\w/, `${file}: ${line}`);
    }
  }
});

test('the bash completion is a script that completes', (t) => {
  const folder = tempDir(t);
  mkdirSync(join(folder, 'layer'));
  writeFileSync(join(folder, 'script'), completionScript('bash'));
  const complete = (line: string): string[] => {
    const code = `
      cd ${folder}; source ./script
      COMP_LINE=$1; COMP_POINT=\${#1}
      COMP_WORDS=($1); [[ $1 == *' ' ]] && COMP_WORDS+=('')
      COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
      compopt() { :; }
      varve() { [[ $* == 'stack ls -q' ]] && printf '%s\\n' web api; }
      _varve; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const ran = spawnSync('bash', ['-c', code, 'bash', line], { encoding: 'utf8' });
    assert.equal(ran.stderr, '');
    return ran.stdout.trim().split('\n');
  };
  assert.deepEqual(complete('varve um'), ['umount']);
  assert.deepEqual(complete('varve image ex'), ['extract']);
  assert.deepEqual(complete('varve up we'), ['web']);
  assert.deepEqual(complete('varve stack rm a'), ['api']);
  assert.ok(complete('varve status ').includes('web'));
  assert.ok(complete('varve image build --frag').includes('--fragments'));
  assert.ok(complete('varve mount --b').includes('--backend'));
  assert.deepEqual(complete('varve mount -o lowerdi').sort(), ['lowerdir+=', 'lowerdir=']);
  assert.deepEqual(complete('varve mount -o ro,metac'), ['ro,metacopy=']);
  assert.deepEqual(complete('varve mount -o lowerdir=/x:la'), ['lowerdir=/x:layer']);
  assert.deepEqual(complete('varve mount -o ro,lowerdir=la'), ['ro,lowerdir=layer']);
  assert.deepEqual(complete('varve mount --backend ker'), ['kernel']);
  assert.deepEqual(complete('varve completion '), ['bash', 'zsh', 'fish']);
});

test('setup prints, installs, finds its own again, and removes; it never replaces what is foreign', (t) => {
  const folder = tempDir(t);
  const cli = cliIn(folder);
  const prefix = join(folder, 'prefix');
  const printed = cli.run('setup', '--print', '--prefix', prefix);
  assert.equal(printed.code, 0, printed.err);
  assert.match(printed.out, /^planned +.*\/bin\/varve -> /m);
  assert.equal(existsSync(prefix), false);

  const installed = cli.run('setup', '--prefix', prefix, '--fuse-overlayfs', '--json');
  assert.equal(installed.code, 0, installed.err);
  const items = JSON.parse(installed.out) as { path: string; link?: string; outcome: string }[];
  assert.ok(items.every((item) => item.outcome === 'installed'));
  assert.equal(
    readlinkSync(join(prefix, 'bin/fuse-overlayfs')),
    readlinkSync(join(prefix, 'bin/varve-overlayfs')),
  );
  for (const item of items) assert.ok(existsSync(item.path), item.path);
  assert.ok(readdirSync(join(prefix, 'share/man/man1')).includes('varve-mount.1'));
  assert.match(
    readFileSync(join(prefix, 'share/zsh/site-functions/_varve'), 'utf8'),
    /^#compdef varve\n/,
  );

  const again = cli.run('setup', '--prefix', prefix);
  assert.equal(again.code, 0);
  assert.doesNotMatch(again.out, /^installed/m);

  const removed = cli.run('setup', '--prefix', prefix, '--fuse-overlayfs', '--uninstall');
  assert.equal(removed.code, 0);
  for (const item of items)
    assert.equal(lstatSync(item.path, { throwIfNoEntry: false }), undefined, item.path);

  symlinkSync('/bin/true', join(prefix, 'bin/varve'));
  const blocked = cli.run('setup', '--prefix', prefix);
  assert.equal(blocked.code, 5);
  assert.match(blocked.err, /left alone, because they are not varve's: .*\/bin\/varve: /);
  assert.equal(readlinkSync(join(prefix, 'bin/varve')), '/bin/true');
});
