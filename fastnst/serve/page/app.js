// The page: what is shown, chosen and painted.

import { Camera } from "./camera.js";
import { askToken, offerFiles } from "./files.js";
import { listen, openPicture, takesPhotographs } from "./intake.js";
import { keepOffline } from "./offline.js";
import { within } from "./picture.js";
import { Placard } from "./placard.js";
import { Stage } from "./stage.js";
import { Studio } from "./studio.js";
import { Wall } from "./wall.js";

const CARD = 192; // pixels of the longer side of a small painting
const PREVIEW = 384; // and of one that follows a control while it moves
const PLAIN = { strength: 1, stroke: 1, colors: null };
const EXAMPLE = new URL("example.webp", import.meta.url);

const find = (id) => document.getElementById(id);
const stage = new Stage(find);
const wall = new Wall(find("cards"), { onChoose: choose, onOwn: () => find("style-file").click() });
const placard = new Placard(find, { onInput: preview, onRest: rest, onCancel: cancel });

let config = null;
let studio = null;
let camera = null;
let picture = null; // what is painted
let style = null; // that is chosen
let painting = null; // at full size
let longest = null; // bound of the longer side, if all of the picture is too large
let cards = new AbortController();
let current = new AbortController();
let previewing = null;
let opening = null; // the picture that is being opened, as it was given
let stale = false; // whether a preview stands where the painting was
const own = [];

start();

async function start() {
  try {
    config = await (await fetch("styles.json")).json();
  } catch {
    const remedy = "See whether the network is there, and load the page again.";
    find("engine").textContent = `The styles did not arrive. ${remedy}`;
    return;
  }
  config.styles.forEach((each) => wall.add(each));
  studio = new Studio(config, (wrong) => askToken(find, wrong));
  camera = new Camera(find, studio, { onStill: begin });
  listen({ find, onFile: take, onNothing: complain });
  find("try").addEventListener("click", () => begin(EXAMPLE));
  find("photograph").addEventListener("click", photograph);
  find("start-over").addEventListener("click", startOver);
  offerFiles(find, { fileOf: (format) => studio.file(painting, format), nameOf: () => painting.name, announce, complain });
  document.body.dataset.loaded = "true";
  await studio.ready;
  tellEngine();
  await showExample();
  document.body.dataset.idle = "true";
  keepOffline(config, () => !picture);
}

function tellEngine() {
  const here = `Painted in this browser, with ${studio.engine}.`;
  const there = "This browser cannot paint, so the server does: pictures are sent to it.";
  const nowhere = `This browser cannot paint (${studio.reason}). Try a current Chrome, Edge, Firefox or Safari.`;
  find("engine").textContent = studio.paintsHere ? here : studio.server ? there : nowhere;
  const backup = studio.server ? " One too large for this browser goes to the server, and the page says so." : "";
  const stays = `Pictures stay on this device.${backup}`;
  find("privacy").textContent = studio.paintsHere ? stays : find("engine").textContent;
}

/** The example painted on the first screen, so that it explains itself. */
async function showExample() {
  if (!studio.paintsHere || picture) return;
  const [width, height] = [stage.before.naturalWidth || 720, stage.before.naturalHeight || 405];
  const example = { id: "example", file: await fileOf(EXAMPLE), width, height };
  const job = { picture: example, style: styleOf(config.default), options: PLAIN, size: { width, height } };
  try {
    const painted = await studio.paint(job, { signal: current.signal });
    if (!picture) await stage.painting(painted, { at: 50 });
  } catch {
    // The example alone says enough.
  }
}

async function fileOf(address) {
  const blob = await (await fetch(address)).blob();
  return new File([blob], "panda.webp", { type: blob.type });
}

function styleOf(name) {
  return [...config.styles, ...own].find((each) => each.name === name);
}

/** A file of any kind. */
function take(file) {
  return /\.onnx$/i.test(file.name) ? addStyle(file) : begin(file);
}

/** Begin with a picture: a file, or the address of one. */
async function begin(given) {
  opening = given;
  let opened;
  try {
    opened = await openPicture(given instanceof URL ? await fileOf(given) : given);
  } catch (error) {
    if (opening === given) opening = null;
    complain(error.message);
    return;
  }
  if (opening !== given) return; // another one was given meanwhile
  opening = null;
  stop();
  if (picture) URL.revokeObjectURL(picture.url);
  [picture, painting, longest] = [opened, null, null];
  stage.picture(picture);
  stage.zoomable = true;
  placard.notice(null);
  show("ready");
  wall.wait(picture);
  if (style) choose(style);
  else {
    placard.ask();
    wall.list.parentElement.focus({ preventScroll: true });
    announce("Your picture is being painted small in each style. Choose one.");
  }
  await paintCards([...config.styles, ...own]);
}

async function paintCards(styles) {
  const { signal } = cards;
  let silent = false;
  for (const each of styles) {
    const job = { picture, style: each, options: PLAIN, size: within(picture, CARD) };
    try {
      const painted = await studio.paint(job, { signal });
      if (signal.aborted) return;
      wall.show(each.name, painted);
    } catch (error) {
      if (signal.aborted || error.code === "canceled") return;
      wall.fail(each.name);
      if (!silent) complain(error.message);
      silent = true; // once is enough for what ails all of them
    }
  }
}

/** Choose a style; without a picture the example is painted. */
function choose(chosen) {
  style = chosen;
  if (!picture) {
    if (!opening) begin(EXAMPLE);
    return;
  }
  wall.select(style.name);
  const related = [...config.styles, ...own].filter((each) => each.preset === style.preset && each !== style);
  placard.choose(style, studio.paintsHere || !style.own ? related : []);
  const small = wall.painting(style.name);
  if (small) stage.painting(small, { sketch: true });
  longest = null;
  paint();
}

/** Paint at full size, with what the controls say. */
async function paint() {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  [previewing, painting, stale] = [null, null, false];
  placard.notice(null);
  placard.progress(0);
  show("working");
  const wanted = { picture, style, longest, ...placard.values };
  try {
    const onProgress = (share) => !signal.aborted && placard.progress(share);
    const painted = await studio.paint(wanted, { signal, onProgress });
    if (signal.aborted) return;
    await stage.painting(painted);
    painting = { ...painted, name: `${picture.name}-${style.name}` };
    find("facts").textContent = factsOf(painted);
    show("done");
    announce(`Painted in the style of ${style.title}.`);
  } catch (error) {
    if (signal.aborted || error.code === "canceled") return;
    fail(error);
  } finally {
    if (!signal.aborted) placard.progress(undefined);
  }
}

function factsOf({ width, height, here, seconds }) {
  const where = here ? `in this browser (${studio.engine})` : "on the server";
  return `${width} × ${height} pixels, painted ${where} in ${seconds.toFixed(1)} s.`;
}

function rest() {
  if (stale) paint();
}

/** A small painting that follows the controls while they move; one at a time, then the latest. */
async function preview() {
  current.abort();
  placard.progress(undefined);
  stale = true;
  const asked = { picture, style, size: within(picture, PREVIEW), ...placard.values };
  const busy = previewing !== null;
  previewing = asked;
  if (busy) return;
  while (previewing) {
    const job = previewing;
    try {
      const painted = await studio.paint(job);
      if (previewing && picture === job.picture) await stage.painting(painted);
    } catch {
      // The painting at full size, which follows, says what is wrong.
    }
    if (previewing === job) previewing = null;
  }
}

function fail(error) {
  stage.bare();
  show("error");
  if (error.code === "large") {
    const { limit, pixels = picture.width * picture.height } = error;
    const scale = Math.min(0.95, limit ? Math.sqrt(limit / pixels) : 0.7);
    const smaller = Math.max(16, Math.floor((scale * (longest ?? Math.max(picture.width, picture.height))) / 16) * 16);
    const size = within(picture, smaller);
    const act = () => {
      longest = smaller;
      paint();
    };
    const millions = (picture.width * picture.height) / 1e6;
    const remedy = { name: `Paint at ${size.width} × ${size.height}`, act };
    const what = `This picture, ${millions.toFixed(0)} megapixels,`;
    placard.notice(`${what} is too large to be painted in one go here.`, remedy);
  } else {
    placard.notice(error.message, { name: "Try again", act: paint });
  }
}

function complain(text) {
  placard.notice(text);
}

function cancel() {
  current.abort();
  placard.progress(undefined);
  stage.bare();
  show("ready");
  announce("Canceled.");
  find("cards").querySelector("[aria-pressed=true]")?.focus();
}

function stop() {
  cards.abort();
  current.abort();
  cards = new AbortController();
  current = new AbortController();
  previewing = null;
}

function startOver() {
  stop();
  URL.revokeObjectURL(picture.url);
  [picture, style, painting] = [null, null, null];
  wall.clear();
  placard.reset();
  placard.notice(null);
  placard.progress(undefined);
  stage.picture({ url: EXAMPLE, width: 720, height: 405, name: "a red panda" });
  stage.zoomable = false;
  show("empty");
  find("choose").focus();
  window.scrollTo(0, 0);
  showExample();
}

function show(state) {
  document.body.dataset.state = state;
  const empty = state === "empty";
  find("invitation").hidden = !empty;
  find("label").hidden = empty;
  find("start-over").hidden = empty;
  if (state !== "done") find("facts").textContent = "";
  placard.actions(state === "done");
}

function announce(text) {
  find("live").textContent = text;
}

async function addStyle(file) {
  const name = `own-${own.length + 1}`;
  try {
    const { preset, credit } = await studio.ownStyle(name, file);
    const added = { name, title: file.name.replace(/\.onnx$/i, ""), credit, preset, preview: null, own: true };
    own.push(added);
    wall.add(added);
    announce(`The style ${added.title} is on the wall.`);
    if (picture) paintCards([added]);
    choose(added);
  } catch (error) {
    complain(`${file.name} is no style for this page: ${error.message}.`.replace(/\.\.$/, "."));
  }
}

function photograph() {
  if (takesPhotographs()) {
    find("capture").click();
    return;
  }
  const every = [...config.styles, ...own];
  const fast = every.filter(({ preset }) => preset === "tiny");
  camera.open(fast.length ? fast : every);
}
