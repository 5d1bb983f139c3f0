// Colours of what is drawn, the same on maps and in charts.

/** For things of different kinds: to be told apart on light and on dark. */
export const KINDS = ['#2f8fd8', '#f0883e', '#3fb27f', '#d6579b', '#8a6fe0', '#c9a227', '#2bb5c0', '#e05d5d', '#7a9e3c', '#b07d56', '#5b7fbf', '#9aa7b3'];
/** For what is of no kind that has a colour. */
export const OTHER = '#8b98a3';
/** For numbers, from the least to the greatest. */
export const RAMP = ['#3b6fd4', '#2aa3c4', '#4fbf8b', '#c8c445', '#f2a33c', '#e4572e'];

export const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

/** The colours of a texture of 256: kinds at their places, or the ramp. */
export function texture(numeric) {
  const bytes = new Uint8Array(256 * 4);
  for (let at = 0; at < 256; at += 1) {
    let colour;
    if (at === 255) colour = channels(OTHER);
    else if (!numeric) colour = channels(KINDS[at] ?? OTHER);
    else {
      const place = (at / 254) * (RAMP.length - 1);
      const [low, high] = [channels(RAMP[Math.floor(place)]), channels(RAMP[Math.ceil(place)])];
      colour = low.map((part, index) => part + (high[index] - part) * (place % 1));
    }
    bytes.set([...colour, 255], at * 4);
  }
  return bytes;
}

/** A colour of the page, as it is now: light or dark. */
export const ofPage = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
