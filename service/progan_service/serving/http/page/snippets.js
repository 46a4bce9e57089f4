// The code that makes what the page shows. Pure.

// what: { method: "Generate" | "Interpolate", request, seeds, edits, names, model, version, between, loop }
// server: { host, grpcPort, tls, tokens, origin }
export const SNIPPETS = { python, curl, grpcurl };

function python(what, server) {
  const options = [server.tls && "tls=Tls()", server.tokens && 'token="..."'].filter(Boolean);
  const tls = server.tls ? ", Tls" : "";
  const client = [quoted(`${server.host}:${server.grpcPort}`), ...options].join(", ");
  const shared = [`seeds=${list(what.seeds)}`, ...choice(what)];
  const edits = Object.entries(what.edits).map(([name, amount]) => `${quoted(name)}: ${amount}`);
  if (edits.length) shared.push(`edits={${edits.join(", ")}}`);
  if (edits.length && what.hold.length) shared.push(`hold=[${what.hold.map(quoted).join(", ")}]`);
  if (what.method === "Generate") {
    return `from progan_client import Client${tls}

with Client(${client}) as client:
    images = client.generate(
        ${lines(shared)},
    )
    images.save("image.png")
`;
  }
  const walk = [...shared, `frames_between=${what.between}`, what.loop && "loop=True", 'path="smooth"', 'pace="even"'];
  return `from progan_client import Client${tls}, save_animation

with Client(${client}) as client:
    frames = client.interpolate(
        ${lines(walk)},
    )
    save_animation(frames, "walk.webp")
`;
}

function lines(parts) {
  return parts.filter(Boolean).join(",\n        ");
}

function choice({ model, version, names }) {
  const labels = names.length === 1 ? [`label=${quoted(names[0])}`] : names.length ? [`labels=[${names.map(quoted).join(", ")}]`] : [];
  return [`model=${quoted(model)}`, ...(version ? [`version=${version}`] : []), ...labels];
}

function curl(what, server) {
  const token = server.tokens ? ` \\\n    -H 'Authorization: Bearer ...'` : "";
  const url = `${server.origin}/progan.v1.ImageGeneratorService/${what.method}`;
  if (what.method === "Generate") {
    const [seed] = what.seeds;
    const parameters = [what.version && `version=${what.version}`, ...what.names.map((name) => `label=${encodeURIComponent(name)}`)];
    const query = parameters.filter(Boolean).join("&");
    const address = `${server.origin}/v1/images/${encodeURIComponent(what.model)}/${seed}.png${query && "?" + query}`;
    const one = Object.keys(what.edits).length ? "" : `# one image\ncurl -o ${seed}.png ${shell(address)}${token}\n\n# all of them, as base64 in JSON\n`;
    return `${one}curl ${url} \\\n    -H 'Content-Type: application/json'${token} \\\n    -d ${shell(JSON.stringify(what.request))}\n`;
  }
  return `# A walk is a stream: frames of 5 bytes and a message, the first of which is the request.
python3 -c 'import sys; m = sys.argv[1].encode(); sys.stdout.buffer.write(bytes(1) + len(m).to_bytes(4, "big") + m)' \\
    ${shell(JSON.stringify(what.request))} |
  curl ${url} -H 'Content-Type: application/connect+json'${token} --data-binary @- -o walk.frames
`;
}

function grpcurl(what, server) {
  const token = server.tokens ? ` \\\n    -H 'authorization: Bearer ...'` : "";
  const plain = server.tls ? "" : "-plaintext ";
  return `grpcurl ${plain}-d ${shell(JSON.stringify(what.request))}${token} \\
    ${server.host}:${server.grpcPort} progan.v1.ImageGeneratorService/${what.method}
`;
}

function list(seeds) {
  return `[${seeds.join(", ")}]`;
}

function quoted(text) {
  return JSON.stringify(text);
}

function shell(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
