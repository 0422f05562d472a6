// From what a person wants to try to a sandbox that is ready to start: its trial on disk, its plan, what runs in it.
// Called by cli/try.ts. Nothing of the system is changed here but the folder of the trial.
// See docs/try.md for what is contained and what is not.

import { existsSync, realpathSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { findProgram } from '../../linux/find-program.js';
import type { Cover } from '../../sandbox/covers.js';
import { launch, type Sandbox } from '../../sandbox/launch.js';
import type { Bind, SandboxPlan, SandboxStart } from '../../sandbox/plan.js';
import { planSockets, SOCKET_NAMES, type SocketPlan } from '../../sandbox/sockets.js';
import { MountError } from '../../stack/errors.js';
import { latin1 } from './paths.js';
import {
  createTry,
  newTryFolder,
  openTry,
  PLACE,
  PLAN,
  readyAgain,
  type TrySession,
  tryBase,
} from './session.js';
import { scopeOf, thisUser, type User } from './system.js';

export interface TryWish {
  readonly command: string;
  readonly args: readonly string[];
  /** Directories that take writes; none: what this user can be given. */
  readonly on: readonly string[];
  /** As root of the sandbox; root is that anyway. */
  readonly asRoot: boolean;
  readonly net: 'host' | 'none';
  readonly dev: 'minimal' | 'host';
  /** `NAME=VALUE`, or `NAME` of a variable that is kept although it names a socket. */
  readonly env: readonly string[];
  /** `SOURCE[:TARGET[:ro]]`. */
  readonly binds: readonly string[];
  readonly hostname: string | undefined;
  /** Names of SOCKET_NAMES and paths; undefined: none. */
  readonly sockets: readonly string[] | undefined;
  /** Where trials lie. */
  readonly state: string | undefined;
  /** The trial itself is to lie there. */
  readonly folder: string | undefined;
  /** A kept trial to go on with. */
  readonly resume: string | undefined;
}

export interface Prepared {
  readonly session: TrySession;
  readonly remarks: readonly string[];
  /** @param remark told what turns out while the sandbox is made. */
  start(remark: (text: string) => void): Sandbox;
}

/** @throws MountError. */
export function prepareTry(wish: TryWish, env: NodeJS.ProcessEnv): Prepared {
  const user = thisUser(env);
  const cwd = workingDirectory();
  const unshare = findUnshare(env);
  const binds = wish.binds.map(bindOf);
  const environment = environmentOf(wish.env, env);
  const sockets = socketsOf(wish, user, environment);
  const scope = scopeOf(user, wish.on, cwd, env);
  const places = scope.covers.filter(({ kind }) => kind === 'write').map(({ path }) => path);
  const command = [wish.command, ...wish.args];
  const session =
    wish.resume === undefined
      ? newTry(wish, env, { command, cwd: latin1(cwd), userxattr: !user.full, places })
      : resumed(wish.resume, user);
  const covers = coversOf(scope.covers, session);
  const shown = sockets.shown.filter((path) => existsSync(path));
  const plan: SandboxPlan = {
    place: latin1(join(session.folder, PLACE)),
    covers,
    uppers: session.record.uppers.map((upper) => ({
      path: upper.path,
      upper: latin1(session.upperOf(upper)),
      work: latin1(session.workOf(upper)),
    })),
    userxattr: session.record.userxattr,
    hidden: [hiddenFolder(session, wish)],
    dev: wish.dev,
    binds: [
      ...binds,
      ...shown.map((path): Bind => {
        const real = latin1(realpathSync.native(path));
        return { source: real, target: latin1(path), readOnly: false, make: true };
      }),
    ],
    loopback: wish.net === 'none',
    ...(wish.hostname === undefined ? {} : { hostname: wish.hostname }),
    unshare,
    ...(user.root ? {} : { map: wish.asRoot ? '--map-root-user' : '--map-current-user' }),
  };
  const start: SandboxStart = {
    command: wish.command,
    args: wish.args,
    env: { ...sockets.env, VARVE_TRY: '1' },
    cwd: latin1(cwd),
    umask: process.umask(),
    abstractSockets: wish.sockets !== undefined,
  };
  return {
    session,
    remarks: scope.remarks,
    start: (remark) =>
      launch({
        plan,
        planFile: join(session.folder, PLAN),
        start,
        ownNetwork: wish.net === 'none',
        remark,
      }),
  };
}

function newTry(
  wish: TryWish,
  env: NodeJS.ProcessEnv,
  what: Parameters<typeof createTry>[1],
): TrySession {
  if (wish.folder === undefined) {
    return createTry(newTryFolder(tryBase(wish.state ?? env['VARVE_TRY_DIR'], env)), what);
  }
  return createTry(resolve(wish.folder), what);
}

function resumed(folder: string, user: User): TrySession {
  const session = openTry(folder);
  if (session.record.userxattr === user.full) {
    session.close();
    throw new MountError(
      'permission',
      `${folder}: made ${user.full ? 'without' : 'with'} the rights of root, which read and write it differently: go on as then`,
    );
  }
  readyAgain(session);
  return session;
}

/** The places that the trial has an upper for take writes, and nothing else. */
function coversOf(covers: readonly Cover[], { record }: TrySession): Cover[] {
  const places = new Map(record.uppers.map(({ path }) => [path, { kind: 'write', path } as Cover]));
  const all = covers.map((cover): Cover => {
    const write = places.get(cover.path);
    places.delete(cover.path);
    if (write !== undefined) return { ...cover, ...write };
    return cover.kind === 'write' ? { ...cover, kind: 'read' } : cover;
  });
  const depth = ({ path }: Cover): number => (path === '/' ? 0 : path.split('/').length - 1);
  return [...all, ...places.values()].sort((a, b) => depth(a) - depth(b));
}

/** The trials of this user; one that lies elsewhere is hidden alone. */
function hiddenFolder({ folder }: TrySession, wish: TryWish): string {
  const alone = wish.folder !== undefined || wish.resume !== undefined;
  return latin1(alone ? folder : resolve(folder, '..'));
}

function workingDirectory(): string {
  try {
    const cwd = process.cwd();
    statSync(cwd);
    return cwd;
  } catch {
    throw new MountError('layer', 'try: the working directory is gone: change to another one');
  }
}

function findUnshare(env: NodeJS.ProcessEnv): string {
  const found = findProgram('unshare', env);
  if (found !== undefined) return found;
  throw new MountError('permission', 'try: unshare is missing: install util-linux');
}

function bindOf(asked: string): Bind {
  const [source = '', target = source, how, ...rest] = asked.split(':');
  if (source === '' || target === '' || rest.length > 0 || (how !== undefined && how !== 'ro')) {
    throw new MountError('option', `--bind=${asked}: write --bind SOURCE[:TARGET[:ro]]`);
  }
  let real: string;
  try {
    real = realpathSync.native(source);
  } catch {
    throw new MountError('layer', `--bind=${asked}: ${source}: no such file or directory`);
  }
  const place = latin1(target === source ? resolve(source) : resolve('/', target));
  return { source: latin1(real), target: place, readOnly: how === 'ro', make: true };
}

function environmentOf(asked: readonly string[], env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const result: NodeJS.ProcessEnv = { ...env };
  // Where this varve keeps what it knows is nothing that works inside.
  delete result['VARVE_RUNTIME_DIR'];
  delete result['VARVE_TRY_DIR'];
  for (const word of asked) {
    const equals = word.indexOf('=');
    if (equals === 0) throw new MountError('option', `--env=${word}: write --env NAME=VALUE`);
    if (equals > 0) result[word.slice(0, equals)] = word.slice(equals + 1);
    else delete result[word];
  }
  return result;
}

function socketsOf(wish: TryWish, user: User, env: NodeJS.ProcessEnv): SocketPlan {
  const asked = wish.sockets ?? [];
  const words = wish.sockets?.length === 0 ? SOCKET_NAMES : asked;
  for (const word of words) {
    if (!word.startsWith('/') && !SOCKET_NAMES.includes(word)) {
      const names = SOCKET_NAMES.join(', ');
      throw new MountError('option', `--allow-sockets=${word}: one of ${names}, or a path`);
    }
  }
  return planSockets(words, env, user.home, user.runtime);
}
