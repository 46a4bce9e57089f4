// The playground: choose a model, look at seeds, keep some, edit them, walk between them.

import { Service, fromBase64 } from "./service.js";
import { SNIPPETS } from "./snippets.js";
import { animation } from "./webp.js";

const SHOWN = 24;
const FPS = 24;
const LAST_SEED = 2n ** 64n - 1n;
const NAMES = { PNG: "IMAGE_ENCODING_PNG", WEBP: "IMAGE_ENCODING_WEBP" };

const service = new Service();
const $ = (id) => document.getElementById(id);
const state = {
  models: [],
  seeds: [],
  kept: [], // {seed, url}
  edits: {}, // amount by direction; 0 is left out
  held: new Set(),
  frames: [], // {bitmap, file}
  size: [0, 0],
  last: null, // what the code shows
  server: {},
};
let showing, walking, playing;

// What is chosen

function model() {
  return state.models.find(({ name }) => name === $("model").value);
}

function version() {
  return model()?.versions?.find((one) => one.version === $("version").value);
}

function chosenNames() {
  const one = version();
  if (!one?.labelNames?.length) return [];
  if (!$("class-choice").hidden) return [$("class").value];
  return [...$("attributes").querySelectorAll("input:checked")].map((box) => box.value);
}

function common() {
  const edits = Object.entries(state.edits).filter(([, amount]) => amount);
  const hold = [...state.held];
  return {
    model: { name: model().name, version: version().version },
    ...(chosenNames().length ? { labelNames: chosenNames() } : {}),
    ...(edits.length
      ? { edits: edits.map(([direction, offset]) => ({ direction, offset, hold: hold.filter((name) => name !== direction) })) }
      : {}),
  };
}

// Models

async function loadModels() {
  const { models = [] } = await service.call("ListModels", {});
  state.models = models.filter((one) => ready(one).length);
  if (!state.models.length) throw new Error("no model is ready yet; this page tries again");
  fill($("model"), state.models.map(({ name }) => [name, name]));
  $("model").value = (state.models.find((one) => one.isDefault) ?? state.models[0]).name;
  await chooseModel();
}

function ready({ versions = [] }) {
  return versions.filter(({ state }) => state === "MODEL_STATE_READY");
}

function chooseModel() {
  const one = model();
  const labels = Object.entries(one.versionLabels ?? {});
  fill($("version"), ready(one).map(({ version }) => [version, [version, ...labels.filter(([, number]) => number === version).map(([label]) => label)].join(" ")]));
  if (one.servingVersion) $("version").value = one.servingVersion;
  return chooseVersion();
}

function chooseVersion() {
  const { labelNames = [], labelKind, labelCount = 0, directions = [] } = version();
  const attributes = labelKind === "LABEL_KIND_ATTRIBUTES";
  $("class-choice").hidden = attributes || !labelNames.length;
  $("attributes").hidden = !attributes || !labelNames.length;
  fill($("class"), labelNames.map((name) => [name, name]));
  $("attributes").replaceChildren($("attributes").firstElementChild, ...labelNames.map(attributeBox));
  state.edits = {};
  state.held = new Set();
  $("edits").hidden = !directions.length;
  $("edits").replaceChildren($("edits").firstElementChild, ...directions.map(editRow));
  showFacts();
  forgetKept();
  if (labelCount && !labelNames.length) throw new Error("this version has labels without names; the page cannot ask for them");
  return showGrid();
}

function attributeBox(name) {
  const box = Object.assign(document.createElement("input"), { type: "checkbox", value: name });
  box.addEventListener("change", () => reporting(showGrid));
  const label = document.createElement("label");
  label.append(box, ` ${name}`);
  return label;
}

function editRow({ name }) {
  const row = Object.assign(document.createElement("div"), { className: "edit" });
  const id = `edit-${name}`;
  const label = Object.assign(document.createElement("label"), { htmlFor: id, textContent: name });
  const slider = Object.assign(document.createElement("input"), { id, type: "range", min: -3, max: 3, step: 0.25, value: 0 });
  const shown = Object.assign(document.createElement("output"), { textContent: "0" });
  slider.addEventListener("input", () => {
    state.edits[name] = Number(slider.value);
    shown.textContent = slider.value;
  });
  slider.addEventListener("change", () => reporting(showGrid));
  const hold = document.createElement("label");
  const box = Object.assign(document.createElement("input"), { type: "checkbox" });
  box.addEventListener("change", () => {
    state.held[box.checked ? "add" : "delete"](name);
    reporting(showGrid);
  });
  hold.append(box, " hold");
  row.append(label, slider, shown, hold);
  return row;
}

function showFacts() {
  const { resolution, channels, latentSize = "", digest, provenance = {} } = version();
  const facts = [
    ["images", `${resolution}x${resolution}, ${channels === 1 ? "grey" : "RGB"}`],
    ["latents", `${latentSize} values`],
    ["digest", digest],
    ["made by", [provenance.source, provenance.images_shown && `${provenance.images_shown / 1000} kimg`].filter(Boolean).join(", ")],
    ["licence", provenance.license ?? provenance.dataset?.licence ?? "none is stated"],
  ];
  $("facts").replaceChildren(
    ...facts.flatMap(([name, value]) => [
      Object.assign(document.createElement("dt"), { textContent: name }),
      Object.assign(document.createElement("dd"), { textContent: value, className: value.length > 80 && name === "licence" ? "text" : "" }),
    ]),
  );
}

// The grid

async function showGrid() {
  showing?.abort();
  const { signal } = (showing = new AbortController());
  const first = BigInt($("first").value || 0);
  state.seeds = Array.from({ length: SHOWN }, (_, index) => String((first + BigInt(index)) & LAST_SEED));
  const request = { ...common(), latents: { seeds: { seeds: state.seeds } }, format: { encoding: NAMES.PNG } };
  note({ method: "Generate", request, seeds: state.seeds });
  $("grid").setAttribute("aria-busy", "true");
  const { images } = await service.call("Generate", request, signal);
  for (const image of $("grid").querySelectorAll("img")) release(image.src);
  $("grid").replaceChildren(...images.files.map((file, index) => imageButton(state.seeds[index], file)));
  $("grid").setAttribute("aria-busy", "false");
}

function imageButton(seed, file) {
  const url = URL.createObjectURL(new Blob([fromBase64(file)], { type: "image/png" }));
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.append(Object.assign(document.createElement("img"), { src: url, alt: "" }), caption(`seed ${seed}`));
  button.setAttribute("aria-pressed", String(isKept(seed)));
  button.dataset.seed = seed;
  button.addEventListener("click", () => toggle(seed, url));
  return button;
}

function caption(text) {
  return Object.assign(document.createElement("span"), { textContent: text });
}

function release(url) {
  if (!state.kept.some((one) => one.url === url)) URL.revokeObjectURL(url);
}

// The kept ones

function isKept(seed) {
  return state.kept.some((one) => one.seed === seed);
}

function toggle(seed, url) {
  state.kept = isKept(seed) ? state.kept.filter((one) => one.seed !== seed) : [...state.kept, { seed, url }];
  showKept();
}

function forgetKept() {
  state.kept = [];
  endWalk();
  $("screen").hidden = $("save").hidden = true;
  showKept();
}

function showKept() {
  $("kept").replaceChildren(
    ...state.kept.map(({ seed, url }) => {
      const button = Object.assign(document.createElement("button"), { type: "button", title: "Forget it" });
      button.append(Object.assign(document.createElement("img"), { src: url, alt: "" }), caption(`seed ${seed}`));
      button.setAttribute("aria-label", `seed ${seed}: forget it`);
      button.addEventListener("click", () => toggle(seed, url));
      return button;
    }),
  );
  for (const button of $("grid").children) button.setAttribute("aria-pressed", String(isKept(button.dataset.seed)));
  $("none-kept").hidden = state.kept.length >= 2;
  $("walk").hidden = !state.kept.length;
  $("play").disabled = state.kept.length < 2;
}

// The walk

async function walk() {
  endWalk();
  const { signal } = (walking = new AbortController());
  state.frames = [];
  $("screen").hidden = $("stop").hidden = false;
  $("save").hidden = true;
  const seeds = state.kept.map(({ seed }) => seed);
  const between = Number($("between").value);
  const loop = $("loop").checked;
  const request = {
    ...common(),
    keyFrames: { seeds: { seeds } },
    framesBetween: between,
    loop,
    path: "INTERPOLATION_PATH_SMOOTH",
    pace: "PACE_EVEN",
    format: { encoding: NAMES.WEBP },
  };
  note({ method: "Interpolate", request, seeds, between, loop });
  const whole = loop ? seeds.length * (between + 1) : seeds.length + (seeds.length - 1) * between;
  $("progress").textContent = "measuring the path ...";
  playing = requestAnimationFrame((now) => play(now, now));
  for await (const { images } of service.stream("Interpolate", request, signal)) {
    state.size = [images.width, images.height];
    for (const text of images.files) {
      const file = fromBase64(text);
      state.frames.push({ file, bitmap: await createImageBitmap(new Blob([file], { type: "image/webp" })) });
    }
    $("progress").textContent = `${state.frames.length} of ${whole} frames`;
    $("frame").max = state.frames.length - 1;
    if (state.frames.length === 1) draw(0);
  }
  $("save").hidden = false;
}

function play(started, now) {
  const count = state.frames.length;
  if (count && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
    draw(Math.floor(((now - started) / 1000) * FPS) % count);
  }
  playing = requestAnimationFrame((next) => play(started, next));
}

function draw(index) {
  const { bitmap } = state.frames[index];
  const canvas = $("canvas");
  if (canvas.width !== bitmap.width * 4) [canvas.width, canvas.height] = [bitmap.width * 4, bitmap.height * 4];
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  $("frame").value = index;
}

function pause() {
  cancelAnimationFrame(playing);
  $("stop").hidden = true;
}

function endWalk() {
  walking?.abort();
  pause();
}

function save() {
  const [width, height] = state.size;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(animation(state.frames.map(({ file }) => file), width, height, Math.round(1000 / FPS)));
  link.download = "walk.webp";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// The code

function note(what) {
  const edits = Object.fromEntries(Object.entries(state.edits).filter(([, amount]) => amount));
  state.last = { edits, hold: [...state.held], names: chosenNames(), model: model().name, version: version().version, ...what };
  showCode();
}

function showCode() {
  const language = document.querySelector(".language[aria-pressed=true]").dataset.language;
  if (state.last) $("code").textContent = SNIPPETS[language](state.last, state.server);
}

// Errors

async function reporting(work) {
  try {
    await work();
    $("problem").hidden = true;
  } catch (error) {
    if (error.name === "AbortError") return;
    $("problem").textContent = error.message;
    $("problem").hidden = false;
    $("grid").setAttribute("aria-busy", "false");
    if (error.code === "unauthenticated") {
      $("access").hidden = false;
      $("token").focus();
    }
  }
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}

async function begin() {
  await reporting(loadModels);
  if (!state.models.length && $("access").hidden) setTimeout(begin, 2000);
}

// Events

function on(id, event, action) {
  $(id).addEventListener(event, (happened) => {
    if (event === "submit") happened.preventDefault();
    reporting(async () => action(happened));
  });
}

function step(by) {
  $("first").value = String((BigInt($("first").value || 0) + BigInt(by)) & LAST_SEED);
  return showGrid();
}

on("choice", "submit", () => {});
on("model", "change", chooseModel);
on("version", "change", chooseVersion);
on("class", "change", showGrid);
on("seeds", "submit", showGrid);
on("before", "click", () => step(-SHOWN));
on("after", "click", () => step(SHOWN));
on("random", "click", () => {
  $("first").value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
  return showGrid();
});
on("walk", "submit", walk);
on("stop", "click", endWalk);
on("save", "click", save);
on("forget", "click", forgetKept);
on("between", "input", () => ($("between-shown").textContent = $("between").value));
on("frame", "input", () => {
  pause();
  draw(Number($("frame").value));
});
on("copy", "click", () => navigator.clipboard.writeText($("code").textContent));
on("access", "submit", () => {
  service.useToken($("token").value.trim());
  $("token").value = "";
  $("access").hidden = true;
  return begin();
});
for (const button of document.querySelectorAll(".language")) {
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll(".language")) other.setAttribute("aria-pressed", String(other === button));
    showCode();
  });
}

fetch("/playground/server.json")
  .then((response) => response.json())
  .catch(() => ({}))
  .then(({ grpcPort, tls = false, tokens = false }) => {
    state.server = { host: location.hostname, origin: location.origin, grpcPort, tls, tokens };
    return begin();
  });
