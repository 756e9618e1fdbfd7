// Masks as COCO's compressed run lengths: runs of zeros and ones in turn, down the columns.
// A length is written in groups of five bits, lowest first, each plus 48 as a character; the sixth bit
// says that more follow. From the third length on it is the difference to the one two before.

export function runLengths(text) {
  const lengths = [];
  for (let at = 0; at < text.length;) {
    let value = 0, shift = 0, code;
    do {
      code = text.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16) value |= -1 << shift;
    lengths.push(lengths.length > 2 ? value + lengths[lengths.length - 2] : value);
  }
  return lengths;
}

export function covers(mask, x, y) {
  const place = x * mask.size[0] + y;
  let end = 0, inside = false;
  for (const length of runLengths(mask.counts)) {
    end += length;
    if (place < end) return inside;
    inside = !inside;
  }
  return false;
}

// The instance at a pixel of the source; the smallest one where several lie above each other.
export function instanceAt(result, x, y) {
  const [column, row] = [Math.floor(x), Math.floor(y)];
  const hits = result.instances.filter(({ box: [x1, y1, x2, y2], mask }) =>
    column >= x1 && column < x2 && row >= y1 && row < y2 && covers(mask, column, row));
  return hits.sort((a, b) => a.area - b.area)[0] ?? null;
}
