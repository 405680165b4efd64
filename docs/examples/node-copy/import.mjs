// Streams a CSV file of order lines into order_proc.order_import and prints what became of it.
//
//   npm ci
//   PGHOST=... PGUSER=... PGDATABASE=... node import.mjs lines.csv      (or - for standard input)
//
// The file is never in memory as a whole, neither here nor in the server. It all happens in one
// transaction: when anything fails on the way, nothing was imported.
import { createReadStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'

const file = process.argv[2]
if (file === undefined) {
  console.error('usage: node import.mjs FILE')
  process.exit(2)
}

const client = new pg.Client()
client.on('notice', ({ severity, message }) => console.error(`${severity}: ${message}`))
try {
  await client.connect()
  const source = file === '-' ? process.stdin : createReadStream(file)
  const copy = client.query(copyFrom('COPY order_proc.order_import FROM STDIN WITH (FORMAT csv, HEADER)'))
  // When the source breaks off, pipeline() destroys the copy stream, and that tells the server to give up.
  await pipeline(source, copy)
  // bigint comes as a string from the driver: it may be beyond what a number can hold.
  const { rows: [summary] } = await client.query(
    'SELECT import_id, lines, rejected, orders, items, known, customers, duration::text FROM order_proc.last_import()')
  for (const [name, value] of Object.entries(summary)) console.log(`${name.padEnd(10)} ${value}`)
} catch (error) {
  console.error([error.message, error.detail, error.hint].filter(Boolean).join('\n'))
  process.exitCode = 1
} finally {
  await client.end()
}
