// Reads resources as a JSON list and prints what is wrong with each, as a JSON list of texts; "" if nothing is.
// The schemas allow unknown fields. Validation reads each field that it knows, so what nobody reads is unknown.
import { readFileSync } from "node:fs";

const PACKAGES = {
  "gateway.networking.k8s.io": "gateway-api",
  "keda.sh": "keda",
  "monitoring.coreos.com": "prometheus-operator",
};

/** Wraps data so that what is read from it is taken from `unread`, a set of paths. */
function watched(data, unread, path = "") {
  if (data === null || typeof data !== "object") return data;
  Object.keys(data).forEach((key) => unread.add(`${path}/${key}`));
  const inner = Object.fromEntries(Object.keys(data).map((key) => [key, watched(data[key], unread, `${path}/${key}`)]));
  return new Proxy(Array.isArray(data) ? Object.values(inner) : inner, {
    get: (target, key) => {
      if (typeof key === "string") unread.delete(`${path}/${key}`);
      return target[key];
    },
  });
}

async function problemOf(resource) {
  const [group] = resource.apiVersion.split("/");
  const model = await import(`@kubernetes-models/${PACKAGES[group]}/${resource.apiVersion}/${resource.kind}`);
  const unread = new Set();
  try {
    model[resource.kind].prototype.validate.call(watched(resource, unread));
  } catch (error) {
    return error.message;
  }
  return [...unread].map((path) => `${path} is unknown`).join("\n");
}

const resources = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(await Promise.all(resources.map(problemOf))));
