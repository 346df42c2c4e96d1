// How scores depend on their seeds: what two groups of seeds, none in common, agree on.

class StabilitySection {
  constructor(page, data) {
    Object.assign(this, { examples: page.examples, data, at: 'correlation' })
  }

  async fill(element) {
    const { data } = this
    const several = this.examples.runs.length > 1
    this.name = each => (several ? `${each.run}: ${data.looks[each.score].label}` : data.looks[each.score].label)
    const of = data.scores[0].of < data.examples ? ` Measured on ${count(data.scores[0].of)} examples, chosen evenly.` : ''
    // Colours are those of scores in all charts; runs differ in their lines.
    this.dash = each => ['solid', 'dashed', 'dotted'][this.examples.runs.findIndex(run => (run.name ?? run) === each.run) % 3] ?? 'solid'
    this.target = h('div')
    element.append(
      h('p', { class: 'said' }, `Groups of seeds with none in common are compared. Bands: one standard error by the jackknife over seeds, where there is one.${of}`),
      h('div', { class: 'controls' }, choose('Agreement', [['correlation', 'rank correlation of two groups'], ...data.fractions.map((fraction, place) => [place, `share that both keep of the highest ${fraction}`])], 'correlation', value => { this.at = value; this.draw() }, { id: 'stability-what' })),
      legend(data.scores.map(each => ({ key: this.name(each), label: this.name(each), color: data.looks[each.score].color, line: true, dash: this.dash(each) })), (key, on) => {
        for (const renderer of this.renderers?.get(key) ?? []) renderer.visible = on
      }), this.target)
    whenNear(element, () => this.draw())
  }

  draw() {
    const { data } = this
    const value = row => (this.at === 'correlation' ? row.correlation : row.kept[Number(this.at)])
    const target = chart('Agreement of two groups of seeds against the number of seeds in each.')
    this.target.replaceChildren(target, alternative('Table', () => table(['score', 'seeds in each group', 'agreement', 'standard error'],
      data.scores.flatMap(each => each.rows.map(row => [this.name(each), String(row.seeds), value(row)[0]?.toFixed(3) ?? '–', value(row)[1]?.toFixed(3) ?? '–'])))))
    const made = figure({ x_label: 'seeds in each group', y_label: this.at === 'correlation' ? 'rank correlation' : 'share that both keep', height: 300 })
    made.below[0].ticker = new Bokeh.FixedTicker({ ticks: [...new Set(data.scores.flatMap(each => each.rows.map(row => row.seeds)))] })
    this.renderers = drawSeries(made, data.scores.map(each => ({
      key: this.name(each), label: this.name(each), color: data.looks[each.score].color, marker: data.looks[each.score].marker, dash: this.dash(each),
      x: each.rows.map(row => row.seeds), mean: each.rows.map(row => value(row)[0]),
      low: each.rows.map(row => value(row)[1] === null ? null : value(row)[0] - value(row)[1]), high: each.rows.map(row => value(row)[1] === null ? null : value(row)[0] + value(row)[1]),
    })), { hover: [['', '@name'], ['seeds', '@x'], ['agreement', '@mean{0.000}']] })
    drawn.delete(this.figure)
    this.figure = made
    show(made, target)
  }
}
