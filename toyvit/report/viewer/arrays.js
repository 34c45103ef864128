// Arrays of the page: text in elements of their own, unpacked when they are first asked for.

const KINDS = { float32: Float32Array, uint16: Uint16Array, uint8: Uint8Array };
const unpacked = new Map();

function readArray(reference) {
  if (!reference) return Promise.resolve(null);
  if (!unpacked.has(reference.array)) unpacked.set(reference.array, unpack(reference));
  return unpacked.get(reference.array);
}

async function unpack(reference) {
  const element = document.getElementById(`array-${reference.array}`);
  const letters = atob(element.textContent);
  const packed = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at++) packed[at] = letters.charCodeAt(at);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = await new Response(stream).arrayBuffer();
  element.remove();
  return { values: new KINDS[reference.kind](bytes), shape: reference.shape };
}

// Every array that a part of the data refers to, by its name there.
async function readArrays(part, names) {
  const arrays = await Promise.all(names.map((name) => readArray(part[name])));
  return Object.fromEntries(names.map((name, place) => [name, arrays[place]]));
}

// The place of the number nearest to a goal, in ascending numbers.
function findNearest(numbers, goal) {
  let low = 0;
  let high = numbers.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (numbers[middle] <= goal) low = middle;
    else high = middle;
  }
  return goal - numbers[low] <= numbers[high] - goal ? low : high;
}
