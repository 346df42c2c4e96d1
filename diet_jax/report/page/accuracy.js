// Accuracy against keep fraction and against cost: a pair of charts for each run and rule.

class AccuracySection {
  constructor(page, data) {
    Object.assign(this, { data, renderers: [] })
  }

  async fill(element) {
    const { data } = this
    for (const each of data.tables) {
      if (each.verdicts.length) {
        element.append(alternative(`What the table says${data.tables.length > 1 ? ` (${each.run})` : ''}`,
          () => h('ul', { class: 'notes' }, each.verdicts.map(text => h('li', {}, text)))))
      }
    }
    const names = [...new Set(data.panels.flatMap(panel => panel.series.map(series => series.name)))]
    element.append(legend(names.map(name => ({ key: name, ...data.looks[name], line: true })), (key, on) => {
      for (const map of this.renderers) for (const renderer of map.get(key) ?? []) renderer.visible = on
    }))
    const all = data.panels.flatMap(panel => [...panel.series, ...panel.levels])
    const finite = values => values.filter(value => value !== null)
    const low = 100 * Math.min(...finite(all.flatMap(each => [].concat(each.low))))
    const high = 100 * Math.max(...finite(all.flatMap(each => [].concat(each.high))))
    const margin = (high - low) * 0.06 || 1
    this.range = [low - margin, high + margin]
    const charts = h('div', { class: 'pairs' })
    element.append(charts)
    for (const panel of data.panels) charts.append(this.pair(panel))
    element.append(h('p', { class: 'said' }, 'Bands, or bars at a single point: the 16th to 84th percentile over seeds. Thin steps against cost: what no selection beats at its price or below.'))
    for (const each of data.tables) {
      element.append(alternative(`Table${data.tables.length > 1 ? ` of ${each.run}` : ''}`, () =>
        h('div', {}, table(each.head, each.lines, { caption: `Final test accuracy, %. ${each.note}` }), h('p', { class: 'said' }, data.legend))))
    }
  }

  pair(panel) {
    const box = h('div', { class: 'pair' })
    box.append(h('h3', {}, panel.title))
    const places = [['fraction', 'keep fraction'], ['cost', 'cost, in trainings on everything, scoring included']]
    for (const [key, label] of places) {
      const known = panel.series.some(series => series[key].some(value => value !== null))
      if (!known) continue
      const target = chart(`Final test accuracy in per cent against ${label}: ${panel.series.map(series => this.data.looks[series.name].label).join(', ')}. The table below has the numbers.`)
      box.append(target)
      whenNear(target, () => this.draw(target, panel, key, label))
    }
    return box
  }

  draw(target, panel, key, label) {
    const { looks } = this.data
    // One axis for all, so that panels can be compared.
    const values = this.data.panels.flatMap(each => each.series).flatMap(series => series[key]).filter(value => value !== null)
    const wide = key === 'cost' ? this.data.panels.some(each => each.log_cost) : Math.max(...values) > 20 * Math.min(...values)
    const [low, high] = [Math.min(...values), Math.max(...values)]
    const margin = wide ? 1.1 : (high - low || 1) * 0.05
    const range = wide ? [low / margin, high * margin] : [low - margin, high + margin]
    const made = figure({
      x_label: label, y_label: 'final test accuracy, %', x_axis_type: wide ? 'log' : 'linear',
      x_range: new Bokeh.Range1d({ start: range[0], end: range[1] }), y_range: new Bokeh.Range1d({ start: this.range[0], end: this.range[1] }),
    })
    for (const level of panel.levels) {
      const at = 100 * [].concat(level.mean)[0]
      const span = new Bokeh.Span({ location: at, dimension: 'width', line_color: Theme.value('--faint'), line_dash: [6, 4], line_width: 1.5 })
      const name = new Bokeh.Label({ x: range[0], y: at, x_offset: 4, y_offset: 3, text: 'everything', text_font_size: '11px', text_color: Theme.value('--faint') })
      made.add_layout(span)
      made.add_layout(name)
      made.lines.push([span, 'line_color', '--faint'], [name, 'text_color', '--faint'])
    }
    if (key === 'cost' && panel.front.length > 1) {
      // Steps: until the next better one, nothing is better for the price.
      const [x, y] = [[], []]
      panel.front.forEach(([cost, accuracy], i) => {
        if (i) { x.push(cost); y.push(y[y.length - 1]) }
        x.push(cost)
        y.push(100 * accuracy)
      })
      const steps = made.line({ x, y, line_color: Theme.seen('#777777'), line_width: 1 })
      made.hues.push([steps.glyph, ['line_color'], '#777777'])
    }
    const hundred = values => values.map(value => value === null ? null : 100 * value)
    const series = panel.series.map(each => ({
      key: each.name, label: looks[each.name].label, color: looks[each.name].color, marker: looks[each.name].marker,
      dash: looks[each.name].baseline ? 'dashed' : 'solid', x: each[key], mean: hundred(each.mean), low: hundred(each.low), high: hundred(each.high), more: { fraction: each.fraction, cost: each.cost },
    }))
    this.renderers.push(drawSeries(made, series, { hover: [['', '@name'], ['accuracy', '@mean{0.00} %'], ['16–84 %', '@low{0.00} – @high{0.00}'], ['keep', '@fraction'], ['cost', '@cost{0.00}']] }))
    show(made, target)
  }
}
