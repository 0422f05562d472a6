// One boot in QEMU, to the line that the payload's init prints, and what it says there.
// Called by run.ts for each turn. The machine has one emulated processor, no network, and a disk where the variant wants one.
// Follows: qemu-system-x86_64(1), Documentation/filesystems/proc.rst, admin-guide/iostats.rst of Linux 6.18.

import { spawn } from 'node:child_process';
import { needProgram } from '../run-tool.js';

export interface Machine {
  /** What QEMU can boot. */
  readonly kernel: string;
  readonly initrd: string;
  /** For the kernel's command line, besides what every boot has. */
  readonly append?: string;
  /** MB. */
  readonly memory: number;
  /** A file, seen read-only as /dev/vda. */
  readonly disk?: string;
  /** After which the machine is switched off. */
  readonly seconds: number;
  /** What QEMU is started by: chrt(1) with its arguments, and the like. */
  readonly prefix?: readonly string[];
}

/** What one boot took. */
export interface BootFigures {
  /** Seconds from the kernel's start to the payload's init, by the guest's clock (/proc/uptime). */
  readonly init: number;
  /** Seconds from QEMU's start to the same moment, by the host's clock. */
  readonly wall: number;
  /** Bytes of memory that are not available any more to programs, of what the kernel has. */
  readonly memory: number;
  /** Bytes read from the disk. */
  readonly read: number;
}

/** A boot that did not reach the payload's init. */
export class BootFailed extends Error {
  /** What the machine said on its console. */
  readonly console: string;

  constructor(reason: string, console: string) {
    super(`${reason}: ${lastWords(console)}`);
    this.name = 'BootFailed';
    this.console = console;
  }
}

/** The variable parts of a report line, in the order in which init prints them. */
const REPORT = /varve-bench: uptime ([\d.]+) total (\d+) available (\d+) sectors (\d+)\r?\n/;

/** Name of the folder that a payload has for its bench. */
export const BENCH_FOLDER = '.varve-bench';

/**
 * The init of a payload, in the place of its own: says when it began and what there was, and switches the machine off.
 * @param shell in the payload: where it has none, busybox of BENCH_FOLDER.
 */
export function reportingInit(shell: string): string {
  const busybox = `/${BENCH_FOLDER}/busybox`;
  const proc = `/${BENCH_FOLDER}/proc`;
  return `#!${shell}
${busybox} mount -t proc proc ${proc}
read -r uptime rest <${proc}/uptime
while read -r name value unit; do
  case $name in
    MemTotal:) total=$value ;;
    MemAvailable:) available=$value ;;
  esac
done <${proc}/meminfo
sectors=0
while read -r major minor name reads merged count rest; do
  [ "$name" = vda ] && sectors=$count
done <${proc}/diskstats
echo "varve-bench: uptime $uptime total $total available $available sectors $sectors"
${busybox} poweroff -f
`;
}

/** @throws BootFailed, or MountError of kind `permission` when QEMU is missing. */
export function bootOnce(machine: Machine): Promise<BootFigures> {
  // On a busy host the kernel's check of its timer may find none, and it would stop.
  const always = 'console=ttyS0 quiet nokaslr panic=-1 no_timer_check';
  const append = `${always} ${machine.append ?? ''}`.trim();
  const disk = `file=${machine.disk?.replaceAll(',', ',,')},format=raw,if=virtio,readonly=on`;
  const args = [
    // The same processor everywhere: a hypervisor would make times of the machine it runs on.
    ...['-accel', 'tcg', '-cpu', 'max', '-smp', '1', '-m', String(machine.memory)],
    // PCI Express, as machines have it: the interrupt links of the old `pc` cost the first driver 0.2 s of AML.
    ...['-machine', 'q35'],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
    ...['-kernel', machine.kernel, '-initrd', machine.initrd, '-append', append],
    ...(machine.disk === undefined ? [] : ['-drive', disk]),
  ];
  const [program = '', ...before] = [...(machine.prefix ?? []), needProgram('qemu-system-x86_64')];
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const child = spawn(program, [...before, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let console = '';
    let wall: number | undefined;
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, machine.seconds * 1000);
    const hear = (piece: Buffer): void => {
      console += piece.toString('latin1');
      if (wall === undefined && REPORT.test(console)) wall = (performance.now() - started) / 1000;
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.once('close', () => {
      clearTimeout(timer);
      const figures = readReport(console, wall ?? 0);
      if (figures !== undefined) resolve(figures);
      else if (late) reject(new BootFailed(`no init within ${machine.seconds} s`, console));
      else reject(new BootFailed('the machine stopped before init', console));
    });
  });
}

/** @returns undefined: init has not reported. */
export function readReport(console: string, wall: number): BootFigures | undefined {
  const found = REPORT.exec(console);
  if (found === null) return undefined;
  const [uptime, total, available, sectors] = found.slice(1).map(Number) as [
    number,
    number,
    number,
    number,
  ];
  return { init: uptime, wall, memory: (total - available) * 1024, read: sectors * 512 };
}

/** The line that says most: ours, the kernel's panic, or the last. */
function lastWords(console: string): string {
  const lines = console.split(/\r?\n/).filter((line) => line.trim() !== '');
  const telling = lines.find((line) => /varve-boot: FAILED|Kernel panic|^qemu/.test(line));
  return (telling ?? lines.at(-1) ?? 'it said nothing').trim();
}
