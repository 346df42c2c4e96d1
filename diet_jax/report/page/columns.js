// The arrays of the page: base64 of deflated little-endian numbers, each read once, when it is first needed.

class Columns {
  constructor() {
    this.found = new Map()
  }

  // The bytes of a blob; its text leaves the document, which holds it no longer.
  bytes(where) {
    const element = document.getElementById(`blob-${where.blob}`)
    const text = element.textContent
    element.remove()
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text)
    const letters = atob(text)
    const bytes = new Uint8Array(letters.length)
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i)
    return bytes
  }

  // A column as a typed array, bits as one byte each, or as text.
  get(where) {
    if (!this.found.has(where.blob)) this.found.set(where.blob, this.read(where))
    return this.found.get(where.blob)
  }

  // Numbers from their first bytes, their second bytes, and so on, as they are stored.
  joined(planes, size) {
    const [count, bytes] = [planes.length / size, new Uint8Array(planes.length)]
    for (let plane = 0, from = 0; plane < size; plane++) {
      for (let i = 0, at = plane; i < count; i++, at += size) bytes[at] = planes[from++]
    }
    return bytes.buffer
  }

  async read(where) {
    const packed = new Blob([this.bytes(where)]).stream().pipeThrough(new DecompressionStream('deflate'))
    const buffer = await new Response(packed).arrayBuffer()
    if (where.kind === 'text') return new TextDecoder().decode(buffer)
    const bytes = new Uint8Array(buffer)
    if (where.kind === 'f4') return new Float32Array(this.joined(bytes, 4))
    if (where.kind === 'i4') return new Int32Array(this.joined(bytes, 4))
    if (where.kind !== 'bits') return bytes
    const values = new Uint8Array(where.count)
    for (let i = 0; i < values.length; i++) values[i] = (bytes[i >> 3] >> (i & 7)) & 1
    return values
  }
}
