// Of what the selection of a row keeps, the share that the selection of a column keeps too.

class OverlapSection {
  constructor(page, data) {
    Object.assign(this, { data, first: page.data.runs[0].name, at: Math.floor(data.groups.length / 2) })
  }

  async fill(element) {
    const { groups, correlations } = this.data
    if (correlations.length) {
      element.append(table(['score', 'run', 'rank correlation'], correlations.map(({ score, run, correlation }) => [score, run, correlation === null ? '–' : correlation.toFixed(3)]), { caption: `With the same score of ${this.first}`, words: [1] }))
    }
    if (!groups.length) return
    this.target = h('div')
    element.append(h('div', { class: 'controls' },
      choose('Keep fraction', this.data.groups.map((group, place) => [place, String(group.fraction)]), this.at, value => { this.at = Number(value); this.write() }, { id: 'overlap-fraction' })), this.target)
    whenNear(element, () => this.write())
    Theme.changed.addEventListener('change', () => { if (this.written) this.write() })
  }

  write() {
    this.written = true
    const group = this.data.groups[this.at]
    const lines = group.names.map((name, row) => [name, ...group.shares[row].map(share => (100 * share).toFixed(0))])
    const more = group.left_out ? ` ${group.left_out} further selections are left out.` : ''
    const made = table(['kept by', ...group.names.map(breakable)], lines, { caption: `Of what a row keeps, the share that a column keeps too, %. Two selections by lot have ${percent(group.fraction, 0)} in common.${more}` })
    made.classList.add('heat')
    made.querySelectorAll('tbody tr').forEach((line, row) => group.shares[row].forEach((share, column) => {
      if (row !== column) shade(line.children[column + 1], 0.8 * Math.abs(share - group.fraction) / Math.max(group.fraction, 1 - group.fraction), share > group.fraction ? CLEAN : CHANGED)
    }))
    this.target.replaceChildren(made)
  }
}
