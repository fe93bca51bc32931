// Starts workers. Under Trusted Types this is the page's one way to run another script: its policy admits the paths of
// the workers that were built with this page, and nothing else.

// The build puts in which file is which worker's.
declare const WORKER_FILES: { readonly reader: string; readonly colouring: string };

type Worker_ = keyof typeof WORKER_FILES;

interface Policy {
  createScriptURL: (name: string) => string;
}

interface Factory {
  createPolicy: (name: string, rules: Policy) => Policy;
}

// The header names it (sluice.web.http.guard).
const POLICY = "sluice-worker";

function path(name: string): string {
  if (!Object.hasOwn(WORKER_FILES, name)) throw new TypeError(`no worker is called ${name}`);
  return new URL(WORKER_FILES[name as Worker_], import.meta.url).href;
}

function made(): Policy | undefined {
  const { trustedTypes } = globalThis as { trustedTypes?: Factory };
  return trustedTypes
    ? trustedTypes.createPolicy(POLICY, { createScriptURL: path })
    : { createScriptURL: path };
}

let policy: Policy | undefined;
try {
  // At once: the header admits one policy of this name, so nothing else can make it later.
  policy = made();
} catch {
  // Something was here before. The page works without workers; what needs one says so.
}

// Raises TypeError where no worker can be started.
export function startWorker(name: Worker_): Worker {
  if (!policy) throw new TypeError("there is no policy for workers");
  return new Worker(policy.createScriptURL(name), { type: "module" });
}
