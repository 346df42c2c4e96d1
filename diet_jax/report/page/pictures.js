// Pictures of the examples: cut from atlases, each of which is decoded when a picture of it is first asked for.

class Pictures {
  static ACROSS = 40
  static PER_PIECE = 1600

  constructor(data, columns) {
    Object.assign(this, { data, columns, decoded: new Map() })
  }

  async ready(count) {
    if (this.data.kind === 'images') {
      this.place = new Int32Array(count).fill(-1)
      const rows = await this.columns.get(this.data.rows)
      rows.forEach((row, place) => { this.place[row] = place })
    } else if (this.data.values) {
      this.values = await this.columns.get(this.data.values)
    }
    return this
  }

  get areImages() {
    return this.data.kind === 'images'
  }

  has(row) {
    return this.areImages && this.place[row] >= 0
  }

  // The first values of an example that is no picture.
  valuesOf(row) {
    const { shown } = this.data
    return this.values ? [...this.values.subarray(row * shown, (row + 1) * shown)] : []
  }

  piece(number) {
    if (!this.decoded.has(number)) {
      const content = new Blob([this.columns.bytes(this.data.pieces[number])], { type: 'image/webp' })
      this.decoded.set(number, createImageBitmap(content))
    }
    return this.decoded.get(number)
  }

  // Draws a row's picture into a canvas of its size, if that still shows this row when it is decoded.
  async draw(canvas, row) {
    const { width, height } = this.data
    canvas.dataset.row = row
    canvas.width = width
    canvas.height = height
    if (!this.has(row)) return
    const place = this.place[row]
    const bitmap = await this.piece(Math.floor(place / Pictures.PER_PIECE))
    if (canvas.dataset.row !== String(row)) return
    const within = place % Pictures.PER_PIECE
    const [left, top] = [(within % Pictures.ACROSS) * width, Math.floor(within / Pictures.ACROSS) * height]
    canvas.getContext('2d').drawImage(bitmap, left, top, width, height, 0, 0, width, height)
  }
}
