// Puts the page together: header, then each section that the data has, by the class of its name.

const SECTION_CLASSES = { accuracy: AccuracySection, explore: ExploreSection, histograms: HistogramsSection, classes: ClassesSection, overlap: OverlapSection, stability: StabilitySection, costs: CostsSection, provenance: ProvenanceSection }

function themeButton() {
  const button = document.getElementById('theme')
  const write = () => { button.textContent = Theme.dark ? 'Light' : 'Dark'; button.setAttribute('aria-label', `Change to ${Theme.dark ? 'light' : 'dark'} colours`) }
  const changed = () => { write(); Theme.changed.dispatchEvent(new Event('change')) }
  button.addEventListener('click', () => {
    document.documentElement.dataset.theme = Theme.dark ? 'light' : 'dark'
    changed()
  })
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { if (!document.documentElement.dataset.theme) changed() })
  write()
}

function heading(data) {
  const facts = data.runs.map(run => {
    const parts = [
      run.dataset, run.model, run.examples ? `${count(run.examples)} train and ${count(run.test_examples)} test examples` : '',
      run.changed ? `${percent(run.changed / run.examples)} of the train labels changed` : '',
      run.score_step !== null ? `scored at step ${count(run.score_step)} of ${count(run.steps)}` : '',
      `${run.score_seeds} networks score, ${run.retrain_seeds} judge each selection`,
    ]
    return h('p', { class: 'facts' }, data.runs.length > 1 ? h('strong', {}, `${run.name}: `) : '', parts.filter(Boolean).join(' · '))
  })
  const unfinished = data.runs.filter(run => run.unfinished).map(run => h('p', { class: 'warning' }, `${run.name}: ${run.unfinished}`))
  return h('div', { class: 'head' }, h('h1', {}, data.title), facts, unfinished)
}

// Charts above a section are drawn when they come near, and push it down: it stays at the top until they are.
function stayAt(element) {
  const observer = new ResizeObserver(() => element.scrollIntoView({ behavior: 'instant' }))
  const stop = () => observer.disconnect()
  observer.observe(document.body)
  setTimeout(stop, 2000)
  for (const kind of ['wheel', 'touchstart', 'pointerdown', 'keydown']) addEventListener(kind, stop, { once: true })
}

async function main() {
  const data = JSON.parse(document.getElementById('data').textContent)
  window.reportTimes = { brush: [], interactive: null }
  Bokeh.set_log_level('warn')
  const columns = new Columns()
  document.getElementById('brand').textContent = 'diet_jax'
  document.getElementById('maker').textContent = `diet_jax ${data.version}`
  themeButton()
  const body = document.getElementById('main')
  body.replaceChildren(heading(data))
  const nav = document.getElementById('nav')
  const examples = await Examples.load(data.examples, columns)
  examples.runs = data.runs
  const page = { data, columns, examples, pictures: await new Pictures(data.pictures, columns).ready(data.examples.count) }
  for (const { name, title, data: own } of data.sections) {
    const element = h('section', { id: name, 'aria-labelledby': `${name}-title` }, h('h2', { id: `${name}-title` }, title))
    body.append(element)
    const link = h('a', { href: `#${name}` }, title)
    link.addEventListener('click', () => stayAt(element))
    nav.append(link)
    await new SECTION_CLASSES[name](page, own).fill(element)
  }
  requestAnimationFrame(() => requestAnimationFrame(() => {
    window.reportTimes.interactive = performance.now()
    document.documentElement.dataset.ready = 'true'
  }))
}

main().catch(error => {
  document.getElementById('main').append(h('p', { class: 'warning' }, `The report cannot be drawn: ${error.message}. The run folder has the same numbers: table.md, table.csv.`))
  throw error
})
