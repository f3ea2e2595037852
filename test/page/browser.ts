/** Pages in a real browser: what a reader would see cut, unreadable or broken. */
import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Browser, chromium, type Page } from 'playwright-core'
import { afterAll, beforeAll } from 'vitest'
import { temporaryFolder } from '../fakes/world.js'

const places = [process.env.FIRE_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
const executablePath = places.find((path) => path !== undefined && path !== '' && existsSync(path))

/** Where there is no browser a test is skipped, loudly; where CI is set it must not be. */
export const hasBrowser = executablePath !== undefined || Boolean(process.env.CI)

if (!executablePath) {
  console.warn(
    '\nSKIPPED: pages were not looked at in a browser. Install it:  sudo apt-get install -y chromium  (or set FIRE_CHROMIUM)\n',
  )
}

const look = readFileSync(new URL('./look.js', import.meta.url), 'utf8')

export interface View {
  width: number
  colorScheme: 'light' | 'dark'
}

export const allViews: readonly View[] = [1280, 820, 390].flatMap((width) =>
  (['light', 'dark'] as const).map((colorScheme) => ({ width, colorScheme })),
)

/** One browser for the tests of a `describe`. What it returns says what is wrong with a page, one line each. */
export function useBrowser() {
  let browser: Browser
  let folder: string

  beforeAll(async () => {
    browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
    folder = await temporaryFolder()
  })
  afterAll(() => browser?.close())

  const ofFile = (file: string, views = allViews): Promise<string[]> => faultsOf(browser, file, views)
  const ofText = async (page: string, views = allViews): Promise<string[]> => {
    const file = join(folder, 'page.html')
    await writeFile(file, page)
    return ofFile(file, views)
  }
  return { ofFile, ofText }
}

async function faultsOf(browser: Browser, file: string, views: readonly View[]): Promise<string[]> {
  const faults: string[] = []
  const page = await browser.newPage()
  listen(page, file, (fault) => faults.push(fault))
  await page.goto(pathToFileURL(file).href)
  for (const { width, colorScheme } of views) {
    await page.setViewportSize({ width, height: 900 })
    await page.emulateMedia({ colorScheme })
    const seen = (await page.evaluate(look)) as string[]
    faults.push(...seen.map((fault) => `${width} px, ${colorScheme}: ${fault}`))
  }
  await page.close()
  return faults
}

function listen(page: Page, file: string, note: (fault: string) => void): void {
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') note(`console: ${message.text()}`)
  })
  page.on('pageerror', (error) => note(`error: ${error.message}`))
  page.on('dialog', (dialog) => note(`dialog: ${dialog.message()}`))
  page.on('request', (request) => {
    if (!request.url().startsWith('data:') && request.url() !== pathToFileURL(file).href) note(`asks ${request.url()}`)
  })
}
