// The service by Connect: POST /progan.v1.ImageGeneratorService/METHOD, JSON both ways.

const PATH = "/progan.v1.ImageGeneratorService/";
const END_OF_STREAM = 2;

// An error of the service in its own words. `code` is Connect's, such as "unauthenticated".
export class ServiceError extends Error {
  constructor({ code = "unknown", message = "" }) {
    super(message || code);
    this.code = code;
  }
}

export class Service {
  #token = "";

  useToken(token) {
    this.#token = token;
  }

  // Returns the reply of a method with one reply.
  async call(method, request, signal) {
    const response = await this.#post(method, "application/json", JSON.stringify(request), signal);
    const reply = await response.json().catch(() => ({ message: `the server answered ${response.status}` }));
    if (!response.ok) throw new ServiceError({ ...reply, message: reply.message ?? reply.error });
    return reply;
  }

  // Yields the replies of a method with a stream of replies.
  async *stream(method, request, signal) {
    const body = frame(new TextEncoder().encode(JSON.stringify(request)));
    const response = await this.#post(method, "application/connect+json", body, signal);
    if (!response.ok) throw new ServiceError({ message: `the server answered ${response.status}` });
    for await (const { flags, content } of frames(response.body)) {
      const message = JSON.parse(new TextDecoder().decode(content));
      if (!(flags & END_OF_STREAM)) {
        yield message;
      } else if (message.error) {
        throw new ServiceError(message.error);
      } else {
        return;
      }
    }
    throw new ServiceError({ code: "unavailable", message: "the connection was cut before the end" });
  }

  async #post(method, type, body, signal) {
    const headers = { "Content-Type": type, "Connect-Protocol-Version": "1" };
    if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
    try {
      return await fetch(PATH + method, { method: "POST", headers, body, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServiceError({ code: "unavailable", message: "the server does not answer" });
    }
  }
}

function frame(content) {
  const framed = new Uint8Array(5 + content.length);
  new DataView(framed.buffer).setUint32(1, content.length);
  framed.set(content, 5);
  return framed;
}

async function* frames(body) {
  let rest = new Uint8Array();
  for (const reader = body.getReader(); ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const joined = new Uint8Array(rest.length + value.length);
    joined.set(rest);
    joined.set(value, rest.length);
    rest = joined;
    while (rest.length >= 5) {
      const length = new DataView(rest.buffer, rest.byteOffset).getUint32(1);
      if (rest.length < 5 + length) break;
      yield { flags: rest[0], content: rest.subarray(5, 5 + length) };
      rest = rest.subarray(5 + length);
    }
  }
}

// Returns the bytes of a field of type `bytes`.
export function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
