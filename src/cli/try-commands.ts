// `varve try` as data. Part of the table in commands.ts.
// Read by main.ts, help.ts, man.ts and completion.ts.
// Holds text only.

import type { CommandRecord } from './command-record.js';

export const TRY_COMMANDS: readonly CommandRecord[] = [
  {
    name: 'try',
    summary: 'try a command over the system, then keep or drop it',
    operands: '[--] COMMAND [ARG...]',
    count: [0, Number.POSITIVE_INFINITY],
    failure: 125,
    description: [
      'Runs COMMAND over an overlay of the running system: it sees all files, and whatever it writes goes to an upper. Then its changes are shown, and are committed to the real system, kept for later, or discarded. On a terminal you are asked; elsewhere --yes, --no or --keep says so, and without any of them changes are kept: nothing is lost, nothing happens.',
      'As root everything on disk can be written to. Anybody else can write to their home, the temporary folders and the tree of their own that the working directory is in; the rest is read-only (overlayfs must give a copied directory its owner back, which only root may). --on names other directories, and makes everything else read-only. The working directory stays the same.',
      'COMMAND has mount, PID and IPC namespaces and a session of its own, no descriptor above 2, and no way to get rights by set-id programs; everything that it leaves running is killed when it ends. It reaches no socket of the system that has a path (D-Bus, container engines, ssh-agent and so on; variables that name them are removed) unless --allow-sockets says so, and no abstract one where the kernel can prevent it (Linux 6.12). The network is that of the machine unless --net=none is given. docs/try.md has the whole table of what is contained and what is not.',
      'A commit is refused, with nothing done, where anything of what it would overwrite has been changed on the real system since COMMAND was started; --force overrides. Every directory that was overlaid gets all of its changes or none.',
      "The exit code is COMMAND's (128 and the number of the signal that killed it); 125: varve itself failed, which includes a commit that was refused; 126: COMMAND cannot be run; 127: it was not found. What varve prints goes to stderr; the result for programs to the FILE of --json.",
    ],
    flags: [
      {
        name: 'on',
        value: 'DIR',
        many: true,
        help: 'Take writes in DIR (and what is mounted below it, for root), everything else is read-only.',
      },
      { name: 'yes', short: 'y', help: 'Commit the changes, whatever COMMAND returns.' },
      { name: 'if-ok', help: 'With --yes: only where COMMAND returns 0; else discard.' },
      { name: 'no', short: 'n', help: 'Discard the changes.' },
      {
        name: 'keep',
        value: 'DIR',
        optional: true,
        help: 'Keep the changes (in DIR, a new folder), to be shown, committed or gone on with by --resume.',
      },
      {
        name: 'resume',
        value: 'DIR',
        help: 'Go on with kept changes; without COMMAND: only decide what becomes of them.',
      },
      {
        name: 'list',
        help: 'List what is kept (those in folders of their own, by --keep=DIR, are not known).',
      },
      { name: 'force', help: 'Commit although the real system has changed.' },
      {
        name: 'diff',
        value: 'tree|name-status|stat|json|patch|none',
        help: 'How changes are shown on stderr (default tree; none with --json or --quiet).',
      },
      {
        name: 'json',
        value: 'FILE',
        optional: true,
        help: 'Write the result as JSON to FILE (default: to stderr, as the last line).',
      },
      {
        name: 'root',
        help: 'Without root: COMMAND sees itself as root. It has no more rights than before.',
      },
      { name: 'net', value: 'host|none', help: 'The network of the machine (default), or none.' },
      {
        name: 'dev',
        value: 'minimal|host',
        help: 'Devices that hold nothing, and terminals of its own (default), or those of the machine: not contained.',
      },
      {
        name: 'env',
        value: 'NAME[=VALUE]',
        many: true,
        help: 'Set a variable for COMMAND; without a value: remove it.',
      },
      {
        name: 'bind',
        value: 'SOURCE[:TARGET[:ro]]',
        many: true,
        help: 'Show a real file or directory inside, where writes are real.',
      },
      { name: 'hostname', value: 'NAME', help: 'Another host name for COMMAND.' },
      {
        name: 'allow-sockets',
        value: 'NAME,...',
        optional: true,
        help: 'Let COMMAND reach sockets: names (dbus-system, dbus-session, docker, podman, containerd, crio, ssh-agent, gpg-agent, x11, wayland, sound, systemd) or paths; without a value all of these.',
      },
      {
        name: 'state',
        value: 'DIR',
        help: 'Where changes lie meanwhile (default $VARVE_TRY_DIR, else /var/lib/varve/try or ~/.local/state/varve/try).',
      },
      { name: 'quiet', short: 'q', help: 'Say nothing but what was asked for, and errors.' },
    ],
    examples: [
      ['varve try -- apt-get install -y hello', 'as root: look at it, then decide'],
      ['varve try --no -- make install', 'what would it do?'],
      ['varve try --on . --yes --if-ok -- npm install', 'only if it succeeds, and only here'],
      ['varve try --keep=/var/tmp/t1 --json=result.json -- ./agent-step', 'for programs'],
      ['varve try --resume /var/tmp/t1 --yes', 'commit what was kept'],
    ],
    completes: 'path',
  },
];
