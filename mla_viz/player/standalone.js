// Unpacks the run that lies at the end of this very file and shows it. Before this text stand the bundle, which
// leaves `mlaVizPlayer`, and TWINS: [where an array begins, where its like does, how many values].

/**
 * Each step undoes one of standalone.py's, the last one first.
 * @param {string} text
 */
async function unpacked(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = letters.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = planes.length / 4;
  const words = new Int32Array(count);
  for (let plane = 0; plane < 4; plane += 1) {
    for (let at = 0; at < count; at += 1) words[at] |= planes[plane * count + at] << (8 * plane);
  }
  for (const [start, like, length] of TWINS) {
    for (let at = 0; at < length; at += 1) {
      const gap = words[start + at];
      words[start + at] = words[like + at] + ((gap >>> 1) ^ -(gap & 1));
    }
  }
  return new Uint8Array(words.buffer);
}

document.addEventListener("DOMContentLoaded", async () => {
  const state = /** @type {HTMLElement} */ (document.querySelector(".state"));
  try {
    const bytes = await unpacked(document.getElementById("run")?.textContent ?? "");
    document.body.classList.remove("unpacking");
    const player = mlaVizPlayer.mount(/** @type {HTMLElement} */ (document.querySelector(".player")));
    player.load(bytes);
    player.recolour();
    state.remove();
  } catch (error) {
    document.body.classList.add("unpacking");
    const old = typeof DecompressionStream === "undefined";
    const damaged = `its data are damaged (${error.message}); save it again`;
    const fault = old ? "this browser cannot unpack gzip; take a newer one" : damaged;
    state.textContent = `The run in this file cannot be shown: ${fault}.`;
  }
});
