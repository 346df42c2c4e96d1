// One score of every example against another. Points are drawn into two pictures of pixels, all of them and the
// selected ones, which Bokeh shows between its axes: 60,000 glyphs would take seconds, pixels take milliseconds.

class Scatter {
  constructor(choice, pictures, options) {
    Object.assign(this, { choice, pictures, examples: choice.examples, options })
    this.element = h('div', { class: 'chart scatter', role: 'group', 'aria-label': 'Scatter of two scores; the form below selects by numbers.' })
    this.card = h('div', { class: 'hover', 'aria-hidden': 'true' })
    this.times = []
    choice.addEventListener('filter', () => this.redraw())
    choice.addEventListener('select', () => this.redraw(true))
    Theme.changed.addEventListener('change', () => { this.makeColors(); this.redraw() })
  }

  // Where examples stand: values or ranks. What is infinite stands beyond the end of what is finite.
  static places(examples, score, ranks) {
    const from = ranks ? examples.ranksOf(score) : score.values
    let [low, high] = [Infinity, -Infinity]
    for (const value of from) {
      if (value < low && value > -Infinity) low = value
      if (value > high && value < Infinity) high = value
    }
    if (low > high) [low, high] = [0, 1]
    const margin = (high - low || Math.abs(high) || 1) * 0.04
    const beyond = from.some(value => value === Infinity || value === -Infinity)
    const places = beyond ? from.map(value => value === Infinity ? high + 2 * margin : value === -Infinity ? low - 2 * margin : value) : from
    return { places, low: low - (beyond ? 3 : 1) * margin, high: high + (beyond ? 3 : 1) * margin, beyond }
  }

  async start() {
    const range = () => new Bokeh.Range1d({ start: 0, end: 1 })
    const made = figure({ x_label: ' ', y_label: ' ', x_range: range(), y_range: range(), height: 460 })
    this.tools = {
      box: new Bokeh.BoxSelectTool({ continuous: true, persistent: false }), lasso: new Bokeh.LassoSelectTool({ continuous: false }),
      zoom: new Bokeh.BoxZoomTool(), move: new Bokeh.PanTool(),
    }
    made.add_tools(...Object.values(this.tools))
    const layer = () => {
      const source = new Bokeh.ColumnDataSource({ data: { image: [], x: [], y: [], dw: [], dh: [] } })
      const names = Object.fromEntries(['image', 'x', 'y', 'dw', 'dh'].map(name => [name, { field: name }]))
      return [source, made.image_rgba({ ...names, source })]
    }
    ;[this.below, this.belowRenderer] = layer()
    ;[this.above] = layer()
    this.figure = made
    this.view = await show(made, this.element)
    made.on_event('selectiongeometry', event => this.brush(event.geometry, event.final))
    made.on_event('mousemove', event => this.hover(event))
    made.on_event('tap', event => this.hover(event))
    made.on_event('mouseleave', () => this.hide())
    for (const one of [made.x_range, made.y_range]) one.change.connect(() => this.redraw())
    new ResizeObserver(() => this.redraw()).observe(this.element)
    this.element.append(this.card)
    this.setAxes(this.options)
  }

  setMode(mode) {
    for (const [name, tool] of Object.entries(this.tools)) tool.active = name === mode
  }

  setAxes(changes) {
    Object.assign(this.options, changes)
    const { x, y, ranks } = this.options
    const scores = this.examples.scores
    this.x = Scatter.places(this.examples, scores[x], ranks)
    this.y = Scatter.places(this.examples, scores[y], ranks)
    const label = (score, axis) => `${this.examples.nameOf(score)}${ranks ? ', rank' : ''} (high = ${score.high_means}${axis.beyond ? '; ∞ at the edge' : ''})`
    this.figure.below[0].axis_label = plain(label(scores[x], this.x))
    this.figure.left[0].axis_label = plain(label(scores[y], this.y))
    this.element.setAttribute('aria-label', `Scatter of ${count(this.examples.count)} examples: ${label(scores[y], this.y)} against ${label(scores[x], this.x)}.`)
    this.reset()
  }

  async setColor(by) {
    this.options.color = by
    await this.makeColors()
    this.redraw()
  }

  reset() {
    this.figure.x_range.setv({ start: this.x.low, end: this.x.high })
    this.figure.y_range.setv({ start: this.y.low, end: this.y.high })
    this.redraw()
  }

  // The colour of each example, as a pixel; and what the colours mean, for the legend.
  async makeColors() {
    const { examples } = this
    const by = this.options.color
    const colors = new Uint32Array(examples.count)
    const two = (is, yes, no) => {
      const [a, b] = [yes, no].map(([, color]) => pixel(rgb(Theme.seen(color))))
      for (let row = 0; row < colors.length; row++) colors[row] = is(row) ? a : b
      this.key = { entries: [yes, no] }
    }
    if (by === 'none') {
      colors.fill(pixel(rgb(Theme.seen(CLEAN))))
      this.key = { entries: [] }
    } else if (by === 'labels') {
      two(row => examples.isChanged(row), ['label changed', CHANGED], ['label as it came', CLEAN])
    } else if (by === 'class') {
      const all = examples.classNames.map((_, label) => pixel(rgb(Theme.seen(classColor(label)))))
      for (let row = 0; row < colors.length; row++) colors[row] = all[examples.labels[row]]
      this.key = { entries: examples.classNames.slice(0, HUES.length).map((name, label) => [name, classColor(label)]) }
    } else if (by === 'kept') {
      const selection = examples.selections[Math.max(0, this.choice.filter.selection)]
      const keep = await examples.keepOf(selection)
      two(row => keep[row] === 1, [`kept by ${examples.nameOfSelection(selection)}`, CLEAN], ['dropped', CHANGED])
    } else {
      const score = examples.scores[by]
      const palette = ramp(Theme.dark ? VIRIDIS.slice(1) : VIRIDIS.slice(0, 8))
      let [low, high] = [Infinity, -Infinity]
      for (const value of score.values) if (Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value) }
      const scale = 255 / (high - low || 1)
      for (let row = 0; row < colors.length; row++) {
        const value = score.values[row]
        colors[row] = palette[value === Infinity ? 255 : value > low ? Math.min(255, ((value - low) * scale) | 0) : 0]
      }
      this.key = { ramp: true, name: examples.nameOf(score), low: short(low), high: short(high) }
    }
    this.colors = colors
    this.element.dispatchEvent(new Event('key'))
  }

  redraw(onlyAbove = false) {
    this.stale = this.stale || !onlyAbove
    if (this.waiting || !this.view || !this.colors) return
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0
      const begin = performance.now()
      this.draw(this.stale)
      this.stale = false
      this.times.push(performance.now() - begin)
    })
  }

  draw(all) {
    const { start: x0, end: x1 } = this.figure.x_range
    const { start: y0, end: y1 } = this.figure.y_range
    const inner = this.figure.inner_width
    if (!(inner > 0)) return
    const dense = Math.min(2, devicePixelRatio || 1)
    const [width, height] = [Math.round(inner * dense), Math.round(this.figure.inner_height * dense)]
    const box = { x: [x0], y: [y0], dw: [x1 - x0], dh: [y1 - y0] }
    const [sx, sy] = [width / (x1 - x0), height / (y1 - y0)]
    const { passes, selected, numSelected } = this.choice
    // Larger where few are in view.
    const share = Math.min(1, ((x1 - x0) * (y1 - y0)) / ((this.x.high - this.x.low) * (this.y.high - this.y.low)))
    const there = this.examples.count * share
    const size = Math.round((there > 20000 ? 2 : there > 4000 ? 3 : 5) * dense)
    if (all || this.owner?.length !== width * height) {
      this.owner = new Int32Array(width * height).fill(-1)
      this.size = { width, height, x0, y0, sx, sy, dense }
      const image = new Uint32Array(width * height)
      const faint = pixel(rgb(Theme.value('--faint')), 70)
      this.dots(image, size, row => (passes[row] ? 0 : faint), null)
      this.dots(image, size, row => (passes[row] ? this.colors[row] : 0), this.owner)
      this.below.data = { ...box, image: [asImage(image, height, width)] }
    }
    this.belowRenderer.glyph.global_alpha = { value: numSelected ? 0.3 : 1 }
    const image = new Uint32Array(numSelected ? width * height : 1)
    if (numSelected) this.dots(image, size + Math.round(dense), row => (selected[row] && passes[row] ? this.colors[row] : 0), null)
    this.above.data = { ...box, image: [numSelected ? asImage(image, height, width) : asImage(image, 1, 1)] }
  }

  // Squares of pixels, row 0 at the bottom as Bokeh has it.
  dots(image, size, color, owner) {
    const { width, height, x0, y0, sx, sy } = this.size
    const [xs, ys, half] = [this.x.places, this.y.places, size >> 1]
    for (let row = 0; row < xs.length; row++) {
      const paint = color(row)
      if (paint === 0) continue
      const left = Math.round((xs[row] - x0) * sx) - half
      const low = Math.round((ys[row] - y0) * sy) - half
      if (!(left > -size && low > -size && left < width && low < height)) continue
      const [right, top] = [Math.min(left + size, width), Math.min(low + size, height)]
      for (let y = Math.max(low, 0); y < top; y++) {
        for (let at = y * width + Math.max(left, 0), end = y * width + right; at < end; at++) {
          image[at] = paint
          if (owner) owner[at] = row
        }
      }
    }
  }

  brush(geometry, final) {
    const begin = performance.now()
    this.hide()
    const [xs, ys] = [this.x.places, this.y.places]
    if (geometry.type === 'rect') {
      const { x0, x1, y0, y1 } = geometry
      this.selectBox(Math.min(x0, x1), Math.max(x0, x1), Math.min(y0, y1), Math.max(y0, y1))
    } else if (geometry.type === 'poly') {
      const [px, py] = [[...geometry.x], [...geometry.y]]
      this.choice.select(row => inside(xs[row], ys[row], px, py))
    } else return
    if (final) say(`${count(this.choice.numSelected)} selected`)
    this.measure(begin)
  }

  // From the brush until what it selected is drawn, here and in the gallery.
  measure(begin) {
    requestAnimationFrame(() => requestAnimationFrame(() => window.reportTimes.brush.push(performance.now() - begin)))
  }

  selectBox(x0, x1, y0, y1) {
    const [xs, ys] = [this.x.places, this.y.places]
    this.choice.select(row => xs[row] >= x0 && xs[row] <= x1 && ys[row] >= y0 && ys[row] <= y1)
  }

  // The example nearest to a place within some pixels, from what was drawn there last.
  nearest(sx, sy, reach = 7) {
    const { width, height, x0, y0, sx: scaleX, sy: scaleY, dense } = this.size ?? {}
    if (!this.owner) return -1
    const [px, py] = [Math.round((sx - x0) * scaleX), Math.round((sy - y0) * scaleY)]
    let [best, found] = [Infinity, -1]
    const far = Math.round(reach * dense)
    for (let dy = -far; dy <= far; dy++) {
      for (let dx = -far; dx <= far; dx++) {
        const [x, y, distance] = [px + dx, py + dy, dx * dx + dy * dy]
        if (x < 0 || y < 0 || x >= width || y >= height || distance >= best) continue
        const row = this.owner[y * width + x]
        if (row >= 0) [best, found] = [distance, row]
      }
    }
    return found
  }

  hover(event) {
    const row = this.nearest(event.x, event.y)
    if (row < 0) return this.hide()
    const { examples, pictures, options } = this
    if (this.card.dataset.row !== String(row)) {
      this.card.dataset.row = row
      const canvas = h('canvas')
      if (pictures.has(row)) pictures.draw(canvas, row)
      const line = place => `${examples.scores[place].label} ${short(examples.scores[place].values[row])}`
      this.card.replaceChildren(
        ...(pictures.has(row) ? [canvas] : []),
        h('div', {}, h('strong', {}, examples.className(examples.labels[row])),
          examples.isChanged(row) ? h('span', { class: 'clean' }, `came as ${examples.className(examples.clean[row])}`) : '',
          h('span', {}, line(options.x)), options.y !== options.x ? h('span', {}, line(options.y)) : '',
          h('span', { class: 'id' }, `id ${clip(String(examples.ids[row]), 28)}`)))
    }
    const box = this.element.getBoundingClientRect()
    this.card.classList.add('on')
    this.card.style.left = `${Math.max(4, Math.min(event.sx + 16, box.width - this.card.offsetWidth - 4))}px`
    this.card.style.top = `${Math.max(4, event.sy + 16 + this.card.offsetHeight > box.height ? event.sy - this.card.offsetHeight - 12 : event.sy + 16)}px`
  }

  hide() {
    this.card.classList.remove('on')
    delete this.card.dataset.row
  }
}

// Bokeh takes pixels as an array with a shape.
const asImage = (pixels, height, width) => Bokeh.require('core/util/ndarray').ndarray(pixels, { dtype: 'uint32', shape: [height, width] })

// Whether a point lies in a polygon: by how many of its edges a ray to the right crosses.
function inside(x, y, xs, ys) {
  let within = false
  for (let i = 0, j = xs.length - 1; i < xs.length; j = i++) {
    if ((ys[i] > y) !== (ys[j] > y) && x < ((xs[j] - xs[i]) * (y - ys[i])) / (ys[j] - ys[i]) + xs[i]) within = !within
  }
  return within
}
