/** The frame of every page: one file that opens from disk, loads nothing and runs nothing. */
import { type Html, html, trusted } from './html.js'
import { STYLE } from './style.js'

/** A browser that honours this will load nothing even if an escape were missed. */
const POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

/**
 * @param style of this page alone, after the common one.
 * @param refresh seconds after which a browser reads the file again, for a page that is still written.
 * @returns the whole page as text, UTF-8 without forbidden characters.
 */
export function renderPage(title: string, content: Html, style = '', refresh?: number): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
${refresh !== undefined && html`<meta http-equiv="refresh" content="${refresh}">`}
<title>${title}</title>
<style>${trusted(STYLE + style)}</style>
</head>
<body>
<main>
<h1>${title}</h1>
${content}
</main>
</body>
</html>
`.markup
}
