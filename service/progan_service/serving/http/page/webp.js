// An animation out of WebP files of one size: each file's image goes into a frame of an extended file.
// https://developers.google.com/speed/webp/docs/riff_container

const MAX_MS = 0xffffff;

// Returns the bytes of an animation that loops for ever.
export function animation(files, width, height, frameMs) {
  const size = [...u24(width - 1), ...u24(height - 1)];
  const header = chunk("VP8X", [2, 0, 0, 0, ...size]);
  const loop = chunk("ANIM", [255, 255, 255, 255, 0, 0]);
  const place = [0, 0, 0, 0, 0, 0, ...size, ...u24(Math.min(frameMs, MAX_MS)), 2];
  const frames = files.map((file) => chunk("ANMF", place, ...images(file)));
  return new Blob([chunk("RIFF", "WEBP", header, loop, ...frames)], { type: "image/webp" });
}

// Returns the chunks of a file that hold its image.
function images(file) {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const found = [];
  for (let at = 12; at + 8 <= file.length;) {
    const name = String.fromCharCode(...file.subarray(at, at + 4));
    const end = at + 8 + view.getUint32(at + 4, true);
    const padded = end + (end & 1);
    if (["VP8 ", "VP8L", "ALPH"].includes(name)) found.push(file.subarray(at, padded));
    at = padded;
  }
  return found;
}

function chunk(name, ...parts) {
  const content = parts.map((part) => (typeof part === "string" ? letters(part) : Uint8Array.from(part)));
  const length = content.reduce((sum, part) => sum + part.length, 0);
  const bytes = new Uint8Array(8 + length + (length & 1));
  bytes.set(letters(name));
  new DataView(bytes.buffer).setUint32(4, length, true);
  let at = 8;
  for (const part of content) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function letters(text) {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

function u24(number) {
  return [number & 255, (number >> 8) & 255, (number >> 16) & 255];
}
