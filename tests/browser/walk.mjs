// A person in a real browser: signs in, opens each page, presses the buttons, and watches a transition
// arrive. Started by tests/it/browser.rs, which sets the stage and does what this walk asks for: a line
// {"ask": "…"} on standard output is answered by a line on standard input once it is done.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const { BASE, KEY, CHROMIUM, HOSTILE_TASK, REAL_TASK, REAL_PROMPT, TRIED_TASK, HAND_EDITED, SHOTS } = process.env;
const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const HOME = "/analytics/image-editing";
const MODEL = `${HOME}/models/nano-banana`;
// The browser's console tells of each page that was not answered with 200.
const MEANT_TO_BE_REFUSED = new Set(["/analytics/nowhere"]);
const SIZES = {
  light: { viewport: { width: 1180, height: 900 }, colorScheme: "light" },
  dark: { viewport: { width: 1180, height: 900 }, colorScheme: "dark" },
  phone: { viewport: { width: 390, height: 844 }, colorScheme: "light" },
};

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function ask(what) {
  console.log(JSON.stringify({ ask: what }));
  const { value, done } = await answers.next();
  assert(!done && value === "done", `the stage did not do it: ${what}: ${value}`);
}

const say = (text) => console.log(JSON.stringify({ say: text }));
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
const troubles = [];

async function open(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("pageerror", (error) => troubles.push(`script error: ${error}`));
  page.on("console", (line) => {
    const meant = MEANT_TO_BE_REFUSED.has(line.location().url.replace(BASE, ""));
    if (line.type() === "error" && !meant) troubles.push(`console: ${line.text()}`);
  });
  page.on("dialog", (dialog) => troubles.push(`a dialog opened: ${dialog.message()}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(BASE)) troubles.push(`asked outside: ${request.url()}`);
  });
  return page;
}

async function signIn(page) {
  await page.goto(`${BASE}/analytics`);
  assert.equal(new URL(page.url()).pathname, "/login");
  await page.getByLabel("Key").fill(KEY);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(`${BASE}/analytics`);
}

const main = (page) => page.locator("main").innerText();
const shows = (page, text) => page.locator("main").getByText(text).first().waitFor();

async function accessible(page, name) {
  await page.addScriptTag({ path: axe }).catch(() => page.evaluate(() => undefined));
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const told = grave.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html }) => html).join(" | ")}`);
  assert.deepEqual(told, [], `${name} has serious violations`);
}

async function eachPage(pages, stage) {
  for (const [size, options] of Object.entries(SIZES)) {
    // axe is put into the page by the test, which the page's own policy would rightly refuse.
    const page = await open({ ...options, bypassCSP: true });
    await signIn(page);
    for (const [path, says, status = 200] of pages) {
      const answer = await page.goto(BASE + path);
      assert.equal(answer.status(), status, path);
      for (const text of says) assert((await main(page)).includes(text), `${path} does not say ${text}`);
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert(width <= options.viewport.width, `${path} is ${width} wide on ${size}`);
      await accessible(page, `${path} (${size})`);
      if (SHOTS) {
        mkdirSync(SHOTS, { recursive: true });
        const name = path.replace(/[^a-z0-9]+/gi, "_");
        await page.screenshot({ path: `${SHOTS}/${stage}${name}-${size}.png`, fullPage: true });
      }
    }
    await page.context().close();
  }
}

const person = await open(SIZES.light);
await signIn(person);
await shows(person, "Testing: nano-banana");
say("signed in");

// Pause and resume.
await person.getByRole("button", { name: "Pause the cycle" }).click();
await shows(person, "On hold: Paused");
await person.getByRole("button", { name: "Resume" }).click();
await person.getByText("On hold").waitFor({ state: "detached" });
say("paused and resumed");

// The diff of any two versions.
await person.goto(BASE + MODEL);
await person.getByRole("spinbutton", { name: "Old" }).fill("1");
await person.getByRole("spinbutton", { name: "New" }).fill("2");
await person.getByRole("button", { name: "Compare" }).click();
await person.locator(".diff .add", { hasText: "Change only what is asked for." }).waitFor();
say("compared two versions");

// A stored script is text, here under the real policy.
await person.goto(`${BASE}${HOME}/tasks/${encodeURIComponent(HOSTILE_TASK)}`);
await shows(person, "<script>");
assert.equal(await person.evaluate(() => window.taken), undefined);
assert.equal(await person.locator("main script, main img").count(), 0);
say("a stored script did nothing");

const testing = [
  [HOME, ["Testing: nano-banana", "Running experiments", "Who wins"]],
  [`${HOME}/cycles`, ["Every cycle"]],
  [`${HOME}/cycles/1`, ["Scores of the test", "numbered from 1 without a hole", "analysis"]],
  [`${HOME}/verdicts`, ["No test has a verdict yet"]],
  [`${HOME}/insights`, ["Suggested:"]],
  [`${HOME}/tasks`, ["Older tasks", HOSTILE_TASK]],
  [`${HOME}/tasks?task=${encodeURIComponent(REAL_TASK)}`, [REAL_TASK]],
  [`${HOME}/tasks/${encodeURIComponent(REAL_TASK)}`, ["Attempts", REAL_PROMPT]],
  [`${HOME}/tasks/${encodeURIComponent(HOSTILE_TASK)}`, ["<script>"]],
  [`${HOME}/changes`, ["First start"]],
  [`${MODEL}?from=1&to=2`, ["Version 1 serves", "From version 1 to version 2"]],
  [`${MODEL}?rollback=2`, ["Put version 2 back?"]],
  [`${MODEL}/versions/2`, ["Content hash"]],
];
await eachPage(testing, "testing");
say("each page opened in light, dark and on a phone");

// A transition arrives live: the page is not loaded again.
await person.goto(BASE + HOME);
await person.evaluate(() => { window.sameDocument = true; });
await ask("finish the test");
await shows(person, "Waiting for approval");
await person.locator("[role=status]", { hasText: "testing to deciding" }).waitFor({ state: "attached" });
assert(await person.evaluate(() => window.sameDocument), "the page was loaded again");
say("a transition arrived live");

// Approve, and see the verdict come.
await person.getByRole("button", { name: "Approve" }).click();
await person.getByText("On hold").waitFor({ state: "detached" });
await ask("apply");
await shows(person, "nano-banana, version 2 against 1");
await shows(person, "Collecting:");
say("approved");

await eachPage([
  [HOME, ["Latest verdicts", "adopted", "Collecting:"]],
  [`${HOME}/cycles/1`, ["adopted", "+"]],
  [`${HOME}/cycles/1/report`, ["Better instructions were found", "What it cost"]],
  [`${HOME}/cycles/1/report?lang=el`, ["Βρέθηκαν καλύτερες οδηγίες", "Τι κόστισε"]],
  [`${HOME}/verdicts`, ["nano-banana, version 2 against 1"]],
  [`${HOME}/changes`, ["Apply"]],
  [`${HOME}/tasks/${encodeURIComponent(TRIED_TASK)}`, ["How the prompts came to be"]],
  [`${HOME}/tasks/${encodeURIComponent(TRIED_TASK)}/why?model=nano-banana`, ["How the prompt of nano-banana came to be", "Insight"]],
  [`${MODEL}/versions/2`, ["Content hash"]],
], "adopted");

// Back to version 1, behind a question.
await person.goto(BASE + MODEL);
await shows(person, "Version 2 serves.");
await person.getByRole("link", { name: "Roll back to it" }).click();
await shows(person, "Put version 1 back?");
await person.getByLabel("Why").fill("η παλιά ήταν καλύτερη");
await person.getByRole("button", { name: "Roll back to version 1" }).click();
await ask("roll back");
await person.goto(BASE + MODEL);
await shows(person, "Version 1 serves.");
await person.goto(`${BASE}${HOME}/changes`);
await shows(person, "η παλιά ήταν καλύτερη");
say("rolled back");

// A file that somebody edited by hand: what was changed, and a decision behind a question.
await ask("edit a file by hand");
await person.goto(BASE + HOME);
await person.getByRole("link", { name: "Look at the edit and decide" }).click();
await shows(person, "Config files that a person edited");
await person.locator("main table tbody a").first().click();
await shows(person, "Edited from");
const CONFLICT = new URL(person.url()).pathname;
await shows(person, "nano-banana edited by hand");
await person.locator(".diff .add", { hasText: HAND_EDITED }).waitFor();
assert.equal(await person.evaluate(() => window.taken), undefined);
await eachPage([
  [HOME, ["On hold"]],
  [`${HOME}/conflicts`, ["Config files that a person edited", "nano-banana"]],
  [CONFLICT, ["Changed by hand", "Leave it standing"]],
  [`${CONFLICT}?way=keep-mine`, ["Keep the edit?"]],
  [`${CONFLICT}?way=take-theirs`, ["Take version 1?"]],
  [`${CONFLICT}?way=cancel`, ["Leave it standing?"]],
  ["/analytics/nowhere", ["nowhere"], 404],
], "edited");
await person.getByRole("link", { name: "Take version 1" }).click();
await shows(person, "Take version 1?");
await person.getByLabel("Why").fill("το έγραψα κατά λάθος");
await person.getByRole("button", { name: "Write version 1 over it" }).click();
await ask("settle the conflict");
await person.goto(BASE + CONFLICT);
await shows(person, "Settled as");
await person.goto(BASE + HOME);
await shows(person, "Collecting:");
assert.equal(await person.getByText("On hold").count(), 0, "the hold is gone with the conflict");
say("settled a conflict");

// Everything again without scripts.
const plain = await open({ ...SIZES.light, javaScriptEnabled: false });
await signIn(plain);
await plain.getByRole("button", { name: "Pause the cycle" }).click();
await shows(plain, "On hold: Paused");
await plain.getByRole("button", { name: "Resume" }).click();
await plain.getByText("On hold").waitFor({ state: "detached" });
await plain.getByRole("button", { name: "Sign out" }).click();
await plain.waitForURL(`${BASE}/login`);
say("all of it without scripts");

await browser.close();
assert.deepEqual(troubles, []);
say("done");
process.exit(0);
