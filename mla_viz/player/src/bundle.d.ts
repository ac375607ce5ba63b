// What the bundle leaves to the text that stands behind it.
declare const mlaVizPlayer: typeof import("./player.js");
