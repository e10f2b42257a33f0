// Paintings as files that are taken home, and the token that a server may want for them.

/** Let buttons save and copy: `fileOf` makes a Blob of a format, `nameOf` names it. */
export function offerFiles(find, { fileOf, nameOf, announce, complain }) {
  find("png").addEventListener("click", () => save("png", "png"));
  find("jpeg").addEventListener("click", () => save("jpeg", "jpg"));
  find("copy").addEventListener("click", copy);

  async function save(format, suffix) {
    const name = `${nameOf()}.${suffix}`;
    if (find(format).hasAttribute("aria-busy")) return;
    let blob;
    try {
      blob = await busy(find(format), () => fileOf(format));
    } catch (error) {
      complain(`The file was not made: ${error.message}`);
      return;
    }
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    announce(`Saved as ${name}.`);
  }

  async function copy() {
    try {
      const item = new ClipboardItem({ "image/png": fileOf("png") });
      await busy(find("copy"), () => navigator.clipboard.write([item]));
      announce("Copied.");
    } catch {
      complain("This browser does not let the page copy pictures. Download it instead.");
    }
  }
}

/** Work that a button began, which says so: of a large painting, a file takes seconds. */
async function busy(button, work) {
  const text = button.textContent;
  button.setAttribute("aria-busy", "true");
  button.textContent = "One moment…";
  try {
    return await work();
  } finally {
    button.removeAttribute("aria-busy");
    button.textContent = text;
  }
}

/** A token for the server, or null; `wrong` if one was refused. */
export function askToken(find, wrong) {
  const dialog = find("token");
  find("token-name").textContent = wrong ? "This token is not the server's" : "This server wants a token";
  find("token-text").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const done = () => resolve(dialog.returnValue === "ok" ? find("token-text").value : null);
    dialog.addEventListener("close", done, { once: true });
  });
}
