// What makes the page work without a network, and with threads on hosts whose headers cannot be set.

const TRIED = "fastnst-reloaded";
const PROGRAMS = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];

/** Register the service worker and have it keep what the page needs; `idle` tells whether a reload disturbs nobody. */
export async function keepOffline(config, idle) {
  if (!config.offline || !navigator.serviceWorker) return;
  try {
    await navigator.serviceWorker.register("service-worker.js");
  } catch {
    return; // a private window, or a browser that forbids it: the page works without
  }
  const { active } = await navigator.serviceWorker.ready;
  const runtime = config.runtime ? PROGRAMS.map((name) => config.runtime + name) : [];
  const styles = config.styles.flatMap(({ file, preview }) => [file, ...(preview ? [preview] : [])]);
  const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
  await told(active, { keep: [...new Set([...styles, ...runtime, ...loaded].map(absolute))] });
  document.body.dataset.offline = "ready";
  // Its headers give the page threads from the next load on.
  if (!self.crossOriginIsolated && !sessionStorage.getItem(TRIED) && idle()) {
    sessionStorage.setItem(TRIED, "1");
    location.reload();
  }
}

/** Send the worker a message, and wait until it did what it says. */
function told(worker, message) {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = resolve;
    worker.postMessage(message, [port2]);
  });
}

function absolute(address) {
  return new URL(address, document.baseURI).href;
}
