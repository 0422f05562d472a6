// Dumps that ask of a composefs image everything it can hold, each made by a few lines of rules.
// Used by composefs.test.ts, which knows the digests of their images.

/** Numbers that look random and are the same everywhere. */
export function sequence(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const hex = (next: (below: number) => number, digits: number): string =>
  Array.from({ length: digits }, () => next(16).toString(16)).join('');

export const letters = (next: (below: number) => number, length: number): string =>
  Array.from({ length }, () => String.fromCharCode(97 + next(26))).join('');

const ROOT = '/ 4096 40755 2 0 0 0 1700000000.0 - - -';

/** An external file's payload and digest. */
function object(digest: string): string {
  return `${digest.slice(0, 2)}/${digest.slice(2)} - ${digest}`;
}

function kinds(): string[] {
  const digest = '0123456789abcdef'.repeat(4);
  return [
    '/ 4096 40755 4 1000 1000 0 1695372970.944925700 - - - security.selinux=u:object_r:t:s0\\x00',
    '/!before-dots 3 100600 1 0 0 0 1.0 - abc -',
    '/00 0 40700 2 0 0 0 1.0 - - -',
    '/a\\x20dir 27 41777 2 70000 0 0 -1.5 - - -',
    '/a\\x20dir/\\xff\\xfe 0 100644 1 0 0 0 0.0 - - -',
    `/a\\x20dir/${'n'.repeat(255)} 1 100644 1 0 65536 0 0.0 - x -`,
    '/a\\x20dir/tab\\tnl\\nback\\\\slash 0 106755 1 0 0 0 0.0 - - -',
    '/blk 0 60660 1 0 6 107690 0.0 - - -',
    '/chr 0 20666 1 0 0 259 0.0 - - -',
    '/dash 1 120777 1 0 0 0 0.0 \\x2d - -',
    `/external 70000 100644 1 0 0 0 0.0 ${object(digest)}`,
    `/external-bare 70000 100644 1 0 0 0 0.0 - - -`,
    `/external-no-digest 70000 100644 1 0 0 0 0.0 some/where - -`,
    `/external-no-path 70000 100644 1 0 0 0 0.0 - - ${digest}`,
    `/external-same 70000 100600 1 0 0 0 0.0 ${object(digest)}`,
    `/external-huge 8796093022209 100644 1 0 0 0 0.0 ${object(digest)}`,
    '/fifo 0 10644 1 0 0 0 0.0 - - -',
    '/ff 0 100644 1 0 0 0 0.0 - - -',
    '/inline 12 100644 2 0 0 0 0.0 - a\\x20b\\\\c\\n\\t\\r=\\x00\\xfe\\x7f - user.a\\x3db=c\\x3dd user.e=',
    '/late 0 100644 1 0 0 0 9000000000.999999999 - - -',
    '/sock 0 140755 1 0 0 0 0.0 - - -',
  ];
}

/** Names of hard links that come before and after the object's own, in other directories and of each other. */
function links(): string[] {
  const out = [ROOT];
  for (const dir of ['a', 'b', 'c', 'c/d']) out.push(`/${dir} 0 40755 2 0 0 0 1.0 - - -`);
  out.push('/a/first 0 @100644 3 0 0 0 0.0 /c/d/own - -');
  out.push('/c/d/own 5 100644 4 0 0 0 7.0 - hello - user.linked=yes');
  out.push('/b/second 0 @100644 3 0 0 0 0.0 /a/first - -');
  out.push('/zlast 0 @100644 3 0 0 0 0.0 /c/d/own - -');
  out.push('/c/target 9 120777 2 0 0 0 7.0 some/path - -');
  out.push('/a/link 0 @120777 2 0 0 0 7.0 /c/target - -');
  out.push('/c/d/cover 0 20000 1 0 0 0 7.0 - - -');
  out.push('/b/covers 0 @20000 1 0 0 0 7.0 /c/d/cover - -');
  return out;
}

function xattrs(): string[] {
  const out = [`${ROOT} trusted.overlay.opaque=y user.overlay.opaque=x`];
  const many: string[] = [];
  for (let i = 0; i < 1000; i++) many.push(`user.k${i}=${i % 7}`);
  out.push(`/thousand 0 100644 1 0 0 0 1.0 - - - ${many.join(' ')}`);
  out.push(`/thousand-again 0 100644 1 0 0 0 1.0 - - - ${many.slice(0, 500).join(' ')}`);
  out.push(`/long 0 100644 1 0 0 0 1.0 - - - user.${'v'.repeat(250)}=${'w'.repeat(30000)}`);
  out.push(`/twice 0 100644 1 0 0 0 1.0 - - - user.a=1 user.b=2 user.a=3`);
  const acl = '\\x02\\x00\\x00\\x00\\x01\\x00\\x06\\x00\\xff\\xff\\xff\\xff';
  out.push(
    `/acl 0 40755 2 0 0 0 1.0 - - - system.posix_acl_access=${acl} system.posix_acl_default=${acl}`,
  );
  const marks = [
    'opaque=y',
    'redirect=/x',
    'metacopy=',

    'overlay.opaque=y',
    'origin=\\x00',
  ];
  for (const [i, prefix] of ['trusted.overlay.', 'user.overlay.'].entries()) {
    const own = marks.map((mark) => prefix + mark).join(' ');
    out.push(`/marks${i} 70000 100644 1 0 0 0 1.0 a/b - - ${own}`);
    out.push(`/marked${i} 0 40755 2 0 0 0 1.0 - - - ${own}`);
  }
  return out;
}

/** Names that the format has no prefix for, or that the kernel knows otherwise. */
function odd(): string[] {
  const odd = [
    'system.posix_acl_accessory=1',
    'lustre.lov=2',
    'plain=3',
    `security.capability=\\x01\\x00\\x00\\x02${'\\x00'.repeat(16)}`,
  ];
  return [ROOT, `/odd 0 100644 1 0 0 0 1.0 - - - ${odd.join(' ')} trusted.x=\\x00 user.=empty`];
}

function whiteouts(): string[] {
  return [
    `${ROOT} security.selinux=root\\x00`,
    '/d 0 40755 2 0 0 0 1.0 - - - user.overlay.opaque=y',
    '/d/gone 0 20000 1 0 0 0 1.0 - - - user.kept=1',
    '/d/e 0 40755 2 0 0 0 1.0 - - -',
    '/d/e/gone 4 20644 1 5 5 0 1.0 - - -',
    '/d/e/loop 0 60644 1 0 0 0 1.0 - - -',
    '/gone 0 20000 1 0 0 0 1.0 - - -',
    '/7f 0 20000 1 0 0 0 1.0 - - -',
  ];
}

/** Sizes around all limits of what lies behind an inode. */
function sizes(): string[] {
  const next = sequence(7);
  const out = [ROOT];
  const contents = [1, 31, 63, 64, 65, 2047, 2048, 2049, 4000, 4095, 4096, 4097, 4500, 5000];
  for (const [i, size] of [...contents, ...contents, ...contents].entries()) {
    const pad = i % 3 === 0 ? ` user.p=${letters(next, next(600))}` : '';
    out.push(`/inline${i} ${size} 100644 1 0 0 0 1.0 - ${letters(next, size)} -${pad}`);
  }
  for (const size of [1, 200, 2000, 3900, 3999, 4000, 4031, 4032, 4060, 4061, 4064, 4070, 4095]) {
    out.push(`/symlink${size} ${size} 120777 1 0 0 0 ${next(2)}.0 ${letters(next, size)} - -`);
    out.push(
      `/wide${size} ${size} 120777 1 0 0 0 1.0 ${letters(next, size)} - - user.a=${letters(next, 3000)}`,
    );
  }
  for (let bits = 0; bits < 53; bits++) {
    for (const size of bits === 0 ? [1] : [2 ** bits, 2 ** bits + 1]) {
      const pad = `user.p=${letters(next, next(4096))}`;
      out.push(`/external${size} ${size} 100644 1 0 0 0 1.0 ${object(hex(next, 64))} ${pad}`);
    }
  }
  for (const names of [1, 10, 80, 90, 100, 110, 150, 170, 171, 172, 400, 2000]) {
    out.push(`/dir${names} 0 40755 2 0 0 0 1.0 - - -`);
    for (let i = 0; i < names; i++) {
      out.push(`/dir${names}/${letters(next, 11)}${i} 0 100644 1 0 0 0 1.0 - - -`);
    }
  }
  return out;
}

/** As an operating system has them: 64,000 lines, most of them files of a store. */
function large(): string[] {
  const next = sequence(64000);
  const out = [ROOT];
  const labels = ['bin_t', 'etc_t', 'lib_t', 'usr_t'].map(
    (type) => `security.selinux=system_u:object_r:${type}:s0\\x00`,
  );
  const dirs = [''];
  while (out.length < 64_000) {
    const dir = dirs[next(dirs.length)] as string;
    const path = `${dir}/${letters(next, 3 + next(20))}${out.length}`;
    const meta = `${next(3) === 0 ? 1000 : 0} 0 0 ${1_600_000_000 + next(1000)}.${next(2)}`;
    const label = labels[next(labels.length)] as string;
    switch (next(12)) {
      case 0:
        out.push(`${path} 0 40755 2 ${meta} - - - ${label}`);
        dirs.push(path);
        break;
      case 1:
        out.push(`${path} 9 120777 1 ${meta} ../target - - ${label}`);
        break;
      case 2: {
        const size = 1 + next(64);
        out.push(`${path} ${size} 100644 1 ${meta} - ${letters(next, size)} - ${label}`);
        break;
      }
      default: {
        const digest = hex(next, 64);
        out.push(`${path} ${65 + next(1_000_000)} 100644 1 ${meta} ${object(digest)} ${label}`);
      }
    }
  }
  return out;
}

/** By name: the lines of a dump. */
export const COMPOSEFS_SAMPLES = { kinds, links, xattrs, odd, whiteouts, sizes, large } as const;

export function sampleDump(name: keyof typeof COMPOSEFS_SAMPLES): Buffer {
  return Buffer.from(`${COMPOSEFS_SAMPLES[name]().join('\n')}\n`, 'latin1');
}
