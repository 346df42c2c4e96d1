// What each selection costs, in trainings on everything, and what the stages of the run took by the clock.

class CostsSection {
  static PARTS = [['cost_of_training', 'networks that score', '#4477AA'], ['cost_of_passes', 'passes that score', '#AA3377'], ['cost_of_retraining', 'one retraining', '#BBBBBB']]

  constructor(page, data) {
    Object.assign(this, { page, data })
  }

  async fill(element) {
    element.append(h('p', { class: 'said' }, 'Cost is counted in floating-point operations as a share of one training on everything; selecting and the stages are by the clock.'),
      h('div', { class: 'key' }, CostsSection.PARTS.map(([, text, color]) => { const swatch = h('span', { class: 'swatch' }); swatch.style.background = color; return h('span', { class: 'entry' }, swatch, text) })))
    for (const run of this.data.runs) {
      if (this.data.runs.length > 1) element.append(h('h3', {}, run.run))
      const stages = Object.entries(run.stages).map(([name, seconds]) => `${name} ${count(Math.round(seconds))} s`)
      if (stages.length) element.append(h('p', { class: 'said' }, `By the clock, in the last start: ${stages.join(', ')}.`))
      if (!run.rows.length) continue
      const most = Math.max(...run.rows.map(row => row.cost ?? 0)) || 1
      const place = h('div')
      element.append(place)
      whenNear(element, () => place.replaceChildren(table(['kept by', 'keep', 'accuracy, %', 'cost', 'of which', 'selecting, s'], run.rows.map(row => [
        row.kept_by, String(row.keep_fraction), (100 * row.accuracy).toFixed(2), row.cost === null ? 'not known' : row.cost.toFixed(3), this.bar(row, most),
        row.selecting_seconds === null ? '' : row.selecting_seconds.toFixed(2)]), { caption: 'Cost of one network of each selection', words: [4] })))
    }
  }

  bar(row, most) {
    if (row.cost === null) return ''
    const said = CostsSection.PARTS.map(([key, text]) => `${text} ${row[key].toFixed(3)}`).join(', ')
    return h('div', { class: 'stack', role: 'img', 'aria-label': said, title: said }, CostsSection.PARTS.map(([key, , color]) => {
      const part = h('span')
      part.style.width = `${(100 * row[key]) / most}%`
      part.style.background = color
      return part
    }))
  }
}
