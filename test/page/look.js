/** Runs in a page and gives what is wrong with it, one line each; the value of this file is the promise of them. */
;(async () => {
  const faults = []
  const wide = innerWidth
  const say = (fault, element) => {
    const name = `${element.tagName.toLowerCase()}.${element.getAttribute('class') ?? ''}`
    faults.push(`${fault}: <${name}> ${JSON.stringify(element.textContent?.trim().slice(0, 40))}`)
  }

  const colourOf = (text) => {
    const [r = 0, g = 0, b = 0, a = 1] = (text.match(/[\d.]+/g) ?? []).map(Number)
    return [r, g, b, a]
  }
  const over = ([r, g, b, a], [R, G, B]) => [
    r * a + R * (1 - a),
    g * a + G * (1 - a),
    b * a + B * (1 - a),
    1,
  ]
  const backgroundOf = (element) => {
    const layers = []
    for (let at = element; at; at = at.parentElement) {
      layers.unshift(colourOf(getComputedStyle(at).backgroundColor))
    }
    return layers.reduce((below, above) => over(above, below), [255, 255, 255, 1])
  }
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((value) => {
      const v = value / 255
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * x + 0.7152 * y + 0.0722 * z
  }
  const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y)
    return (high + 0.05) / (low + 0.05)
  }

  const isBlock = (element) => !/^inline$|contents|^ruby|math/.test(getComputedStyle(element).display)
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement
    if (!element || (node.textContent ?? '').trim() === '' || /^(style|script|title)$/i.test(element.tagName)) continue
    const range = document.createRange()
    range.selectNodeContents(node)
    const boxes = [...range.getClientRects()].filter(({ width, height }) => width > 0 && height > 0)
    if (boxes.length === 0) continue
    const style = getComputedStyle(element)
    const svg = element instanceof SVGGraphicsElement ? element : null
    const size = Number.parseFloat(style.fontSize) * (svg?.getScreenCTM()?.a ?? 1)
    if (size < 10.99) say(`text of ${size.toFixed(1)} px`, element)
    if (boxes.some(({ left, right }) => left < -0.5 || right > wide + 0.5)) say('text outside the window', element)
    let block = element
    while (block && !svg && !isBlock(block)) block = block.parentElement
    if (block && !svg) {
      const { left, right } = block.getBoundingClientRect()
      if (boxes.some((box) => box.left < left - 1.5 || box.right > right + 1.5)) say('text outside its box', element)
    }
    const opacity = [...ancestors(element)].reduce((product, at) => product * Number(getComputedStyle(at).opacity), 1)
    const [r, g, b, a] = colourOf(svg ? style.fill : style.color)
    const background = backgroundOf(svg?.ownerSVGElement ?? element)
    const seen = contrast(over([r, g, b, a * opacity], background), background)
    if (seen < 4.5) say(`contrast ${seen.toFixed(2)}`, element)
  }

  function* ancestors(element) {
    for (let at = element; at; at = at.parentElement) yield at
  }

  if (document.documentElement.scrollWidth > wide)
    faults.push(`scrolls sideways: ${document.documentElement.scrollWidth} px`)
  for (const element of document.body.querySelectorAll('*')) {
    const { overflowX } = getComputedStyle(element)
    const clips = overflowX !== 'visible' && !(element instanceof SVGElement)
    if (clips && element.scrollWidth > element.clientWidth + 1) say('cut or scrolling sideways', element)
  }

  const levels = [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(({ tagName }) => Number(tagName[1]))
  if (levels[0] !== 1 || levels.filter((level) => level === 1).length !== 1) faults.push(`headings: ${levels}`)
  levels.forEach((level, i) => {
    if (i > 0 && level > levels[i - 1] + 1) faults.push(`a heading of level ${level} after ${levels[i - 1]}`)
  })

  for (const image of document.querySelectorAll('img, image')) {
    const source = image.getAttribute('src') ?? image.getAttribute('href') ?? ''
    const decoded = new Image()
    decoded.src = source
    await decoded.decode().catch(() => faults.push(`an image does not decode: ${source.slice(0, 40)}`))
  }
  return faults
})()
