// Calls a server by connect-web's transports, and says as JSON what came.
//   node ask.mjs ADDRESS DESCRIPTORS MODEL
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";

const [address, descriptors, model] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
const service = registry.getService("progan.v1.ImageGeneratorService");
const baseUrl = `http://${address}`;
const transports = {
  "connect json": createConnectTransport({ baseUrl }),
  "connect binary": createConnectTransport({ baseUrl, useBinaryFormat: true }),
  "grpc-web": createGrpcWebTransport({ baseUrl }),
};

const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");

async function ask(transport) {
  const client = createClient(service, transport);
  const seeds = { case: "seeds", value: { seeds: [1337n, 2n ** 64n - 1n] } };
  const { images } = await client.generate({ model: { name: model }, latents: { source: seeds } });
  let frames = 0;
  const keyFrames = { source: { case: "seeds", value: { seeds: [1n, 2n] } } };
  for await (const reply of client.interpolate({ model: { name: model }, keyFrames, framesBetween: 3 })) {
    frames += reply.images.count;
  }
  const refusal = await client.getModel({ name: "stranger" }).catch((error) => Code[ConnectError.from(error).code]);
  return { seeds: digest(images.pixels), frames, refusal };
}

const seen = {};
for (const [name, transport] of Object.entries(transports)) seen[name] = await ask(transport);
console.log(JSON.stringify(seen));
