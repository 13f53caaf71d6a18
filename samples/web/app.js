// Uploads photos to S3 with a form that the backend had signed, waits for their records, and shows them.

const POLL_MS = 500, PATIENCE_MS = 120_000;
const list = document.getElementById("list");

document.getElementById("photos").addEventListener("change", async ({target}) => {
  const files = [...target.files];
  target.value = ""; // so that the same file can be chosen again
  await earlierPhotos; // which would show these, too
  for (const file of files) new Card(file.name).upload(file);
});
const earlierPhotos = showEarlierPhotos().catch(() => {});

async function showEarlierPhotos() {
  for (const image of (await ask("GET", "images")).images) new Card(nameOf(image.key), image.key).show(image);
}

/** One photo of the list. */
class Card {
  constructor(name, key = null) {
    this.key = key;
    const item = document.getElementById("card").content.cloneNode(true).firstElementChild;
    [this.title, this.status, this.progress, this.picture, this.replaceButton, this.deleteButton, this.chooser] = item.children;
    this.item = item;
    this.name(name);
    this.replaceButton.addEventListener("click", () => this.chooser.click());
    this.chooser.addEventListener("change", () => {
      const [file] = this.chooser.files;
      if (file) this.upload(file);
      this.chooser.value = "";
    });
    this.deleteButton.addEventListener("click", () => this.delete());
    list.prepend(item);
  }

  name(name) {
    this.title.textContent = name;
    this.progress.setAttribute("aria-label", `Upload of ${name}`);
    this.replaceButton.setAttribute("aria-label", `Replace ${name}`);
    this.deleteButton.setAttribute("aria-label", `Delete ${name}`);
    this.chooser.setAttribute("aria-label", `New photo in place of ${name}`);
  }

  /** Upload a file, under the card's key if it has one, and show what becomes of it. */
  async upload(file) {
    try {
      this.tell("Asking for a form");
      const form = await ask("POST", "form", {name: file.name, type: file.type, key: this.key});
      const version = await this.post(form, file);
      this.key = form.key;
      this.tell("Uploaded; waiting for its renditions");
      this.show(await this.rendered(version));
    } catch (error) {
      this.fail(error.message);
    }
  }

  /** Post the form with the file last, as S3 wants it; fetch() tells no progress. Returns the version's id. */
  post({url, fields}, file) {
    const data = new FormData();
    for (const [name, value] of Object.entries(fields)) data.append(name, value);
    data.append("file", file);
    this.progress.hidden = false;
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", url);
      request.upload.addEventListener("progress", event => {
        this.progress.value = event.loaded / event.total;
        this.tell(`Uploading: ${Math.round(100 * this.progress.value)} %`);
      });
      request.addEventListener("load", () => {
        if (request.status === 201) return resolve(request.getResponseHeader("x-amz-version-id"));
        const refusal = new DOMParser().parseFromString(request.responseText, "text/xml");
        const [code, message] = ["Code", "Message"].map(tag => refusal.querySelector(tag)?.textContent ?? "");
        reject(new Error(`S3 refused it: ${message} (${code || request.status})`));
      });
      request.addEventListener("error", () => reject(new Error("S3 cannot be reached")));
      request.send(data);
    }).finally(() => { this.progress.hidden = true; });
  }

  /** Wait until the record is about this version, rendered or not. */
  async rendered(version) {
    for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await sleep(POLL_MS)) {
      const image = await ask("GET", `image?key=${encodeURIComponent(this.key)}`);
      const fault = image.latest_fault;
      if (fault?.version_id === version) throw new Error(`${fault.reason} (${fault.error_code})`);
      if (image.state === "READY" && image.version_id === version) return image;
    }
    throw new Error("It has not been rendered after two minutes");
  }

  /** Show the placeholder, then the picture in the format and the size that fit this screen. */
  show(image) {
    if (image.state !== "READY") return this.fail(image.latest_fault?.reason ?? `It is ${image.state}`);
    const largest = image.renditions.reduce((one, other) => (other.width > one.width ? other : one));
    const sources = Object.entries(image.srcset).map(([type, srcset]) => {
      const source = document.createElement("source");
      Object.assign(source, {type, srcset, sizes: "(min-width: 45rem) 20rem, 100vw"});
      return source;
    });
    const img = document.createElement("img");
    img.style.backgroundImage = `url(${thumbHashUrl(image.placeholder)})`;
    img.addEventListener("load", () => { img.style.backgroundImage = ""; });
    Object.assign(img, {alt: this.title.textContent, width: image.width, height: image.height, src: largest.url});
    this.picture.replaceChildren(...sources, img); // a browser takes the first source that it knows
    this.progress.hidden = true;
    this.tell(`Ready: ${image.width} × ${image.height} pixels${image.taken_at ? `, taken ${image.taken_at.replace("T", " ")}` : ""}`);
  }

  async delete() {
    try {
      if (this.key) await ask("DELETE", `image?key=${encodeURIComponent(this.key)}`);
      const next = this.item.nextElementSibling ?? this.item.previousElementSibling;
      this.item.remove();
      (next?.querySelector("button") ?? document.getElementById("photos")).focus(); // or the keyboard would start anew
    } catch (error) {
      this.fail(error.message);
    }
  }

  tell(text) {
    this.status.className = "";
    this.status.textContent = text;
  }

  fail(text) {
    this.progress.hidden = true;
    this.tell(`Failed: ${text}`);
    this.status.className = "wrong";
  }
}

/** Ask the backend. */
async function ask(method, path, body) {
  const headers = body ? {"Content-Type": "application/json"} : {};
  const answer = await fetch(path, {method, headers, body: body && JSON.stringify(body)});
  const told = await answer.json();
  if (answer.ok || answer.status === 404 && method === "GET") return told;
  throw new Error(told.error.allowed ? `${told.error.message} Allowed: ${told.error.allowed}` : told.error.message);
}

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

const nameOf = key => key.slice(key.lastIndexOf("/") + 1);

/** Decode a ThumbHash (https://evanw.github.io/thumbhash/) to the address of a tiny picture. */
function thumbHashUrl(base64) {
  const hash = Uint8Array.from(atob(base64), character => character.charCodeAt(0));
  const head = hash[0] | hash[1] << 8 | hash[2] << 16, tail = hash[3] | hash[4] << 8;
  const hasAlpha = head >> 23, isLandscape = tail >> 15, most = hasAlpha ? 5 : 7;
  const across = isLandscape ? most : tail & 7, down = isLandscape ? tail & 7 : most;
  let nibble = (hasAlpha ? 6 : 5) * 2;
  const channel = (constant, scale, columns, rows) => {
    const waves = [];
    for (let cy = 0; cy < rows; cy++)
      for (let cx = cy ? 0 : 1; cx * rows < columns * (rows - cy); cx++, nibble++)
        waves.push([cx, cy, ((hash[nibble >> 1] >> (nibble & 1) * 4 & 15) / 7.5 - 1) * scale]);
    return (x, y) => waves.reduce(
      (sum, [cx, cy, factor]) => sum + 2 * factor * Math.cos(Math.PI * x * cx) * Math.cos(Math.PI * y * cy), constant);
  };
  const light = channel((head & 63) / 63, (head >> 18 & 31) / 31, Math.max(3, across), Math.max(3, down));
  const yellowBlue = channel((head >> 6 & 63) / 31.5 - 1, (tail >> 3 & 63) / 63 * 1.25, 3, 3);
  const redGreen = channel((head >> 12 & 63) / 31.5 - 1, (tail >> 9 & 63) / 63 * 1.25, 3, 3);
  const alpha = hasAlpha ? channel((hash[5] & 15) / 15, (hash[5] >> 4) / 15, 5, 5) : () => 1;
  const canvas = document.createElement("canvas"), longest = Math.max(across, down);
  canvas.width = Math.max(1, Math.round(32 * across / longest));
  canvas.height = Math.max(1, Math.round(32 * down / longest));
  const context = canvas.getContext("2d"), pixels = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < canvas.width * canvas.height; i++) {
    const at = [(i % canvas.width + .5) / canvas.width, (Math.floor(i / canvas.width) + .5) / canvas.height];
    const l = light(...at), p = yellowBlue(...at), q = redGreen(...at);
    const blue = l - 2 / 3 * p, red = (3 * l - blue + q) / 2;
    pixels.data.set([red, red - q, blue, alpha(...at)].map(band => 255 * band), i * 4); // clamped
  }
  context.putImageData(pixels, 0, 0);
  return canvas.toDataURL();
}
