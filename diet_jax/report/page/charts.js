// Bokeh figures in the page's type and colours. Legends and tables beside them are HTML.

// What Bokeh would set as mathematics, and fetch a library for, is written as it is.
const plain = text => text.replace(/\$\$/g, '$\u200b$').replace(/\\([([])/g, '\\\u200b$1')

const drawn = new Set()

function dress(figure) {
  const [ink, faint, line, card] = ['--ink', '--faint', '--line', '--card'].map(Theme.value)
  figure.background_fill_color = card
  figure.border_fill_color = card
  figure.outline_line_color = null
  for (const axis of [...figure.below, ...figure.left]) {
    axis.axis_line_color = line
    axis.major_tick_line_color = line
    axis.minor_tick_line_color = null
    axis.major_label_text_color = faint
    axis.axis_label_text_color = ink
    axis.axis_label_text_font_style = 'normal'
    axis.axis_label_text_font = axis.major_label_text_font = Theme.value('--sans')
    axis.axis_label_text_font_size = '13px'
    axis.major_label_text_font_size = '12px'
  }
  for (const grid of figure.center) if ('grid_line_color' in grid) grid.grid_line_color = Theme.value('--grid')
  for (const [model, name, color] of figure.lines ?? []) model[name] = Theme.value(color)
  for (const [glyph, names, color] of figure.hues ?? []) {
    for (const name of names) glyph[name] = { value: Theme.seen(color) }
  }
}

// A figure without a toolbar: what can be done with it are controls of the page.
function figure(options) {
  const { x_label, y_label, ...others } = options
  const made = new Bokeh.Plotting.Figure({
    height: 330, sizing_mode: 'stretch_width', tools: [], toolbar_location: null, output_backend: 'canvas',
    min_border_right: 16, lod_threshold: null, ...others,
  })
  made.toolbar.visible = false
  made.below[0].axis_label = plain(x_label)
  made.left[0].axis_label = plain(y_label)
  made.hues = []
  made.lines = []
  dress(made)
  drawn.add(made)
  return made
}

async function show(made, target) {
  target.style.minHeight = `${made.height}px`
  return await Bokeh.Plotting.show(made, target)
}

Theme.changed.addEventListener('change', () => drawn.forEach(dress))

// A chart with its text alternative: what it shows in a sentence, and its numbers as a table.
function chart(label, className = 'chart') {
  return h('div', { class: className, role: 'img', 'aria-label': label })
}

const MARKERS = { o: 'circle', s: 'square', D: 'diamond', d: 'diamond', '^': 'triangle', v: 'inverted_triangle', P: 'plus', X: 'x', '*': 'star', '<': 'triangle', '>': 'inverted_triangle', '': 'circle' }

// Lines with bands. Series: {key, label, color, marker, x, mean, low, high, dash}. Returns renderers by key.
function drawSeries(made, series, { hover = [] } = {}) {
  const renderers = new Map()
  for (const each of series) {
    const known = each.x.map((value, i) => value !== null && each.mean[i] !== null ? i : -1).filter(i => i >= 0)
    const data = { x: [], mean: [], low: [], high: [], name: [] }
    // Where nothing is known of the spread there is no band: one of no width would look like certainty.
    const spread = { x: [], low: [], high: [] }
    for (const i of known) {
      data.x.push(each.x[i])
      data.mean.push(each.mean[i])
      data.low.push(each.low?.[i] ?? each.mean[i])
      data.high.push(each.high?.[i] ?? each.mean[i])
      data.name.push(each.label)
      if ((each.low?.[i] ?? null) === null) continue
      spread.x.push(each.x[i])
      spread.low.push(each.low[i])
      spread.high.push(each.high[i])
    }
    for (const [name, values] of Object.entries(each.more ?? {})) data[name] = known.map(i => values[i])
    const source = new Bokeh.ColumnDataSource({ data })
    const color = Theme.seen(each.color)
    const beside = new Bokeh.ColumnDataSource({ data: spread })
    const band = spread.x.length === 1
      ? made.segment({ x0: { field: 'x' }, x1: { field: 'x' }, y0: { field: 'low' }, y1: { field: 'high' }, source: beside, line_color: color, line_width: 2, line_alpha: 0.5 })
      : made.varea({ x: { field: 'x' }, y1: { field: 'low' }, y2: { field: 'high' }, source: beside, fill_color: color, fill_alpha: 0.16 })
    const line = made.line({ x: { field: 'x' }, y: { field: 'mean' }, source, line_color: color, line_width: 2, line_dash: each.dash ?? 'solid' })
    const dots = made.scatter({ x: { field: 'x' }, y: { field: 'mean' }, source, marker: { value: MARKERS[each.marker] ?? 'circle' }, size: 8, line_color: color, fill_color: color })
    made.hues.push([band.glyph, [spread.x.length === 1 ? 'line_color' : 'fill_color'], each.color], [line.glyph, ['line_color'], each.color], [dots.glyph, ['line_color', 'fill_color'], each.color])
    renderers.set(each.key, [...(renderers.get(each.key) ?? []), band, line, dots])
    made.dots = [...(made.dots ?? []), dots]
  }
  if (hover.length) made.add_tools(new Bokeh.HoverTool({ renderers: made.dots ?? [], tooltips: hover }))
  return renderers
}

// Buttons that show and hide series by key.
function legend(entries, toggled) {
  return h('div', { class: 'legend', role: 'group', 'aria-label': 'Shown in the charts' }, entries.map(entry => {
    const swatch = h('span', { class: `swatch${entry.line ? ' line' : ''}` })
    const paint = () => {
      const color = Theme.seen(entry.color)
      const gap = { dashed: 6, dotted: 3 }[entry.dash]
      swatch.style.background = gap ? `repeating-linear-gradient(90deg, ${color} 0 ${gap}px, transparent ${gap}px ${gap + 3}px)` : color
    }
    paint()
    Theme.changed.addEventListener('change', paint)
    const button = h('button', { type: 'button', class: 'chip', 'aria-pressed': 'true' }, swatch, entry.label)
    button.addEventListener('click', () => {
      const on = button.getAttribute('aria-pressed') !== 'true'
      button.setAttribute('aria-pressed', String(on))
      toggled(entry.key, on)
    })
    return button
  }))
}

// Draws a section's charts when they come near the window: a page opens before all of it is drawn.
function whenNear(element, draw) {
  const observer = new IntersectionObserver(entries => {
    if (!entries.some(entry => entry.isIntersecting)) return
    observer.disconnect()
    draw()
  }, { rootMargin: '300px' })
  observer.observe(element)
}
