// Unpacks the run that lies in this very file and shows it. The bundle before this text leaves `mlaVizPlayer`.

async function unpacked() {
  if (typeof DecompressionStream === "undefined")
    throw new Error("this browser cannot unpack gzip: take a newer one");
  const text = document.getElementById("run")?.textContent ?? "";
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = planes.length / 4;
  const whole = new Uint8Array(planes.length);
  for (let plane = 0; plane < 4; plane += 1) {
    for (let at = 0; at < count; at += 1) whole[4 * at + plane] = planes[plane * count + at];
  }
  return whole.subarray(0, SIZE);
}

unpacked()
  .then((bytes) => {
    const player = mlaVizPlayer.mount(/** @type {HTMLElement} */ (document.querySelector(".player")));
    player.load(bytes);
    player.recolour();
  })
  .catch((error) => {
    const place = /** @type {HTMLElement} */ (document.querySelector(".failed"));
    place.textContent = `The run in this file cannot be shown: ${error.message || "its data are damaged"}.`;
    place.hidden = false;
  });
