// Notes of the run, and where its numbers come from.

class ProvenanceSection {
  constructor(page, data) {
    Object.assign(this, { page, data })
  }

  async fill(element) {
    const flat = (values, above = '') => Object.entries(values).flatMap(([name, value]) =>
      value !== null && typeof value === 'object' && !Array.isArray(value) ? flat(value, `${above}${name}.`) : [[`${above}${name}`, Array.isArray(value) ? value.map(each => typeof each === 'object' ? JSON.stringify(each) : each).join(', ') : String(value)]])
    for (const run of this.data.runs) {
      if (this.data.runs.length > 1) element.append(h('h3', {}, run.run))
      if (run.notes.length) element.append(h('ul', { class: 'notes' }, run.notes.map(note => h('li', {}, note))))
      if (run.without) element.append(h('p', { class: 'warning' }, run.without))
      const last = run.starts[run.starts.length - 1]
      const facts = [['data', `${run.resolved.dataset}, fingerprint ${run.resolved.fingerprint[0]}`]]
      if (last) {
        facts.push(['started', run.starts.map(start => start.time).join(', ')], ['machine', `${last.machine}; ${(last.devices ?? []).join(', ')}; ${last.processes} process${last.processes === 1 ? '' : 'es'}`], ['Python', last.python],
          ['versions', Object.entries(last.versions ?? {}).map(([name, version]) => `${name} ${version}`).join(', ')])
        for (const [name, { commit, dirty }] of Object.entries(last.code ?? {})) facts.push([`code, ${name}`, `${commit}${dirty ? ', with changes' : ''}`])
      }
      element.append(h('dl', {}, facts.map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)])),
        alternative('Config', () => table(['option', 'value'], flat(run.config), { words: [1] })),
        alternative('What followed from it', () => table(['name', 'value'], flat(run.resolved), { words: [1] })),
        alternative('Definitions of the scores', () => table(['score', 'definition', 'when'], Object.entries(run.scores).map(([name, { definition, when }]) => [name, definition ?? '', when]), { words: [1, 2] })))
    }
  }
}
