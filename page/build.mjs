// Builds what browsers load: `node build.mjs FOLDER`. Each file's name carries a digest of its content, and
// manifest.json says which name is whose. Equal sources make equal bytes.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { build } from "esbuild";

const HERE = import.meta.dirname;
const out = process.argv[2];

const SHARED = {
  absWorkingDir: HERE,
  bundle: true,
  minify: true,
  metafile: true,
  logLevel: "warning",
  legalComments: "none",
  charset: "utf8",
  outdir: out,
  entryNames: "[name]-[hash]",
  chunkNames: "chunk-[hash]",
  assetNames: "[name]-[hash]",
  // What the style sheets need: light-dark().
  target: ["chrome123", "firefox120", "safari17.5"],
  jsx: "automatic",
  jsxImportSource: "preact",
  loader: { ".svg": "copy" },
};

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

// The style sheet of formulas, with its fonts. KaTeX offers each font in two older forms, which no browser above needs.
const MODERN = {
  name: "modern fonts",
  setup({ onLoad }) {
    onLoad({ filter: /katex\.css$/ }, ({ path }) => {
      const older = /,\s*url\([^)]*\)\s*format\("(?:woff|truetype)"\)/g;
      return { contents: readFileSync(path, "utf8").replace(older, ""), loader: "css" };
    });
  },
};
const FORMULAS = "src/styles/formulas.css";
const formulas = await build({
  ...SHARED,
  entryPoints: [FORMULAS],
  loader: { ".woff2": "file" },
  assetNames: "font-[hash]",
  plugins: [MODERN],
});
// What the chat page loads when it first needs it. It is built apart: built together, what both need would be a third file.
const LAZY = ["src/markdown/typesetting.ts", "src/transfer/read.ts"];
const lazy = await Promise.all(
  LAZY.map((entry) => build({ ...SHARED, entryPoints: [entry], format: "esm", splitting: true })),
);
const name = (made, entry) => {
  const [path] = Object.entries(made.metafile.outputs).find(([, one]) => one.entryPoint === entry);
  return JSON.stringify(basename(path));
};
const [TYPESETTING, TRANSFER_READER] = lazy.map((made, at) => name(made, LAZY[at]));

// What runs beside a page, in workers. The page is told their names when it is built: it admits no others.
const WORKERS = { reader: "src/attachments/worker.ts", colouring: "src/markdown/colouring.ts" };
const workers = await Promise.all(
  Object.values(WORKERS).map((entry) =>
    build({ ...SHARED, entryPoints: [entry], format: "esm", splitting: true }),
  ),
);
const workerNames = Object.entries(WORKERS).map(
  ([worker, entry], at) => `"${worker}": ${name(workers[at], entry)}`,
);
const WORKER_FILES = `{ ${workerNames.join(", ")} }`;

// Each page's script has all that it needs to be ready: a page that has loaded one file is.
const MODULES = ["src/chat.tsx", "src/admin.ts", "src/keys.ts", "src/status.ts"];
const modules = await Promise.all(
  MODULES.map((entry) =>
    build({
      ...SHARED,
      entryPoints: [entry],
      format: "esm",
      splitting: true,
      define: { TYPESETTING, FORMULA_STYLES: name(formulas, FORMULAS), TRANSFER_READER, WORKER_FILES },
    }),
  ),
);
// It runs before the page is painted, so it is no module: modules wait for the whole page. It brings the words of
// the page, in one language: in the page itself each visit would load them again, and uncompressed.
const WORDS = join(HERE, "../files/sluice/src/sluice/web/words/texts");
const OF_SCRIPTS = "js.";
const EARLY = /^early\.[a-z]+\.js$/;
const WITH_WORDS = {
  name: "words",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: EARLY }, ({ path }) => ({ path, namespace: "words" }));
    onLoad({ filter: EARLY, namespace: "words" }, ({ path }) => {
      const texts = JSON.parse(readFileSync(join(WORDS, `${path.split(".")[1]}.json`), "utf8"));
      const ours = Object.entries(texts).filter(([key]) => key.startsWith(OF_SCRIPTS));
      const words = Object.fromEntries(ours.map(([key, text]) => [key.slice(OF_SCRIPTS.length), text]));
      return {
        contents: `import "./src/theme.ts";\nglobalThis.sluiceTexts = ${JSON.stringify(words)};`,
        resolveDir: HERE,
      };
    });
  },
};
const languages = readdirSync(WORDS).map((file) => file.replace(".json", ""));
const early = await Promise.all(
  languages.map((language) =>
    build({
      ...SHARED,
      entryPoints: [{ in: `early.${language}.js`, out: "early" }],
      format: "iife",
      plugins: [WITH_WORDS],
    }),
  ),
);
// It runs in a frame with an origin of its own, where modules could not be loaded. Mermaid is a script already.
const framed = await build({ ...SHARED, entryPoints: ["src/diagram.ts"], format: "iife" });
const mermaid = await build({
  ...SHARED,
  entryPoints: { mermaid: "node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js" },
  loader: { ".js": "copy" },
});
const others = await build({
  ...SHARED,
  entryPoints: ["src/styles/sluice.css", "src/styles/keys.css", "src/styles/usage.css", "src/icon.svg"],
});

const outputs = Object.entries(
  Object.assign(
    {},
    ...[...modules, ...lazy, ...workers, ...early, framed, mermaid, formulas, others].map(
      (made) => made.metafile.outputs,
    ),
  ),
);
const files = {};
for (const [path, made] of outputs) {
  const name = basename(path);
  const source =
    made.entryPoint &&
    basename(made.entryPoint)
      .replace(/^words:/, "")
      .replace(/\.tsx?$/, ".js");
  if (!source || (source.endsWith(".js") && name.endsWith(".css"))) continue;
  const imports = made.imports
    .filter((one) => one.kind === "import-statement")
    .map((one) => basename(one.path));
  // A style sheet's fonts.
  const fonts = made.imports.filter((one) => one.kind === "url-token").map((one) => basename(one.path));
  const styles = made.cssBundle ? [basename(made.cssBundle)] : [];
  files[source] = { file: name, imports, styles, fonts: fonts.sort() };
}
const sorted = Object.fromEntries(Object.entries(files).sort());
writeFileSync(join(out, "manifest.json"), `${JSON.stringify({ version: 1, files: sorted }, null, 1)}\n`);
writeFileSync(join(out, "licenses.txt"), licenses(outputs));

// The licences of the packages whose code is in the files.
function licenses(outputs) {
  const inputs = outputs.flatMap(([, made]) => Object.keys(made.inputs));
  const packages = new Set(
    inputs.flatMap((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? []),
  );
  const texts = [...packages].sort().map((name) => {
    const folder = join(HERE, "node_modules", name);
    const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    return `${name} ${version}, ${license}\n\n${text(folder)}`;
  });
  return texts.join("\n----\n\n");
}

function text(folder) {
  const name = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
  if (!name) throw new Error(`${relative(HERE, folder)} has no licence`);
  return readFileSync(join(folder, name), "utf8").replaceAll("\r\n", "\n");
}
