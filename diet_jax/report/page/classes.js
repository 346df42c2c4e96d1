// What is kept of each class, and the accuracy in each: a table whose cells are shaded.

class ClassesSection {
  constructor(page, data) {
    const fractions = [...new Set(data.selections.map(each => each.fraction))].filter(each => each < 1).sort((a, b) => a - b)
    Object.assign(this, { examples: page.examples, data, fractions, fraction: fractions[Math.floor(fractions.length / 2)], what: 'kept' })
  }

  async fill(element) {
    this.target = h('div')
    const has = key => this.data.selections.some(each => each[key])
    const whats = [['kept', 'share of the class that is kept'], ['accuracy', 'test accuracy in the class']].filter(([key]) => has(key))
    this.what = whats[0][0]
    element.append(h('div', { class: 'controls' },
      choose('Show', whats, this.what, value => { this.what = value; this.write() }, { id: 'classes-what' }),
      choose('Keep fraction', this.fractions.map(each => [each, String(each)]), this.fraction, value => { this.fraction = Number(value); this.write() }, { id: 'classes-fraction' })), this.target)
    whenNear(element, () => this.write())
    Theme.changed.addEventListener('change', () => { if (this.written) this.write() })
  }

  write() {
    this.written = true
    const { examples, data, what } = this
    const several = examples.runs.length > 1
    const columns = data.selections.filter(each => each[what] && (each.fraction === this.fraction || (what === 'accuracy' && each.fraction === 1)))
    const value = (each, label) => (what === 'kept' ? each.kept[label] / (data.sizes[label] || 1) : each.accuracy[label])
    const lines = examples.classNames.map((name, label) => [name, count(data.sizes[label]), ...columns.map(each => {
      const number = value(each, label)
      return percent(number, 1).replace(' %', '')
    })])
    const head = ['class', 'examples', ...columns.map(each => (several ? `${each.run}: ${each.kept_by}` : each.kept_by))]
    const caption = what === 'kept' ? `Share of each class that is kept, %; keep fraction ${this.fraction}. Blue: above it, orange: below it.` : `Test accuracy in each class, %; keep fraction ${this.fraction}.`
    const made = table(head.map(breakable), lines, { caption })
    made.classList.add('heat')
    made.querySelectorAll('tbody tr').forEach((line, label) => columns.forEach((each, place) => {
      const cell = line.children[place + 2]
      const number = value(each, label)
      if (number === null || number === undefined) return
      if (what === 'kept') {
        const off = (number - this.fraction) / Math.max(this.fraction, 1 - this.fraction)
        shade(cell, 0.75 * Math.abs(off), off > 0 ? CLEAN : CHANGED)
      } else shade(cell, 0.7 * (1 - number), CHANGED)
    }))
    this.target.replaceChildren(made)
  }
}
