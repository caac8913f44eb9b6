// Looks at pages as several users. It reads what to do as JSON from its standard
// input, and writes what it saw as JSON to its standard output.
//
// in:  {chromium, base, screenshots, visits: [{user, name, path, expect, width, steps: [{at, hover}]}]}
// out: {texts: {"user/name": text}, overflow: {"user/name": px}, actions: {"user/name": n}, requests: [url], violations: [text], errors: [text]}

import { join } from "node:path";
import { text } from "node:stream/consumers";
import { chromium } from "playwright-core";

const job = JSON.parse(await text(process.stdin));
const browser = await chromium.launch({
  executablePath: job.chromium,
  // The flags after the first two keep the browser itself from asking other hosts.
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
  ],
});
const seen = { texts: {}, overflow: {}, actions: {}, requests: [], violations: [], errors: [] };
async function look(visit) {
  const key = `${visit.user}/${visit.name}`;
  const context = await browser.newContext({ viewport: { width: visit.width ?? 1400, height: 1000 } });
  await context.addCookies([{ name: "user", value: visit.user, url: job.base }]);
  context.on("request", (r) => seen.requests.push(r.url()));
  const page = await context.newPage();
  page.on("console", (m) => {
    if (m.type() === "error") seen.errors.push(`${key}: ${m.text()}`);
  });
  page.on("pageerror", (e) => seen.errors.push(`${key}: ${e}`));
  await page.exposeFunction("reportViolation", (v) => seen.violations.push(`${key}: ${v}`));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (e) =>
      window.reportViolation(`${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber} ${e.sample}`));
  });
  await page.goto(visit.path.startsWith("http") ? visit.path : job.base + visit.path, { waitUntil: "networkidle" });
  if (visit.expect) {
    await page.getByText(visit.expect).first().waitFor({ timeout: 15000 }).catch((e) => seen.errors.push(`${key}: ${e.message}`));
  }
  for (const step of visit.steps ?? []) {
    const at = page.locator(step.at).first();
    await (step.hover ? at.hover({ timeout: 15000 }) : at.click({ timeout: 15000 }));
    await page.waitForLoadState("networkidle");
  }
  await page.waitForTimeout(300); // transitions
  seen.texts[key] = await page.locator("body").innerText();
  seen.overflow[key] = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  seen.actions[key] = await page.locator('button[title="Delete"], button[title="Archive"], button[title="Pause"], button[title="Run"]').count();
  if (job.screenshots) {
    await page.screenshot({ path: join(job.screenshots, `${visit.user}-${visit.name}.png`) });
  }
  await context.close();
}

try {
  const waiting = [...job.visits];
  const lane = async () => {
    for (let visit = waiting.shift(); visit; visit = waiting.shift()) {
      await look(visit);
    }
  };
  await Promise.all([lane(), lane(), lane()]);
} finally {
  await browser.close();
}
process.stdout.write(JSON.stringify(seen));
