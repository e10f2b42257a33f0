// The label beside a painting: what it is, its progress, its controls, what went wrong.

export class Placard {
  /** `onInput` while a control moves, `onRest` when it may rest. */
  constructor(find, { onInput, onRest, onCancel }) {
    this.find = find;
    const form = find("controls");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => {
      this.#tell();
      onInput();
    });
    // A slider that comes back to where it was changes nothing, but what is shown is a preview then.
    for (const event of ["change", "pointerup", "keyup"]) form.addEventListener(event, onRest);
    find("cancel").addEventListener("click", onCancel);
    find("notice-action").addEventListener("click", () => this.act?.());
    find("notice-close").addEventListener("click", () => this.notice(null));
    this.#tell();
  }

  /** What the controls say: { options: { strength, stroke, colors }, mix: { name, share } or null }. */
  get values() {
    const value = (id) => Number(this.find(id).value) / 100;
    const colors = this.find("controls").elements.colors.value || null;
    const name = this.find("other").value;
    const options = { strength: value("strength"), stroke: value("stroke"), colors };
    return { options, mix: name && value("share") ? { name, share: value("share") } : null };
  }

  #tell() {
    const percent = (id) => `${this.find(id).value} %`;
    for (const id of ["strength", "share"]) this.find(`${id}-value`).textContent = percent(id);
    this.find("stroke-value").textContent = `× ${(Number(this.find("stroke").value) / 100).toFixed(2)}`;
    this.find("sharing").hidden = !this.find("other").value;
  }

  reset() {
    this.find("controls").reset();
    this.#tell();
  }

  /** Name the chosen style, and those that it can be mixed with. */
  choose(style, related) {
    this.find("title").textContent = style.title;
    this.find("credit").textContent = style.credit || "Your own style.";
    const select = this.find("other");
    const kept = related.some(({ name }) => name === select.value) ? select.value : "";
    select.replaceChildren(new Option("nothing", ""), ...related.map(({ name, title }) => new Option(title, name)));
    select.value = kept;
    this.find("mixing").hidden = related.length === 0;
    this.find("controls").hidden = false;
    this.#tell();
  }

  /** Before a style is chosen. */
  ask() {
    this.find("title").textContent = "Choose a painting";
    this.find("credit").textContent = "On the wall is your picture, painted small in each.";
    for (const id of ["controls", "progress", "easel-tools"]) this.find(id).hidden = true;
  }

  /** A share of the work, null if it is not known, undefined once there is none. */
  progress(share) {
    this.find("progress").hidden = share === undefined;
    if (share === undefined) return;
    if (share === null) this.find("bar").removeAttribute("value");
    else this.find("bar").value = share;
    this.find("percent").textContent = share === null ? "Painting…" : `Painting, ${Math.round(100 * share)} %`;
  }

  /** Say what went wrong, with what can be done at once: { name, act }; nothing to be silent. */
  notice(text, action = null) {
    this.find("notice").hidden = !text;
    this.find("notice-text").textContent = text ?? "";
    this.find("notice-action").hidden = !action;
    this.find("notice-action").textContent = action?.name ?? "";
    this.act = action?.act ?? null;
    if (text) this.find("notice").scrollIntoView({ block: "nearest" });
  }

  /** What can be done with a finished painting. */
  actions(shown) {
    this.find("easel-tools").hidden = !shown;
  }
}
