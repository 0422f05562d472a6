// A virtual machine without KVM, where an instruction costs about ten times what it costs outside: what it prints, and how it ended.
// Used by oldkernel/ and boot/, with a kernel of kernel.ts.
// Follows: qemu-system-x86_64(1).

import { spawn } from 'node:child_process';

/** What is done with what a machine prints. */
export interface Watch {
  /** Milliseconds until the machine is ended. */
  readonly limit: number;
  /** Receives what the machine prints, line by line. @returns true when enough is seen: the machine is ended. */
  readonly onLine: (line: string) => unknown;
  /** Typed on the console as soon as a line matches. */
  readonly typed?: { readonly after: RegExp; readonly text: string };
}

export interface Machine extends Watch {
  /** bzImage, or an ELF with a PVH entry. */
  readonly kernel: string;
  readonly initramfs: string;
  /** The kernel's command line, besides what is the same for all. */
  readonly append?: string;
  /** MiB. */
  readonly memory: number;
  readonly processors?: number;
  /** Images of disks, in the order of /dev/vda, /dev/vdb... */
  readonly disks?: readonly string[];
  /** What the machine writes to its disks is forgotten. */
  readonly isScratch?: boolean;
}

/** Runs it to its end. @returns what ended it: undefined in order, else a sentence. */
export async function runMachine(machine: Machine): Promise<string | undefined> {
  const processors = machine.processors ?? 1;
  const thread = processors > 1 ? 'multi' : 'single';
  const args = ['-accel', `tcg,thread=${thread}`, '-smp', String(processors)];
  args.push('-m', String(machine.memory), '-nodefaults');
  // An older processor: the newer instructions that programs would choose are slow to imitate.
  args.push('-cpu', 'Nehalem', '-nic', 'none', '-display', 'none', '-no-reboot');
  args.push('-kernel', machine.kernel, '-initrd', machine.initramfs, '-serial', 'stdio');
  for (const [i, disk] of (machine.disks ?? []).entries()) {
    args.push('-drive', `file=${disk},if=none,id=disk${i},format=raw,cache=unsafe`);
    args.push('-device', `virtio-blk-pci,drive=disk${i}`);
  }
  if (machine.isScratch) args.push('-snapshot');
  const append = `console=ttyS0 quiet panic=-1 nokaslr mitigations=off ${machine.append ?? ''}`;
  args.push('-append', append.trim());
  return runQemu(args, machine);
}

/** Runs a machine whose console is standard output. @returns what ended it: undefined in order, else a sentence. */
export async function runQemu(args: readonly string[], watch: Watch): Promise<string | undefined> {
  const child = spawn('qemu-system-x86_64', args, { stdio: ['pipe', 'pipe', 'pipe'] });
  // It may have ended already.
  child.stdin.on('error', () => {});
  let rest = '';
  let enough = false;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split(/\r*\n/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (watch.typed?.after.test(line)) child.stdin.write(watch.typed.text);
      if (enough || watch.onLine(line) !== true) continue;
      enough = true;
      child.kill('SIGKILL');
    }
  });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, watch.limit);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  clearTimeout(timer);
  if (late) return `not done after ${watch.limit / 1000} s`;
  return enough || code === 0 ? undefined : `qemu ended with ${code}: ${complaint.trim()}`;
}
