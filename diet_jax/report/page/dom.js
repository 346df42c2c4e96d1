'use strict'
// Elements from plain values. Text is only ever text: no name from a dataset is read as HTML.

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else if (name in element && typeof value !== 'string') element[name] = value
    else element.setAttribute(name, value === true ? '' : value)
  }
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined))
  return element
}

// A labelled select; options are [value, text] pairs.
function choose(label, options, value, changed, attributes = {}) {
  const select = h('select', attributes, options.map(([key, text]) =>
    h('option', { value: String(key), selected: String(key) === String(value), defaultSelected: String(key) === String(value) }, text)))
  select.addEventListener('change', () => changed(select.value))
  const field = h('label', { class: 'field' }, h('span', {}, label), select)
  field.select = select
  return field
}

// A table; the first column names its rows, the others are right-aligned numbers unless `words` says not.
function table(head, lines, { caption = '', words = [] } = {}) {
  const cell = (text, place) =>
    place === 0 ? h('th', { scope: 'row' }, text) : h('td', { class: words.includes(place) ? 'word' : '' }, text)
  return h('div', { class: 'table' }, caption ? h('p', { class: 'said' }, caption) : null,
    h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption || head.join(', ') }, h('table', {},
      h('thead', {}, h('tr', {}, head.map((text, place) =>
        h('th', { scope: 'col', class: place === 0 || words.includes(place) ? 'word' : '' }, text)))),
      h('tbody', {}, lines.map(line => h('tr', {}, line.map(cell)))))))
}

// The same numbers as a chart, for those who do not see it.
function alternative(summary, content) {
  const details = h('details', {}, h('summary', {}, summary))
  // Made when it is opened: large tables take time to lay out.
  details.addEventListener('toggle', () => {
    if (details.open && details.childElementCount === 1) details.append(content())
  })
  return details
}

function say(text) {
  document.getElementById('live').textContent = text
}

// Where a long name may be broken into lines.
const breakable = name => name.replace(/_/g, '_\u200b')

const count = number => number.toLocaleString('en-GB')

function short(number) {
  if (number === null || number === undefined || Number.isNaN(number)) return '–'
  if (!Number.isFinite(number)) return number > 0 ? '∞' : '−∞'
  const size = Math.abs(number)
  // Tokens and counts are exact.
  if (Number.isInteger(number) && size < 2 ** 31) return String(number).replace('-', '−')
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return number.toExponential(2).replaceAll('-', '−')
  return String(Number(number.toPrecision(3))).replace('-', '−')
}

const percent = (share, digits = 1) => (share === null || share === undefined || Number.isNaN(share) ? '–' : `${(100 * share).toFixed(digits)} %`)

function clip(text, length) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text
}
