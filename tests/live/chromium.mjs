// SPDX-License-Identifier: GPL-3.0-or-later
// What a desktop opens addresses with, as a real Chromium: fills the fields of SCRIPTED_BROWSER, presses the
// buttons named there, and goes on until nothing is left to do. Complaints of the browser go to CHROMIUM_LOG.
import { appendFileSync } from 'node:fs';

const { default: playwright } = await import(process.env.PLAYWRIGHT_MODULE);
const fields = JSON.parse(process.env.SCRIPTED_BROWSER);
const told = (text) => appendFileSync(process.env.CHROMIUM_LOG, text + '\n');

const browser = await playwright.chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--no-sandbox', '--disable-gpu', '--no-proxy-server'],
});
try {
  const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
  page.on('console', (message) => told(`${message.type()}: ${message.text()}`));
  page.on('framenavigated', (frame) => told(`at ${frame.url().split('?')[0]}`));
  await page.goto(process.argv[2]);
  for (let step = 0; step < 12; step += 1) {
    await page.waitForLoadState('load');
    if (page.url().startsWith('http://127.0.0.1') && page.url().includes('/callback')) break;
    const moved = page.waitForEvent('framenavigated', { timeout: 15000 }).catch(() => null);
    for (const [name, value] of Object.entries(fields)) {
      const input = page.locator(`input[type=text][name="${name}"], input[type=password][name="${name}"]`);
      if (await input.count()) await input.first().fill(value);
      const radio = page.locator(`input[type=radio][name="${name}"][value="${value}"]`);
      if (await radio.count()) await radio.first().check();
    }
    const named = Object.entries(fields).map(([name, value]) => `button[name="${name}"][value="${value}"]`);
    const button = page.locator([...named, 'button[type=submit]', 'form button:not([name])'].join(', '));
    if (!(await button.count())) break;
    await button.first().click();
    if ((await moved) === null) break;
  }
  told(`end ${page.url().split('?')[0]}: ${(await page.innerText('body')).slice(0, 200)}`);
} catch (error) {
  told(`failed: ${error}`);
} finally {
  await browser.close();
}
