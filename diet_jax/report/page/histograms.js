// How a score is distributed: over all examples, and in each class by a small histogram on the same axis.

const BINS = 60
// Most scores lie near 0 where their median is below this share of the largest: then bins have equal ratios.
const NEAR_0 = 0.05
const DECADES = 6

class HistogramsSection {
  constructor(page, data) {
    Object.assign(this, { page, data, examples: page.examples, at: 0, label: -1 })
  }

  async fill(element) {
    const { examples } = this
    const classes = examples.classNames.map((name, label) => [label, clip(name, 40)])
    this.said = h('p', { class: 'said' })
    this.target = h('div', { class: 'holder' })
    this.byClass = h('div')
    element.append(
      h('div', { class: 'controls' },
        choose('Score', examples.scores.map((score, place) => [place, examples.nameOf(score)]), 0, value => { this.at = Number(value); this.draw() }, { id: 'histogram-score' }),
        choose('Class beside all', [[-1, 'none'], ...classes], -1, value => { this.label = Number(value); this.draw() }, { id: 'histogram-class' })),
      this.said, this.target, h('div', { class: 'beside' }, this.byClass, this.detection()))
    whenNear(element, () => this.draw())
    Theme.changed.addEventListener('change', () => { if (this.bins) this.writeClasses() })
  }

  // Bins of the finite values, and the count of all and of each class in each bin.
  count(score) {
    const { values } = score
    const finite = values.filter(Number.isFinite).sort()
    const [low, high] = finite.length ? [finite[0], finite[finite.length - 1]] : [0, 1]
    const log = low >= 0 && high > 0 && finite[finite.length >> 1] < NEAR_0 * high
    const floor = log ? high / 10 ** DECADES : 0
    const place = log ? value => Math.log10(Math.max(value, floor)) : value => value
    const [from, to] = log ? [Math.log10(floor), Math.log10(high)] : [low, high === low ? low + 1 : high]
    const edges = Array.from({ length: BINS + 1 }, (_, i) => from + (i / BINS) * (to - from))
    const counts = this.examples.classNames.map(() => new Float64Array(BINS))
    const all = new Float64Array(BINS)
    let [infinite, missing] = [0, 0]
    for (let row = 0; row < values.length; row++) {
      if (Number.isNaN(values[row])) { missing++; continue }
      if (!Number.isFinite(values[row])) { infinite++; continue }
      const bin = Math.min(BINS - 1, Math.floor(((place(values[row]) - from) / (to - from)) * BINS))
      all[bin]++
      counts[this.examples.labels[row]][bin]++
    }
    return { log, edges: log ? edges.map(edge => 10 ** edge) : edges, all, counts, infinite, missing, small: log ? finite.filter(value => value < floor).length : 0 }
  }

  draw() {
    const { examples } = this
    const score = examples.scores[this.at]
    const bins = this.bins = this.count(score)
    const run = examples.runs[score.run].name
    const facts = this.data.facts.find(each => each.run === run && each.name === score.name)
    this.said.textContent = [
      `${score.definition || score.name}, ${score.when}; high = ${score.high_means}; mean over ${facts.seeds} ${facts.seeds === '1' ? 'seed' : 'seeds'}`,
      facts.agreement === null ? '' : `mean rank correlation of two seeds ${facts.agreement.toFixed(2)}`,
      bins.infinite ? `${count(bins.infinite)} ${facts.infinite} (∞), not drawn` : '',
      bins.missing ? `${count(bins.missing)} NaN, not drawn` : '',
      bins.small ? `${count(bins.small)} near 0 in the first bin` : '', facts.missing,
    ].filter(Boolean).join('; ') + '.'
    const target = chart(`Histogram of ${examples.nameOf(score)} over ${count(examples.count)} examples${this.label >= 0 ? ` and of class ${examples.className(this.label)}` : ''}.`)
    this.target.replaceChildren(target, alternative('Table of the histogram', () => table(['from', 'to', 'all', ...(this.label >= 0 ? [examples.className(this.label)] : [])],
      [...bins.all].map((number, i) => [short(bins.edges[i]), short(bins.edges[i + 1]), count(number), ...(this.label >= 0 ? [count(bins.counts[this.label][i])] : [])]))))
    const made = figure({ x_label: `${examples.nameOf(score)}${bins.log ? ', log scale' : ''}`, y_label: 'share of the examples, %', x_axis_type: bins.log ? 'log' : 'linear', height: 260 })
    const bars = (counts, color, alpha) => {
      const total = counts.reduce((sum, each) => sum + each, 0) || 1
      const data = { left: bins.edges.slice(0, -1), right: bins.edges.slice(1), top: [...counts].map(each => (100 * each) / total), number: [...counts] }
      const source = new Bokeh.ColumnDataSource({ data })
      const renderer = made.quad({ left: { field: 'left' }, right: { field: 'right' }, top: { field: 'top' }, bottom: { value: 0 }, source, fill_color: Theme.seen(color), line_color: null, fill_alpha: alpha })
      made.hues.push([renderer.glyph, ['fill_color'], color])
      made.add_tools(new Bokeh.HoverTool({ renderers: [renderer], tooltips: [['from', '@left'], ['to', '@right'], ['examples', '@number{0,0}'], ['share', '@top{0.00} %']] }))
    }
    bars(bins.all, score.color, this.label >= 0 ? 0.35 : 0.8)
    if (this.label >= 0) bars(bins.counts[this.label], classColor(this.label), 0.65)
    made.y_range.start = 0
    drawn.delete(this.figure)
    this.figure = made
    show(made, target)
    this.writeClasses()
  }

  writeClasses() {
    const { examples, bins } = this
    const score = examples.scores[this.at]
    const byClass = examples.classNames.map(() => [])
    score.values.forEach((value, row) => { if (!Number.isNaN(value)) byClass[examples.labels[row]].push(value) })
    const rows = examples.classNames.map((name, label) => {
      const values = Float32Array.from(byClass[label]).sort()
      const at = share => values.length ? values[Math.min(values.length - 1, Math.floor(share * values.length))] : null
      return { name, label, number: values.length, low: at(0.16), median: at(0.5), high: at(0.84) }
    }).filter(row => row.number).sort((a, b) => b.median - a.median)
    const lines = rows.map(row => [row.name, this.spark(bins.counts[row.label], row), count(row.number), short(row.low), short(row.median), short(row.high)])
    this.byClass.replaceChildren(table(['class', 'distribution', 'examples', '16 %', 'median', '84 %'], lines, { caption: 'In each class, highest median first', words: [1] }))
  }

  spark(counts, row) {
    const canvas = h('canvas', { class: 'spark', width: 440, height: 60, role: 'img', 'aria-label': `${row.name}: median ${short(row.median)}` })
    const pen = canvas.getContext('2d')
    const most = Math.max(...counts) || 1
    pen.fillStyle = Theme.seen(this.examples.scores[this.at].color)
    counts.forEach((number, i) => pen.fillRect((i * 440) / BINS, 60 - (58 * number) / most, 440 / BINS - 1, (58 * number) / most))
    return canvas
  }

  detection() {
    const found = this.data.facts.filter(facts => facts.detection)
    if (!found.length) return ''
    const several = this.examples.runs.length > 1
    const lines = found.map(({ run, name, detection }) => [several ? `${run}: ${name}` : name,
      ...['roc_auc', 'average_precision', 'precision_at_share', 'share'].map(key => detection[key].toFixed(3))])
    return table(['wrong labels found by', 'ROC AUC', 'average precision', 'precision among as many', 'guessing'], lines, { caption: 'How well high scores point at the changed labels' })
  }
}
