// The wall of small paintings: one card for each style, and one for somebody's own.

export class Wall {
  #cards = new Map(); // name -> { button, picture, style }

  /** `onChoose` gets the style of a card that was pressed, `onOwn` nothing. */
  constructor(list, { onChoose, onOwn }) {
    Object.assign(this, { list, onChoose });
    const own = this.#card("Your own style", "An .onnx file from fastnst export");
    own.button.classList.add("own");
    own.picture.textContent = "+";
    own.picture.setAttribute("aria-hidden", "true");
    own.button.addEventListener("click", onOwn);
    this.last = own.button.parentElement;
  }

  /** Hang a card for a style { name, title, credit, preview }. */
  add(style) {
    const { button, picture } = this.#card(style.title, short(style.credit));
    this.list.insertBefore(button.parentElement, this.last);
    button.dataset.style = style.name;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => this.onChoose(style));
    if (style.preview) {
      picture.append(Object.assign(new Image(256, 256), { src: style.preview, alt: "", decoding: "async" }));
    } else {
      picture.append(document.createElement("canvas"));
    }
    this.#cards.set(style.name, { button, picture, style });
  }

  /** Let all cards wait for paintings of a picture of this size. */
  wait({ width, height }) {
    const shape = Math.min(1.6, Math.max(0.7, width / height));
    this.list.style.setProperty("--shape", shape.toFixed(3));
    this.#cards.forEach((card) => {
      card.painting = null;
      card.picture.classList.add("waiting");
    });
  }

  /** The small painting of a style. */
  show(name, painting) {
    const { width, height, data, bitmap } = painting;
    const card = this.#cards.get(name);
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    if (bitmap) context.drawImage(bitmap, 0, 0);
    else context.putImageData(new ImageData(data, width, height), 0, 0);
    card.painting = painting;
    card.picture.replaceChildren(canvas);
    card.picture.classList.remove("waiting");
  }

  /** A card that waits no more, without a painting. */
  fail(name) {
    this.#cards.get(name).picture.classList.remove("waiting");
  }

  /** The small painting of a style, if it is there. */
  painting(name) {
    return this.#cards.get(name)?.painting ?? null;
  }

  select(name) {
    this.#cards.forEach(({ button }, each) => button.setAttribute("aria-pressed", String(each === name)));
    this.#cards.get(name)?.button.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** As it was: previews, nothing chosen. */
  clear() {
    this.list.style.removeProperty("--shape");
    this.#cards.forEach(({ picture, style, button }) => {
      picture.classList.remove("waiting");
      button.setAttribute("aria-pressed", "false");
      if (style.preview) picture.replaceChildren(Object.assign(new Image(256, 256), { src: style.preview, alt: "" }));
    });
  }

  #card(title, by) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "card" });
    const [picture, name, credit] = ["picture", "name", "by"].map((className) =>
      Object.assign(document.createElement("span"), { className }),
    );
    name.textContent = title;
    credit.textContent = by;
    button.append(picture, name, credit);
    const item = document.createElement("li");
    item.append(button);
    this.list.append(item);
    return { button, picture };
  }
}

/** Who painted it and when, of a credit "painter, painting, year. Public domain". */
function short(credit) {
  const parts = credit.replace(/\. [^.]*$/, "").split(", ");
  return parts.length > 2 ? `${parts[0]}, ${parts.at(-1)}` : credit;
}
