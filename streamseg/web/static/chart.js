// How many objects of each class there were in the last five minutes, one line per class.

const SECONDS = 300;
const RECENT = 5;
const COLOURS = ["#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#d55e00", "#0072b2", "#aaaa00", "#ee8866"];

export class Counts {
  #seconds = [];
  #labels = [];

  add(history) {
    for (const [second, counts] of history) {
      this.#seconds.push([second, counts]);
      for (const label of Object.keys(counts)) if (!this.#labels.includes(label)) this.#labels.push(label);
    }
    const newest = this.#seconds.at(-1)?.[0] ?? 0;
    while (this.#seconds.length && this.#seconds[0][0] <= newest - SECONDS) this.#seconds.shift();
  }

  // Class, colour and count of now; none is known where no frame came for seconds.
  legend(now) {
    const [second, newest] = this.#seconds.at(-1) ?? [0, {}];
    const known = now - second <= RECENT;
    return this.#labels.map((label, i) => [label, COLOURS[i % COLOURS.length], known ? newest[label] ?? 0 : null]);
  }

  draw(canvas, now) {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const highest = Math.max(1, ...this.#seconds.flatMap(([, counts]) => Object.values(counts)));
    const place = (second, count) => [
      width - (now - second) * width / SECONDS,
      height - 3 - count * (height - 8) / highest,
    ];
    pen.strokeStyle = "rgb(128 128 128 / .35)";
    pen.strokeRect(0, height - 1, width, 0);
    pen.fillStyle = "rgb(128 128 128)";
    pen.font = "10px system-ui";
    pen.fillText(String(highest), 0, 9);
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    for (const [label, colour] of this.legend(now)) {
      pen.strokeStyle = colour;
      pen.beginPath();
      let before = -Infinity;
      for (const [second, counts] of this.#seconds) {
        const [x, y] = place(second, counts[label] ?? 0);
        if (second - before > 3) pen.moveTo(x, y);  // nothing is known of the time between
        else pen.lineTo(x, y);
        before = second;
      }
      pen.stroke();
    }
  }
}
