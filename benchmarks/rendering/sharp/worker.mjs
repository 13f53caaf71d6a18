// sharp as a baseline: `node worker.mjs "sharp, one decode" | "sharp, per size"`. Jobs and answers are those of
// benchmarks/rendering/worker.py. The boxes and the settings come with the job, so that they stand in one place.
import { createInterface } from "node:readline";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";

sharp.concurrency(1);
sharp.cache(false);

const encoded = (image, spec) =>
  (spec.format === "webp"
    ? image.webp({ quality: spec.quality, effort: spec.effort })
    : image.jpeg({ quality: spec.quality, progressive: true })
  ).toBuffer();

const fitted = (image, spec) =>
  image.resize(spec.width, spec.height, { fit: "inside", withoutEnlargement: true });

const baselines = {
  // clone() would decode again for each size: the pixels of the largest are what the others are made of.
  "sharp, one decode": async (data, { specs }) => {
    const largest = specs.reduce((a, b) => (a.width > b.width ? a : b));
    const decoded = fitted(sharp(data).autoOrient(), largest);
    const { data: pixels, info: raw } = await decoded.raw().toBuffer({ resolveWithObject: true });
    const shared = sharp(pixels, { raw });
    return Promise.all(specs.map((spec) => encoded(fitted(shared.clone(), spec), spec)));
  },
  "sharp, per size": (data, { specs, animated }) =>
    Promise.all(specs.map((spec) => encoded(fitted(sharp(data, { animated }).autoOrient(), spec), spec))),
};

const work = baselines[process.argv[2]];
for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  const before = process.cpuUsage();
  const started = process.hrtime.bigint();
  const made = await work(await readFile(job.path), job);
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  const { user, system } = process.cpuUsage(before);
  const cpu = (user + system) / 1e6;
  if (job.keep) {
    await Promise.all(made.map((body, number) => writeFile(join(job.keep, String(number)), body)));
  }
  const bytes = made.reduce((sum, body) => sum + body.length, 0);
  process.stdout.write(JSON.stringify({ seconds, cpu, own_cpu: cpu, bytes }) + "\n");
}
