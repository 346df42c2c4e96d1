// Colours of the page: light and dark, and the same hue readable on both.

const HUES = ['#4477AA', '#EE7733', '#228833', '#AA3377', '#66CCEE', '#CCBB44', '#CC3311', '#9970AB', '#8C6D00', '#777777']
const CLEAN = '#4477AA'
const CHANGED = '#EE7733'
// Viridis, of which every part is told apart by all common kinds of colour vision.
const VIRIDIS = ['#440154', '#472d7b', '#3b528b', '#2c728e', '#21918c', '#28ae80', '#5ec962', '#addc30', '#fde725']

const rgb = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16))
const hex = parts => '#' + parts.map(part => Math.round(part).toString(16).padStart(2, '0')).join('')

function luminance(parts) {
  const [r, g, b] = parts.map(part => (part /= 255) <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
  return 0.2126 * r + 0.7152 * g + 0.0722 * b
}

function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b)
  return (high + 0.05) / (low + 0.05)
}

const Theme = {
  changed: new EventTarget(),
  get dark() {
    const chosen = document.documentElement.dataset.theme
    return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches
  },
  value(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim()
  },
  // A colour mixed with ink until it is seen on the page: 3 to 1, as WCAG asks of what is drawn.
  seen(color) {
    const page = rgb(Theme.value('--card'))
    const ink = Theme.dark ? [255, 255, 255] : [0, 0, 0]
    let parts = rgb(color)
    for (let share = 0; share < 20 && contrast(parts, page) < 3; share++) {
      parts = parts.map((part, i) => part + 0.08 * (ink[i] - part))
    }
    return hex(parts)
  },
}

// 256 colours from low to high, as numbers that a pixel of RGBA has in memory.
function ramp(colors) {
  const stops = colors.map(rgb)
  return Uint32Array.from({ length: 256 }, (_, place) => {
    const at = (place / 255) * (stops.length - 1)
    const low = Math.min(Math.floor(at), stops.length - 2)
    return pixel(stops[low].map((part, i) => part + (at - low) * (stops[low + 1][i] - part)))
  })
}

// Little-endian: the red byte comes first.
const pixel = (parts, alpha = 255) =>
  ((alpha << 24) | (Math.round(parts[2]) << 16) | (Math.round(parts[1]) << 8) | Math.round(parts[0])) >>> 0

const classColor = label => HUES[label % HUES.length]

// Text colour that is read on a background.
const inkOn = parts => (luminance(parts) > 0.3 ? '#111111' : '#ffffff')

// A background from the page's card to a hue, and the ink on it.
function shade(element, share, color) {
  const card = rgb(Theme.value('--card'))
  const parts = card.map((part, i) => part + Math.max(0, Math.min(1, share)) * (rgb(color)[i] - part))
  element.style.background = hex(parts)
  element.style.color = contrast(parts, rgb(Theme.value('--ink'))) >= 4.5 ? '' : inkOn(parts)
}
