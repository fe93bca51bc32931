// How a file of Office names the files that belong to it: by an id, in a file of its own beside it.
import { attribute, readXml } from "./xml.ts";
import type { Zip } from "./zip.ts";

export interface Related {
  type: string;
  path: string;
}

function resolved(folder: string, target: string): string {
  if (target.startsWith("/")) return target.slice(1);
  const steps = folder.split("/");
  for (const step of target.split("/")) {
    if (step === "..") steps.pop();
    else if (step !== ".") steps.push(step);
  }
  return steps.filter(Boolean).join("/");
}

// What a file names, by id.
export async function related(zip: Zip, path: string): Promise<Map<string, Related>> {
  const cut = path.lastIndexOf("/");
  const [folder, name] = [path.slice(0, cut), path.slice(cut + 1)];
  const found = new Map<string, Related>();
  const list = `${folder}/_rels/${name}.rels`;
  if (!zip.has(list)) return found;
  await readXml(zip.stream(list), {
    open: (tag, attributes) => {
      if (tag !== "Relationship" || attribute(attributes, "TargetMode") === "External") return;
      const type = attribute(attributes, "Type").split("/").pop() ?? "";
      found.set(attribute(attributes, "Id"), {
        type,
        path: resolved(folder, attribute(attributes, "Target")),
      });
    },
  });
  return found;
}
