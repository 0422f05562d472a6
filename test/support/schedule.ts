// Which test runs when: long ones first, so that none is left when the other lanes are done, and some with few beside them.
// Used by test/run.ts for everything that it runs.

/** What the order depends on. */
export interface Task {
  readonly name: string;
  /**
   * `check`: no test; comes first, for who runs it wants to know soon. `mounts`: a test file that may mount. `quiet`: one
   * that mounts nothing. `alone`: one that makes mount namespaces, which would keep copies of what others have mounted:
   * beside it runs only what is quiet.
   */
  readonly kind: 'check' | 'mounts' | 'alone' | 'quiet';
}

/**
 * Test files of about half a minute and more, the longest first. The order of the others matters little, for what is quiet
 * comes last and fills the gap.
 */
const LONGEST: readonly string[] = [
  'oracle/oracle',
  'oldkernel/oldkernel',
  'crash/kill',
  'clients/wine',
  'erofs/mkfs',
  'boot/failures',
  'boot/payload',
  'boot/debian',
  'registry/lazy',
  'clients/debian',
  'overlay/detach-lower',
  'lazy/fanotify',
  'lazy/fuse',
  'lazy/loader-process',
  'numbers/numbers',
  'imagefs/follow',
  'cli/mount-composefs',
  'wine/update-real',
  'erofs/write',
  'boot/secure-boot',
  'restart/kill',
  'overlay/succession-moments',
  'overlay/handles',
  'crash/shutdown',
  'cli/restart',
  'cli/stacks',
];

/** Runs all tasks, `width` at a time. @param work never rejects. */
export async function runAll<T extends Task>(
  tasks: readonly T[],
  width: number,
  work: (task: T) => Promise<void>,
): Promise<void> {
  const waiting = [...tasks].sort((a, b) => rank(a) - rank(b));
  const running = new Set<T>();
  const take = (): T | undefined => {
    const others = [...running].map(({ kind }) => kind);
    const i = waiting.findIndex(({ kind }) => {
      if (kind === 'alone') return others.every((other) => other === 'quiet');
      return kind === 'quiet' || !others.includes('alone');
    });
    return i < 0 ? undefined : waiting.splice(i, 1)[0];
  };
  await new Promise<void>((resolve, reject) => {
    const fill = (): void => {
      while (running.size < Math.max(1, width)) {
        const task = take();
        if (task === undefined) break;
        running.add(task);
        work(task).then(() => {
          running.delete(task);
          fill();
        }, reject);
      }
      if (running.size === 0) resolve();
    };
    fill();
  });
}

/** Mounting ones before those alone, which wait for the last of them; meanwhile and beside them the quiet ones. */
function rank({ kind, name }: Task): number {
  const order = LONGEST.indexOf(name);
  const among = order < 0 ? LONGEST.length : order;
  return ['check', 'mounts', 'alone', 'quiet'].indexOf(kind) * (LONGEST.length + 1) + among;
}
