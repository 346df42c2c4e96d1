// The examples that are looked at, a page of them at a time; drawn when it is turned to.

const PER_PAGE = 60

class Gallery {
  constructor(choice, pictures) {
    Object.assign(this, { choice, pictures, examples: choice.examples, page: 0, rows: [], at: 0 })
    this.list = h('ul', { class: `gallery${pictures.areImages ? '' : ' rows'}`, role: 'listbox', 'aria-multiselectable': 'true', 'aria-label': 'Examples. Arrow keys move, Enter shows one, Space selects.' })
    this.said = h('p', { class: 'said', id: 'shown' })
    this.before = h('button', { type: 'button', onclick: () => this.turn(-1) }, '‹ Previous')
    this.after = h('button', { type: 'button', onclick: () => this.turn(1) }, 'Next ›')
    this.where = h('span', { class: 'where' })
    this.dialog = h('dialog', { 'aria-label': 'One example' })
    this.element = h('div', { class: 'gallery-box' }, this.said, this.list,
      h('div', { class: 'pages' }, this.before, this.where, this.after), this.dialog)
    this.list.addEventListener('keydown', event => this.key(event))
    this.list.addEventListener('click', event => {
      const item = event.target.closest('li')
      if (item) this.open(Number(item.dataset.place))
    })
    this.dialog.addEventListener('click', event => { if (event.target === this.dialog) this.dialog.close() })
    const again = () => { this.page = 0; this.at = 0; this.fill() }
    choice.addEventListener('filter', again)
    choice.addEventListener('sort', again)
    choice.addEventListener('select', () => this.held ? this.mark() : again())
  }

  turn(by) {
    this.page += by
    this.at = 0
    this.draw()
    this.list.scrollTop = 0
  }

  // Once a frame: a brush may move more often.
  fill() {
    if (this.waiting) return
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0
      this.rows = this.choice.rows()
      this.draw()
    })
  }

  draw() {
    const { choice, examples } = this
    const pages = Math.max(1, Math.ceil(this.rows.length / PER_PAGE))
    this.page = Math.min(Math.max(this.page, 0), pages - 1)
    this.before.disabled = this.page === 0
    this.after.disabled = this.page === pages - 1
    this.where.textContent = `page ${count(this.page + 1)} of ${count(pages)}`
    const end = examples.scores.length ? `, ${this.sortedBy()}` : ''
    this.said.textContent = choice.numSelected ? `${count(this.rows.length)} of ${count(choice.numSelected)} selected examples${end}` : `${count(this.rows.length)} of ${count(examples.count)} examples${end}`
    const from = this.page * PER_PAGE
    const shown = this.rows.slice(from, from + PER_PAGE)
    this.list.replaceChildren(...shown.map((row, place) => this.item(row, place)))
    if (!shown.length) this.list.append(h('li', { class: 'none', role: 'presentation' }, 'No example passes these filters.'))
    this.focusable(this.at)
    this.element.dispatchEvent(new Event('drawn'))
  }

  sortedBy() {
    const { by, falling } = this.choice.sort
    const score = this.examples.scores[by]
    return score ? `${score.ends[falling ? 0 : 1]} by ${this.examples.nameOf(score)} first` : 'in the order of the dataset'
  }

  item(row, place) {
    const { examples, choice, pictures } = this
    const score = examples.scores[choice.sort.by] ?? examples.scores[0]
    const name = examples.className(examples.labels[row])
    const changed = examples.isChanged(row)
    const value = short(score.values[row])
    const clean = changed ? examples.className(examples.clean[row]) : ''
    const said = `${name}${changed ? `, wrong label, came as ${clean}` : ''}, ${score.label} ${value}, id ${examples.ids[row]}`
    const item = h('li', { role: 'option', tabindex: '-1', 'aria-selected': String(choice.selected[row] === 1), 'aria-label': said, 'data-place': place, 'data-row': row, class: changed ? 'changed' : '', title: `id ${examples.ids[row]}` })
    if (pictures.areImages) {
      const canvas = h('canvas', { 'aria-hidden': 'true', class: pictures.has(row) ? '' : 'missing' })
      pictures.draw(canvas, row)
      item.append(canvas)
    } else {
      item.append(h('code', { class: 'values' }, pictures.valuesOf(row).map(short).join('  ') || String(examples.ids[row])))
    }
    item.append(h('span', { class: 'value' }, value), h('span', { class: 'class' }, clip(name, 18)))
    if (changed) item.append(h('span', { class: 'clean' }, `came as ${clip(clean, 14)}`))
    return item
  }

  mark() {
    for (const item of this.list.querySelectorAll('[role=option]')) {
      item.setAttribute('aria-selected', String(this.choice.selected[Number(item.dataset.row)] === 1))
    }
  }

  focusable(place, focus = false) {
    const items = this.list.querySelectorAll('[role=option]')
    if (!items.length) return
    this.at = Math.min(Math.max(place, 0), items.length - 1)
    items.forEach((item, i) => { item.tabIndex = i === this.at ? 0 : -1 })
    if (focus) items[this.at].focus()
  }

  key(event) {
    const items = [...this.list.querySelectorAll('[role=option]')]
    if (!items.length) return
    const top = items[0].offsetTop
    const across = items.filter(item => item.offsetTop === top).length
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, Home: -items.length, End: items.length }
    if (event.key in moves) {
      this.focusable(this.at + moves[event.key], true)
    } else if (event.key === 'PageDown' || event.key === 'PageUp') {
      this.turn(event.key === 'PageDown' ? 1 : -1)
      this.focusable(0, true)
    } else if (event.key === 'Enter') {
      this.open(this.at)
    } else if (event.key === ' ') {
      // The page stays as it is while one is picked from it: only marks change.
      this.held = true
      this.choice.toggle(this.rows[this.page * PER_PAGE + this.at])
      this.held = false
      say(`${count(this.choice.numSelected)} selected`)
    } else return
    event.preventDefault()
  }

  // One example with everything that is known of it.
  async open(place) {
    const row = this.rows[this.page * PER_PAGE + place]
    if (row === undefined) return
    this.focusable(place)
    const { examples, pictures, choice, dialog } = this
    const keeps = await Promise.all(examples.selections.map(selection => examples.keepOf(selection)))
    const changed = examples.isChanged(row)
    const canvas = h('canvas', { class: 'large', role: 'img', 'aria-label': 'Picture of the example' })
    if (pictures.has(row)) pictures.draw(canvas, row)
    const facts = [['id', String(examples.ids[row])], ['class', examples.className(examples.labels[row])]]
    if (changed) facts.push(['came as', examples.className(examples.clean[row])])
    const scores = examples.scores.map(score => [examples.nameOf(score), short(score.values[row]), percent(examples.ranksOf(score)[row], 0)])
    const groups = new Map()
    examples.selections.forEach((selection, i) => {
      const by = selection.kept_by + (selection.by_seed ? ' (seed 0)' : '')
      const name = examples.runs.length > 1 ? `${examples.runs[selection.run].name}: ${by}` : by
      groups.set(name, [...(groups.get(name) ?? []), [selection.fraction, keeps[i][row]]])
    })
    const kept = [...groups].map(([name, list]) => {
      const at = list.filter(([, keep]) => keep).map(([fraction]) => fraction)
      return [name, at.length ? `kept at ${at.join(', ')}` : 'dropped at all fractions']
    })
    const pick = h('button', { type: 'button' })
    const write = () => { pick.textContent = choice.selected[row] ? 'Take out of the selection' : 'Add to the selection' }
    write()
    pick.addEventListener('click', () => { this.held = true; choice.toggle(row); this.held = false; write() })
    dialog.replaceChildren(
      h('form', { method: 'dialog', class: 'close' }, h('button', { 'aria-label': 'Close' }, '×')),
      h('div', { class: 'one' },
        pictures.has(row) ? canvas : h('code', {}, pictures.valuesOf(row).map(short).join('  ')),
        h('div', {}, h('dl', {}, facts.map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)])), pick)),
      table(['score', 'value', 'rank'], scores, { caption: 'Scores; the highest rank is 100 %' }),
      kept.length ? table(['selection', 'keeps it'], kept, { caption: 'Kept and dropped', words: [1] }) : '')
    dialog.showModal()
  }
}
