// `varve boot uki`: kernel, mini-initramfs and command line as one EFI program, which firmware checks as a whole.
// Called by cli/boot-uki.ts: sections behind systemd's stub, then sbsign, then sbverify. The root hashes of the images are on its
// command line, so that everything that is used at boot hangs on the one signature.
// Follows: the Unified Kernel Image specification of UAPI; systemd-stub(7) of version 252; Linux' boot protocol for x86.

import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { type ByteSource, MemorySource } from '../../bytes/source.js';
import { FileSource } from '../../linux/file-source.js';
import { syncPath } from '../../linux/sync-path.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { type BootManifest, readManifest } from '../build/manifest.js';
import { type BootConfig, ROOTHASH_OPTION } from '../config.js';
import { digestOf } from '../digest.js';
import { needProgram, runTool } from '../run-tool.js';
import { type KeyRequest, openKey, passArguments, type SigningKey, withKey } from './key.js';
import { openMini } from './mini.js';
import { type NewSection, readPe, writePe } from './pe.js';

export interface UkiRequest {
  /** OUTDIR of a build. */
  readonly folder: string;
  readonly kernel: string;
  /** The mini-initramfs where it is another than that of the build: the one that `varve boot install` has made of it. */
  readonly initramfs?: string;
  /** Text, or `@FILE`. */
  readonly cmdline?: string;
  /** Whether the root hashes of all images get onto the command line. */
  readonly pin: boolean;
  /** Default: that of systemd for the machine of the kernel. */
  readonly stub?: string;
  /** Default: that of this system, where there is one. */
  readonly osRelease?: string;
  readonly signing?: KeyRequest;
  readonly out: string;
  /** Make it although nothing of an image would be checked. */
  readonly force: boolean;
  readonly onRemark?: (text: string) => void;
}

export interface UkiResult {
  readonly file: string;
  /** Bytes. */
  readonly size: number;
  readonly cmdline: string;
  readonly uname: string | undefined;
  readonly signed: boolean;
  readonly sections: readonly { readonly name: string; readonly size: number }[];
}

/** Machine of a PE header -> what systemd calls it. */
const MACHINES: Readonly<Record<number, string>> = {
  34404: 'x64',
  43620: 'aa64',
  20580: 'riscv64',
};
const STUBS = '/usr/lib/systemd/boot/efi';
const OS_RELEASE = ['/etc/os-release', '/usr/lib/os-release'];
/** Linux takes 2048 bytes on x86 and cuts off what is more. */
const MOST_CMDLINE = 2047;

/** @throws MountError; then there is no file of the name, or the one from before. */
export async function makeUki(request: UkiRequest): Promise<UkiResult> {
  const { folder } = request;
  const remark = request.onRemark ?? (() => {});
  const manifest = readManifest(folder);
  const initramfs = request.initramfs ?? join(folder, manifest.initramfs.file);
  const cmdline = commandLine(request, manifest, initramfs, remark);
  const key = request.signing && (await openKey(request.signing));
  for (const text of key?.remarks ?? []) remark(text);
  if (key !== undefined) for (const name of ['sbsign', 'sbverify']) needProgram(name);

  const open: FileSource[] = [];
  const take = (path: string, what: string): FileSource => {
    const source = openFile(path, what);
    open.push(source);
    return source;
  };
  try {
    const kernel = take(request.kernel, 'kernel');
    const { machine } = readPe(kernel, request.kernel);
    const uname = releaseOf(kernel) ?? manifest.release;
    if (uname !== undefined && manifest.release !== undefined && uname !== manifest.release)
      throw new MountError(
        'option',
        `${request.kernel}: is Linux ${uname}, the modules in ${initramfs} are of ${manifest.release}: name the kernel of these`,
      );
    const stubPath = request.stub ?? join(STUBS, `linux${MACHINES[machine] ?? 'x64'}.efi.stub`);
    const stub = take(stubPath, 'stub (package systemd-boot-efi)');
    if (readPe(stub, stubPath).machine !== machine)
      throw new MountError('option', `${stubPath}: is for another machine than ${request.kernel}`);
    const initrd = take(initramfs, 'mini-initramfs');
    if (request.initramfs === undefined && digestOf(initrd) !== manifest.initramfs.sha256)
      throw new MountError('layer', `${initramfs}: is not what boot.json says: build again`);

    const sections: NewSection[] = [];
    const text = (name: string, content: string | undefined): void => {
      if (content !== undefined)
        sections.push({ name, source: new MemorySource(Buffer.from(content)) });
    };
    text('.osrel', osRelease(request.osRelease));
    text('.cmdline', cmdline);
    text('.uname', uname);
    sections.push({ name: '.initrd', source: initrd });
    // Last: a kernel that unpacks itself where it lies may write behind its end.
    sections.push({ name: '.linux', source: kernel, code: true });

    const size = await publish(request.out, key, (path) => writeTo(path, stub, stubPath, sections));
    return {
      file: request.out,
      size,
      cmdline,
      uname,
      signed: key !== undefined,
      sections: sections.map(({ name, source }) => ({ name, size: source.size })),
    };
  } finally {
    for (const source of open) source.close();
  }
}

/** What the mini-initramfs compares its images with; `none` for one that has no hash tree. undefined: none has. */
function rootHashes(config: BootConfig, manifest: BootManifest): string | undefined {
  const hashes = config.layers.map(
    (layer, i) => (layer.verity ?? manifest.layers[i]?.verity)?.roothash ?? 'none',
  );
  return hashes.every((hash) => hash === 'none') ? undefined : hashes.join(',');
}

function commandLine(
  request: UkiRequest,
  manifest: BootManifest,
  initramfs: string,
  remark: (text: string) => void,
): string {
  const mini = openMini(initramfs);
  const { config } = mini;
  mini.close();
  requireSame(config, manifest, initramfs);
  const open = config.layers.find(({ verify }) => verify === 'none');
  // What is in the mini-initramfs is signed with it.
  if (open !== undefined && !manifest.embedded && !request.force)
    throw new MountError(
      'option',
      `${initramfs}: takes ${open.fs || config.bootfs} unchecked, so a signature would protect nothing of it: build with --verify verity (or --force)`,
    );
  if (config.onFailure === 'shell')
    remark(
      'when a check fails, a root shell opens on the console: build with --on-failure reboot or poweroff where that matters',
    );
  const words = textOf(request.cmdline ?? '')
    .split(/\s+/)
    .filter(Boolean);
  if (words.some((word) => word.startsWith(`${ROOTHASH_OPTION}=`)))
    throw new MountError('option', `--cmdline: ${ROOTHASH_OPTION}= is added here: leave it out`);
  const hashes = request.pin ? rootHashes(config, manifest) : undefined;
  if (hashes !== undefined) words.push(`${ROOTHASH_OPTION}=${hashes}`);
  // Where it is empty the stub takes that of whoever starts it, with Secure Boot, too.
  const line = words.join(' ') || ' ';
  if (/[^\x20-\x7e]/.test(line))
    throw new MountError(
      'option',
      '--cmdline: must be printable ASCII: the stub hands nothing else on',
    );
  if (line.length > MOST_CMDLINE)
    throw new MountError(
      'option',
      `--cmdline: ${line.length} bytes, Linux takes ${MOST_CMDLINE}: shorten it`,
    );
  return line;
}

/** @throws MountError when the mini-initramfs is not about the images of the build. */
function requireSame(config: BootConfig, manifest: BootManifest, initramfs: string): void {
  const digests = ({ layers }: BootConfig): string => layers.map(({ digest }) => digest).join();
  if (digests(config) === digests(manifest.config)) return;
  throw new MountError(
    'option',
    `${initramfs}: asks for other images than those of the build: name the one that was made of it`,
  );
}

function textOf(given: string): string {
  if (!given.startsWith('@')) return given;
  try {
    return readFileSync(given.slice(1), 'utf8');
  } catch (error) {
    throw new MountError('option', `--cmdline ${given}: ${reasonOf(error)}`);
  }
}

function osRelease(path: string | undefined): string | undefined {
  for (const one of path === undefined ? OS_RELEASE : [path]) {
    try {
      return readFileSync(one, 'utf8');
    } catch (error) {
      if (path !== undefined)
        throw new MountError('option', `--os-release ${path}: ${reasonOf(error)}`);
    }
  }
  return undefined;
}

function openFile(path: string, what: string): FileSource {
  try {
    const source = FileSource.open(path);
    if (source.size > 0) return source;
    source.close();
  } catch (error) {
    throw new MountError('option', `${path}: the ${what} cannot be read: ${reasonOf(error)}`);
  }
  throw new MountError('option', `${path}: the ${what} is empty`);
}

/** As `uname -r` says it, from the header of a kernel for x86; undefined: it has none. */
function releaseOf(kernel: ByteSource): string | undefined {
  const header = Buffer.alloc(Math.min(0x210, kernel.size));
  kernel.read(0, header);
  if (header.length < 0x210 || header.toString('latin1', 0x202, 0x206) !== 'HdrS') return undefined;
  const at = header.readUInt16LE(0x20e) + 0x200;
  const text = Buffer.alloc(Math.max(0, Math.min(256, kernel.size - at)));
  kernel.read(at, text);
  return /^[\x21-\x7e]+/.exec(text.toString('latin1'))?.[0];
}

function writeTo(
  path: string,
  stub: ByteSource,
  name: string,
  sections: readonly NewSection[],
): void {
  const fd = openSync(path, 'w', 0o644);
  try {
    writePe(stub, sections, name, (piece) => {
      for (let done = 0; done < piece.length; ) done += writeSync(fd, piece, done);
    });
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** The file under its name once it is complete, signed and checked. @returns its bytes. */
async function publish(
  out: string,
  key: SigningKey | undefined,
  write: (path: string) => void,
): Promise<number> {
  const plain = `${out}.new`;
  const signed = `${out}.signed`;
  try {
    write(plain);
    if (key !== undefined) {
      await signFile(plain, signed, key);
      await checkUkiSignature(signed, key.cert);
      renameSync(signed, plain);
      syncPath(plain);
    }
    const { size } = statSync(plain);
    renameSync(plain, out);
    syncPath(dirname(out));
    return size;
  } catch (error) {
    if (error instanceof MountError) throw error;
    throw new MountError('layer', `${out}: cannot be written: ${reasonOf(error)}`, {
      cause: error,
    });
  } finally {
    rmSync(plain, { force: true });
    rmSync(signed, { force: true });
  }
}

/**
 * sbsign takes a key without a passphrase or from a token. One with a passphrase is opened by openssl and handed over by a pipe
 * that the shell makes, because sbsign opens its key by name, and a socket cannot be opened so.
 */
async function signFile(plain: string, signed: string, key: SigningKey): Promise<void> {
  const common = ['--cert', key.cert, '--output', signed, plain];
  if (key.isToken) await runTool('sbsign', ['--engine', 'pkcs11', '--key', key.key, ...common]);
  else if (key.passphrase === undefined) await runTool('sbsign', ['--key', key.key, ...common]);
  else {
    const script = '"$1" pkey -in "$2" "$3" "$4" | { shift 4; exec "$@"; }';
    const opening = [needProgram('openssl'), key.key, ...passArguments(key)];
    const signing = [needProgram('sbsign'), '--key', '/dev/stdin', ...common];
    await withKey('sh', ['-c', script, 'sh', ...opening, ...signing], key);
  }
}

/** @throws MountError of kind `layer` when the program is not signed with the key of the certificate. */
export async function checkUkiSignature(file: string, certificate: string): Promise<void> {
  const { code } = await runTool('sbverify', ['--cert', certificate, file], { expected: [1] });
  if (code === 0) return;
  throw new MountError(
    'layer',
    `${file}: is not signed with the key of ${certificate}, or was altered: make it again with varve boot uki`,
  );
}
