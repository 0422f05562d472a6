// How a stack is mounted and unmounted by each implementation: the subject of a campaign or its oracle.
// Used by test/oracle, test/integrity and test/conformance; chosen by `VARVE_TEST_SUBJECT` or the flag --subject.
// Follows: the options of Documentation/filesystems/overlayfs.rst.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface StackFolders {
  /** Absolute paths, topmost first. */
  lowers: readonly string[];
  upper: string;
  work: string;
  mountpoint: string;
}

export interface Subject {
  name: string;
  mount(stack: StackFolders): void;
  /** Returns once everything is in the upper and the folders are free to be used again. */
  unmount(mountpoint: string): void;
  /** A lower may be an EROFS image; otherwise it is where that is mounted. */
  takesImages?: boolean;
  /** Mount options of the oracle where the subject's layers need others. */
  oracleOptions?: string;
}

const root = fileURLToPath(new URL('../../../', import.meta.url));
const varveMain = `${root}dist/bundle/programs/main.js`;

export const kernelOptions = 'redirect_dir=on,index=on,metacopy=off,xino=auto';

function layerOptions(stack: StackFolders): string {
  const { lowers, upper, work } = stack;
  return `lowerdir=${lowers.join(':')},upperdir=${upper},workdir=${work}`;
}

export function kernel(options = kernelOptions): Subject {
  return {
    name: 'kernel',
    mount: (stack) => {
      // Access times would make every reading operation a writing one.
      const all = `${layerOptions(stack)},${options},noatime,nosuid,nodev`;
      run('mount', ['-t', 'overlay', 'oracle', stack.mountpoint, '-o', all]);
    },
    unmount: (mountpoint) => run('umount', [mountpoint]),
  };
}

const subjects: Record<string, () => Subject> = {
  varve: () => ({
    name: 'varve',
    takesImages: true,
    mount: (stack) => {
      const options = `${layerOptions(stack)},allow_other,${kernelOptions}`;
      const args = [varveMain, 'mount', '--backend=fuse', '-o', options, stack.mountpoint];
      untilFree(() => run(process.execPath, args));
    },
    unmount: (mountpoint) => run(process.execPath, [varveMain, 'umount', mountpoint]),
  }),
  'fuse-overlayfs': () => ({
    name: 'fuse-overlayfs',
    mount: (stack) => {
      run('fuse-overlayfs', ['-o', `${layerOptions(stack)},allow_other`, stack.mountpoint]);
    },
    unmount: (mountpoint) => {
      run('umount', [mountpoint]);
      waitForServer(mountpoint);
    },
  }),
  kernel: () => kernel(),
};

/** @throws Error for a name that is none of varve, fuse-overlayfs and kernel */
export function subjectNamed(name: string): Subject {
  const make = subjects[name];
  if (make === undefined) {
    throw new Error(`unknown subject ${name}: choose ${Object.keys(subjects).join(', ')}`);
  }
  return make();
}

/** The subject that the environment asks for, varve by default. */
export function chosenSubject(): Subject {
  return subjectNamed(process.env['VARVE_TEST_SUBJECT'] ?? 'varve');
}

/** Makes an EROFS image of a folder. */
export function buildImageOf(folder: string, image: string): void {
  run(process.execPath, [varveMain, 'image', 'build', '-q', '-z', 'lz4', '-o', image, folder]);
}

/**
 * A mount namespace that another test makes holds copies of our mounts for as long as it lives, and with them their
 * servers and their claims of the uppers, as it would with kernel overlayfs: wait for its end.
 */
export function untilFree(mount: () => void): void {
  for (let i = 0; ; i++) {
    try {
      mount();
      return;
    } catch (error) {
      if (i === 60 || !/in use by another mount|mount point busy/.test(String(error))) throw error;
      pause(1000);
    }
  }
}

/** umount(8) of a FUSE mount returns before the server has ended; its last writes come before that. */
function waitForServer(mountpoint: string): void {
  const found = () => {
    const { stdout } = spawnSync('ps', ['-eo', 'args='], { encoding: 'utf8' });
    return stdout.split('\n').some((line) => line.endsWith(` ${mountpoint}`));
  };
  for (let i = 0; i < 100 && found(); i++) pause(20);
}

export function pause(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

export function run(command: string, args: readonly string[]): void {
  // Output goes to a file descriptor of ours, not a pipe: a daemon that inherited it would hold it open.
  const result = spawnSync(command, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
    timeout: 150_000,
  });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) {
    throw new Error(`${command} ${args.join(' ')}: ${result.stderr.trim() || result.signal}`);
  }
}

/** Whether something is mounted exactly there. */
export function isMounted(mountpoint: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[4] === mountpoint);
}
