// A static host in the words of another program than Python's: node static_server.mjs FOLDER, prints its port.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const root = process.argv[2];
const types = {
  ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript",
  ".json": "application/json", ".webmanifest": "application/manifest+json", ".wasm": "application/wasm",
  ".jpg": "image/jpeg", ".png": "image/png", ".svg": "image/svg+xml",
};

const server = createServer(async (request, response) => {
  let path = join(root, normalize(decodeURIComponent(new URL(request.url, "http://host").pathname)));
  try {
    if ((await stat(path)).isDirectory()) path = join(path, "index.html");
    const { size } = await stat(path);
    const type = types[extname(path)] ?? "application/octet-stream";
    response.writeHead(200, { "Content-Type": type, "Content-Length": size });
    createReadStream(path).pipe(response);
  } catch {
    response.writeHead(404).end();
  }
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
