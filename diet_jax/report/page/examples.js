// The examples of the page: typed arrays, one value for each example, in one order.

class Examples {
  static async load(data, columns) {
    const made = new Examples()
    Object.assign(made, { count: data.count, of: data.of, classNames: data.class_names, columns, said: data.said ?? [] })
    made.runs = []
    made.scores = data.scores.map((score, index) => ({ ...score, index }))
    made.selections = data.selections.map((selection, index) => ({ ...selection, index }))
    if (!data.count) return made
    const [labels, clean, ids] = await Promise.all([
      columns.get(data.labels), data.clean ? columns.get(data.clean) : null, columns.get(data.ids),
      ...made.scores.map(async score => { score.values = await columns.get(score.values) }),
    ])
    Object.assign(made, { labels, clean, ids: JSON.parse(ids) })
    return made
  }

  // What a score is called; with its run where there are several.
  nameOf(score) {
    return this.runs.length > 1 ? `${this.runs[score.run].name}: ${score.label}` : score.label
  }

  nameOfSelection(selection) {
    const name = `${selection.kept_by}, keep ${selection.fraction}`
    return this.runs.length > 1 ? `${this.runs[selection.run].name}: ${name}` : name
  }

  className(label) {
    return this.classNames[label] ?? String(label)
  }

  isChanged(row) {
    return this.clean !== null && this.clean !== undefined && this.clean[row] !== this.labels[row]
  }

  // Rows by rising value; ties by row, NaN first.
  orderOf(score) {
    if (!score.order) {
      const values = score.values
      score.order = Uint32Array.from({ length: this.count }, (_, row) => row)
      const at = row => Number.isNaN(values[row]) ? -Infinity : values[row]
      score.order.sort((a, b) => { const [x, y] = [at(a), at(b)]; return x < y ? -1 : x > y ? 1 : a - b })
    }
    return score.order
  }

  // Ranks from 0 to 1; equal values share the middle of their ranks, NaN has none.
  ranksOf(score) {
    if (!score.ranks) {
      const order = this.orderOf(score)
      score.ranks = new Float32Array(this.count)
      for (let from = 0; from < order.length;) {
        let to = from + 1
        while (to < order.length && score.values[order[to]] === score.values[order[from]]) to++
        const rank = (from + to - 1) / 2 / Math.max(1, order.length - 1)
        for (let i = from; i < to; i++) score.ranks[order[i]] = Number.isNaN(score.values[order[i]]) ? NaN : rank
        from = to
      }
    }
    return score.ranks
  }

  async keepOf(selection) {
    return await this.columns.get(selection.keep)
  }
}
