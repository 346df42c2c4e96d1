// What a reader looks at: filters, and the examples selected among those that pass them.

class Choice extends EventTarget {
  constructor(examples) {
    super()
    this.examples = examples
    this.filter = { label: -1, labels: 'all', selection: -1, kept: 'all', score: 0, low: -Infinity, high: Infinity }
    this.sort = { by: 0, falling: true }
    this.passes = new Uint8Array(examples.count).fill(1)
    this.passing = examples.count
    this.selected = new Uint8Array(examples.count)
    this.numSelected = 0
  }

  async setFilter(changes) {
    Object.assign(this.filter, changes)
    const turn = this.turn = (this.turn ?? 0) + 1
    const { label, labels, selection, kept, score, low, high } = this.filter
    const { examples, passes } = this
    const keep = selection < 0 || kept === 'all' ? null : await examples.keepOf(examples.selections[selection])
    // While a mask was read another filter was set: that one counts.
    if (turn !== this.turn) return
    const values = examples.scores[score]?.values
    const open = low === -Infinity && high === Infinity
    let passing = 0
    for (let row = 0; row < passes.length; row++) {
      const pass =
        (label < 0 || examples.labels[row] === label) &&
        (labels === 'all' || examples.isChanged(row) === (labels === 'changed')) &&
        (keep === null || keep[row] === (kept === 'kept' ? 1 : 0)) &&
        (open || (values[row] >= low && values[row] <= high))
      passes[row] = pass ? 1 : 0
      passing += passes[row]
    }
    this.passing = passing
    this.dispatchEvent(new Event('filter'))
  }

  setSort(changes) {
    Object.assign(this.sort, changes)
    this.dispatchEvent(new Event('sort'))
  }

  // Selects the rows for which `inside(row)` holds, of those that pass; `add` keeps what was selected.
  select(inside, add = false) {
    const { passes, selected } = this
    let number = 0
    for (let row = 0; row < selected.length; row++) {
      const now = (add && selected[row]) || (passes[row] && inside(row)) ? 1 : 0
      selected[row] = now
      number += now
    }
    this.numSelected = number
    this.dispatchEvent(new Event('select'))
  }

  toggle(row) {
    this.selected[row] = 1 - this.selected[row]
    this.numSelected += this.selected[row] ? 1 : -1
    this.dispatchEvent(new Event('select'))
  }

  clear() {
    this.selected.fill(0)
    this.numSelected = 0
    this.dispatchEvent(new Event('select'))
  }

  // The rows in the gallery: selected ones if there are any, that pass the filters, in the order asked for.
  rows() {
    const { by, falling } = this.sort
    const score = this.examples.scores[by]
    const order = score ? this.examples.orderOf(score) : null
    const found = []
    const only = this.numSelected > 0
    for (let i = 0; i < this.passes.length; i++) {
      const place = falling && order ? this.passes.length - 1 - i : i
      const row = order ? order[place] : i
      if (this.passes[row] && (!only || this.selected[row])) found.push(row)
    }
    return found
  }
}
