// The import directions of ARCHITECTURE.md as a check: `npm run check:imports`.
// One row a room: the rooms under src/ that it may import besides itself. Change a row here
// only together with the table in ARCHITECTURE.md.

const everythingUnderStack = [
  'bytes',
  'linux',
  'vfs',
  'fuse',
  'supervisor',
  'tree',
  'erofs',
  'store',
  'oci',
  'layer',
  'imagefs',
  'overlay',
  'lazy',
  'union',
  'report',
  'sandbox',
];

/** Room -> rooms it may import. A file is written as `room/file`. */
const rooms = {
  bytes: [],
  linux: ['bytes'],
  vfs: ['linux', 'bytes'],
  fuse: ['vfs', 'linux', 'bytes'],
  supervisor: ['linux', 'bytes'],
  tree: ['linux', 'bytes'],
  erofs: ['tree', 'linux', 'bytes'],
  store: ['erofs', 'tree', 'linux', 'bytes'],
  oci: ['store', 'tree', 'linux', 'bytes'],
  layer: ['lazy', 'store', 'erofs', 'tree', 'vfs', 'linux', 'bytes'],
  imagefs: ['erofs', 'store', 'vfs', 'linux', 'bytes'],
  overlay: ['layer/layer.ts', 'vfs', 'linux', 'bytes'],
  lazy: ['oci', 'store', 'erofs', 'tree', 'linux', 'bytes'],
  union: ['store', 'erofs', 'tree', 'linux', 'bytes'],
  report: ['union', 'tree', 'linux', 'bytes'],
  sandbox: ['supervisor', 'linux', 'bytes'],
  stack: everythingUnderStack,
  named: ['stack', ...everythingUnderStack],
  ops: ['stack', ...everythingUnderStack],
  wine: ['ops', 'named', 'stack', ...everythingUnderStack],
  boot: ['ops', 'named', 'stack', ...everythingUnderStack],
  cli: ['wine', 'boot', 'ops', 'named', 'stack', ...everythingUnderStack],
};

/** @param {string} place */
const pattern = (place) => (place.endsWith('.ts') ? `${place.replace('.', '\\.')}$` : `${place}/`);

const roomRules = Object.entries(rooms).map(([room, allowed]) => ({
  name: `${room}-imports`,
  comment: `src/${room} may import only: ${allowed.join(', ') || 'nothing'}.`,
  severity: 'error',
  from: { path: `^src/${room}/` },
  to: {
    path: '^src/',
    pathNot: `^src/(?:${[room, ...allowed].map(pattern).join('|')})`,
  },
}));

const known = `^src/(?:${Object.keys(rooms).join('|')})/`;

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    ...roomRules,
    {
      name: 'known-rooms',
      comment: 'Every file of src/ stands in a room of ARCHITECTURE.md.',
      severity: 'error',
      from: {},
      to: { path: '^src/', pathNot: known },
    },
    {
      name: 'known-rooms-only',
      comment: 'The same for a file that nobody imports: it may import nothing itself.',
      severity: 'error',
      from: { path: '^src/', pathNot: known },
      to: {},
    },
    {
      name: 'product-never-imports-tests',
      comment: 'src/ is what is published; test/ and bench/ are not.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(?:test|bench|scripts)/' },
    },
    {
      name: 'no-circular',
      comment: 'Imports point one way, type-only imports included.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'ffi-only-in-linux',
      comment: 'src/linux is the only place that knows about FFI.',
      severity: 'error',
      from: { path: '^(?:src|bench)/', pathNot: '^src/linux/' },
      to: { path: '(?:^|/)koffi(?:/|$)' },
    },
    {
      name: 'no-undeclared-packages',
      comment: 'A package that src/ imports is a dependency, never a development one.',
      severity: 'error',
      from: { path: '^src/' },
      to: {
        dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'],
        dependencyTypesNot: ['type-only'],
      },
    },
    {
      name: 'resolvable',
      comment: 'Every import resolves.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^dist/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'types', 'node', 'default'],
    },
  },
};
