// Scatter and gallery, with the filters that both follow.

class ExploreSection {
  constructor(page, data) {
    Object.assign(this, { page, data, examples: page.examples, choice: new Choice(page.examples) })
    this.gallery = new Gallery(this.choice, page.pictures)
    page.choice = this.choice
  }

  async fill(element) {
    const { examples, data } = this
    const index = (name, run = 0) => examples.scores.findIndex(score => score.name === name && score.run === run)
    const options = { x: index(data.x), y: index(data.y, data.y_run ?? 0), ranks: data.ranks }
    if (options.y < 0) options.y = options.x
    const color = index(data.color)
    options.color = color >= 0 ? String(color) : examples.clean ? 'labels' : 'class'
    this.scatter = new Scatter(this.choice, this.page.pictures, options)
    this.choice.sort.by = Math.max(0, examples.scores.findIndex(score => score.high_means === 'hard'))
    this.choice.filter.score = this.choice.sort.by
    const said = [...examples.said, this.page.data.pictures.said].filter(Boolean).join('; ')
    element.append(
      h('p', { class: 'said' }, data.data_map ? 'The scatter begins as the data map: how sure the networks were of the given label on average, against how much that varied over the training. High means hard: sureness is drawn as its negative, and easy examples lie below. ' : '', said ? `${this.page.pictures.areImages ? 'Pictures' : 'Of each example'}: ${said}.` : ''),
      this.filters(),
      h('div', { class: 'explore' },
        h('div', { class: 'left' }, this.axes(options), this.modes(), this.scatter.element, this.key(), this.numbers(), this.selection()),
        h('div', { class: 'right' }, this.gallery.element)))
    await this.scatter.makeColors()
    this.gallery.fill()
    await this.scatter.start()
    this.scatter.setMode('box')
  }

  scoreOptions() {
    return this.examples.scores.map((score, place) => [place, this.examples.nameOf(score)])
  }

  filters() {
    const { examples, choice } = this
    const all = examples.classNames.map((name, label) => [label, clip(name, 40)])
    const fields = [choose('Class', [[-1, 'all'], ...all], -1, value => choice.setFilter({ label: Number(value) }), { id: 'filter-class' })]
    if (examples.clean) {
      fields.push(choose('Labels', [['all', 'all'], ['changed', 'wrong only'], ['clean', 'right only']], 'all', value => choice.setFilter({ labels: value }), { id: 'filter-labels' }))
    }
    if (examples.selections.length) {
      const names = examples.selections.map((selection, place) => [place, examples.nameOfSelection(selection) + (selection.by_seed ? ' (seed 0)' : '')])
      fields.push(choose('Selection', [[-1, 'any'], ...names], -1, async value => {
        await choice.setFilter({ selection: Number(value), kept: Number(value) < 0 ? 'all' : choice.filter.kept })
        if (this.scatter.options.color === 'kept') this.scatter.setColor('kept')
        kept.select.disabled = Number(value) < 0
        kept.select.value = choice.filter.kept
      }, { id: 'filter-selection' }))
      const kept = choose('Kept', [['all', 'kept and dropped'], ['kept', 'kept'], ['dropped', 'dropped']], 'all', value => choice.setFilter({ kept: value }), { id: 'filter-kept', disabled: true })
      fields.push(kept)
    }
    const sorts = examples.scores.flatMap((score, place) => [
      [`${place} 1`, `${score.ends[0]} ${examples.nameOf(score)} first`], [`${place} 0`, `${score.ends[1]} ${examples.nameOf(score)} first`]])
    fields.push(choose('Order', [...sorts, ['-1 0', 'order of the dataset']], `${choice.sort.by} 1`, value => {
      const [by, falling] = value.split(' ').map(Number)
      choice.setSort({ by, falling: falling === 1 })
    }, { id: 'sort' }))
    const number = (label, id, key, none) => {
      const input = h('input', { type: 'number', step: 'any', id, placeholder: key === 'low' ? 'least' : 'most' })
      input.addEventListener('input', () => choice.setFilter({ [key]: input.value === '' ? none : Number(input.value) }))
      return h('label', { class: 'field narrow' }, h('span', {}, label), input)
    }
    fields.push(choose('Range of', this.scoreOptions(), choice.filter.score, value => choice.setFilter({ score: Number(value) }), { id: 'filter-score' }))
    fields.push(number('from', 'filter-low', 'low', -Infinity), number('to', 'filter-high', 'high', Infinity))
    const form = h('form', { class: 'controls', 'aria-label': 'Filters' }, fields, h('button', { type: 'reset', class: 'field-button' }, 'Show all'))
    form.addEventListener('submit', event => event.preventDefault())
    // A reset is over only after its event.
    form.addEventListener('reset', () => setTimeout(() => {
      for (const select of form.querySelectorAll('select')) select.dispatchEvent(new Event('change'))
      choice.setFilter({ low: -Infinity, high: Infinity })
      choice.clear()
    }))
    return form
  }

  axes(options) {
    const set = key => value => this.scatter.setAxes({ [key]: Number(value) })
    const colors = [['class', 'class'], ...(this.examples.clean ? [['labels', 'wrong labels']] : []), ...(this.examples.selections.length ? [['kept', 'kept and dropped']] : []), ...this.scoreOptions(), ['none', 'one colour']]
    return h('div', { class: 'controls' },
      choose('Across', this.scoreOptions(), options.x, set('x'), { id: 'scatter-x' }),
      choose('Up', this.scoreOptions(), options.y, set('y'), { id: 'scatter-y' }),
      choose('By', [[0, 'value'], [1, 'rank']], options.ranks ? 1 : 0, value => this.scatter.setAxes({ ranks: value === '1' }), { id: 'scatter-ranks' }),
      choose('Colour', colors, options.color, value => this.scatter.setColor(value), { id: 'scatter-color' }))
  }

  modes() {
    const names = [['box', 'Select a box'], ['lasso', 'Select freely'], ['zoom', 'Zoom'], ['move', 'Move']]
    const buttons = names.map(([mode, text], place) => h('label', { class: 'mode' },
      h('input', { type: 'radio', name: 'mode', value: mode, checked: place === 0, onchange: () => this.scatter.setMode(mode) }), h('span', {}, text)))
    return h('div', { class: 'modes', role: 'radiogroup', 'aria-label': 'What dragging does' }, buttons,
      h('button', { type: 'button', onclick: () => this.scatter.reset() }, 'Whole view'))
  }

  key() {
    const box = h('div', { class: 'key' })
    const write = () => {
      const { key } = this.scatter
      if (key.ramp) {
        const bar = h('span', { class: 'ramp' })
        bar.style.background = `linear-gradient(to right, ${(Theme.dark ? VIRIDIS.slice(1) : VIRIDIS.slice(0, 8)).join(', ')})`
        box.replaceChildren(h('span', {}, `${key.name}: ${key.low}`), bar, h('span', {}, key.high))
      } else {
        box.replaceChildren(...key.entries.map(([text, color]) => {
          const swatch = h('span', { class: 'swatch' })
          swatch.style.background = Theme.seen(color)
          return h('span', { class: 'entry' }, swatch, clip(text, 40))
        }))
      }
    }
    this.scatter.element.addEventListener('key', write)
    return box
  }

  // What a brush does, by numbers: for the keyboard.
  numbers() {
    const input = name => h('input', { type: 'number', step: 'any', name, 'aria-label': name })
    const [x0, x1, y0, y1] = ['across from', 'across to', 'up from', 'up to'].map(input)
    const form = h('form', { class: 'controls', id: 'numbers' }, [['Across from', x0], ['to', x1], ['Up from', y0], ['to', y1]].map(([text, field]) => h('label', { class: 'field narrow' }, h('span', {}, text), field)),
      h('button', { class: 'field-button' }, 'Select'))
    form.addEventListener('submit', event => {
      event.preventDefault()
      const of = (field, none) => (field.value === '' ? none : Number(field.value))
      const begin = performance.now()
      this.scatter.selectBox(of(x0, -Infinity), of(x1, Infinity), of(y0, -Infinity), of(y1, Infinity))
      this.scatter.measure(begin)
      say(`${count(this.choice.numSelected)} selected`)
    })
    return h('details', {}, h('summary', {}, 'Select by numbers'), form)
  }

  selection() {
    const said = h('strong', { id: 'selected' })
    const of = h('span')
    const copy = h('button', { type: 'button', id: 'copy', onclick: () => this.copy() }, 'Copy ids')
    const save = h('button', { type: 'button', id: 'save', onclick: () => this.save() }, 'Download ids (.txt)')
    const saveTable = h('button', { type: 'button', id: 'save-table', onclick: () => this.saveTable() }, 'Download table (.csv)')
    const clear = h('button', { type: 'button', id: 'clear', onclick: () => this.choice.clear() }, 'Clear selection')
    const write = () => {
      const { numSelected, passing } = this.choice
      said.textContent = numSelected ? `${count(numSelected)} selected` : `${count(passing)} shown`
      of.textContent = numSelected ? '' : 'drag in the chart to select'
      clear.disabled = !numSelected
    }
    for (const event of ['select', 'filter']) this.choice.addEventListener(event, write)
    write()
    return h('div', { class: 'selection' }, said, of, copy, save, saveTable, clear)
  }

  // Ids of what the gallery holds, in its order, one a line; a line break in an id is written as \n.
  ids() {
    return this.choice.rows().map(row => `${String(this.examples.ids[row]).replace(/\r/g, '\\r').replace(/\n/g, '\\n')}\n`).join('')
  }

  async copy() {
    const text = this.ids()
    try {
      await navigator.clipboard.writeText(text)
    } catch {
      // Without leave for the clipboard: what is marked in a field can always be copied.
      const area = h('textarea', { class: 'unseen' })
      area.value = text
      document.body.append(area)
      area.select()
      document.execCommand('copy')
      area.remove()
    }
    say(`${count(this.choice.rows().length)} ids copied`)
    this.flash('copy', 'Copied')
  }

  flash(id, text) {
    const button = document.getElementById(id)
    const before = button.dataset.text ?? button.textContent
    button.dataset.text = before
    button.textContent = text
    setTimeout(() => { button.textContent = before }, 1500)
  }

  download(text, name) {
    const url = URL.createObjectURL(new Blob([text], { type: 'text/plain' }))
    h('a', { href: url, download: name }).click()
    setTimeout(() => URL.revokeObjectURL(url), 10000)
  }

  save() {
    this.download(this.ids(), 'ids.txt')
  }

  saveTable() {
    const { examples } = this
    // What a spreadsheet would run as a formula is text.
    const field = value => {
      const text = typeof value === 'number' ? String(value) : String(value).replace(/^([=+@\t\r-])/, "'$1")
      return /[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text
    }
    const head = ['id', 'class', ...(examples.clean ? ['came_as'] : []), ...examples.scores.map(score => examples.nameOf(score))]
    const lines = this.choice.rows().map(row => [
      examples.ids[row], examples.className(examples.labels[row]), ...(examples.clean ? [examples.className(examples.clean[row])] : []),
      ...examples.scores.map(score => score.values[row])].map(field).join(','))
    this.download([head.map(field).join(','), ...lines, ''].join('\n'), 'examples.csv')
  }
}
