// Keeps the page, the runtime and the styles for use without a network, and adds the headers that threads need.

const KEPT = "fastnst";
const FOLDER = "{{assets}}"; // changes with the page, and so does this file
const FIRST = ["./", "styles.json"];
const FRESH = /(\/|\.html|\.json|\.webmanifest)$/; // may change under the same name

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(KEPT).then((cache) => cache.addAll(FIRST)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("message", (event) => {
  const { keep } = event.data;
  const [done] = event.ports;
  if (keep) event.waitUntil(keepAll(keep).then(() => done?.postMessage("kept")));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== self.location.origin) return;
  event.respondWith(answer(request).then(isolated));
});

/** Names that hold a version come from what is kept, others from the network while there is one. */
async function answer(request) {
  const cache = await caches.open(KEPT);
  const known = () => cache.match(request, { ignoreSearch: request.mode === "navigate" });
  const fresh = FRESH.test(new URL(request.url).pathname);
  if (!fresh) {
    const kept = await known();
    if (kept) return kept;
  }
  try {
    const answered = await fetch(request);
    if (answered.ok && answered.status === 200) await cache.put(request, answered.clone());
    return answered;
  } catch (error) {
    const kept = await known();
    if (kept) return kept;
    throw error;
  }
}

/** Fetch what is not there yet, and let go of what an older page or older styles left. */
async function keepAll(addresses) {
  const cache = await caches.open(KEPT);
  const wanted = new Set(addresses);
  for (const { url } of await cache.keys()) {
    const { pathname } = new URL(url);
    if (!FRESH.test(pathname) && !wanted.has(url) && !pathname.includes(`/${FOLDER}/`)) await cache.delete(url);
  }
  for (const address of wanted) {
    if (!(await cache.match(address))) await cache.add(address).catch(() => {}); // next time, then
  }
}

function isolated(answered) {
  if (answered.type === "error" || answered.type === "opaque") return answered;
  const headers = new Headers(answered.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  const { status, statusText } = answered;
  return new Response(answered.body, { status, statusText, headers });
}
