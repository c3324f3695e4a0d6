// SPDX-License-Identifier: GPL-3.0-or-later
// node-postgres' documented interface, one line of output for each thing tried. Run directly on a
// server and through a gateway, the lines must be the same: nothing that differs from one run to
// the next (process ids, times) is printed.
'use strict'
const { once } = require('node:events')
const { Readable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const { readFileSync } = require('node:fs')
const pg = require('pg')
const Cursor = require('pg-cursor')
const QueryStream = require('pg-query-stream')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')

const ssl = process.env.CA ? { ca: readFileSync(process.env.CA), servername: 'localhost' } : false
const config = { ssl, connectionTimeoutMillis: 20000 }

const failure = (error) => ({
  code: error.code, message: error.message, severity: error.severity, detail: error.detail,
  hint: error.hint, position: error.position, constraint: error.constraint, table: error.table,
})
const failing = (promise) => promise.then(() => 'no error', failure)
const answer = ({ command, rowCount, rows, fields }) => ({
  command, rowCount, rows, fields: fields.map((f) => [f.name, f.dataTypeID, f.format]),
})

const tried = {
  async simple(client) {
    const many = await client.query("select 1 as a; select 'x' as b, null as c; create temp table t (n int); insert into t values (1), (2)")
    return many.map(answer)
  },
  async empty(client) {
    return [answer(await client.query('')), answer(await client.query(';')), answer(await client.query('-- only a comment'))]
  },
  async parameters(client) {
    const values = [1, 'é'.repeat(3), null, [1, 2], { a: [true] }, Buffer.from([0, 255]), 1.5, true]
    const text = 'select $1::int a, $2::text b, $3::text c, $4::int[] d, $5::jsonb e, $6::bytea f, $7::float8 g, $8::bool h'
    return answer(await client.query(text, values))
  },
  async rowsAsArrays(client) {
    return answer(await client.query({ text: 'select 1 a, 2 a', rowMode: 'array' }))
  },
  async binary(client) {
    return answer(await client.query({ text: 'select $1::int8 a, $2::bool b, 1.5::float8 c', values: [7, true], binary: true }))
  },
  async prepared(client) {
    const query = { name: 'add', text: 'select $1::int + $2::int as sum' }
    const sums = []
    for (let n = 0; n < 5; n++) sums.push(answer(await client.query({ ...query, values: [n, n] })))
    const other = await client.query({ ...query, text: 'select 1', values: [] }).catch((e) => e.message)
    return [sums, other, answer(await client.query('select name, statement from pg_prepared_statements'))]
  },
  async pipelined(client) {
    const texts = ['select 1 n', 'select 1/0', 'selekt', 'select 2 n', 'begin', 'boom', 'select 3', 'rollback', 'select 4 n']
    const simple = await Promise.all(texts.map((text) => client.query(text).then(answer, failure)))
    const extended = await Promise.all(
      [4, 0, 2].map((n) => client.query({ name: 'div', text: 'select 8 / $1::int n', values: [n] }).then(answer, failure)))
    return [simple, extended]
  },
  async constraints(client) {
    await client.query('create temp table u (id int constraint u_once primary key, n int not null)')
    await client.query('insert into u values ($1, $2)', [1, 1])
    return [await failing(client.query('insert into u values ($1, $2)', [1, 1])),
      await failing(client.query('insert into u values (2, null)'))]
  },
  async typesUnknown(client) {
    return [await failing(client.query('select $1::int', ['x'])), await failing(client.query('select $1, $2::int', [1]))]
  },
  async notices(client) {
    const seen = []
    client.on('notice', (n) => seen.push([n.severity, n.message, n.code]))
    await client.query("do $$ begin raise notice 'one'; raise warning 'two' using hint = 'three'; end $$")
    await client.query('drop table if exists is_not_there')
    client.removeAllListeners('notice')
    return seen
  },
  async notifications(client) {
    const other = new pg.Client(config)
    await other.connect()
    await client.query('listen news')
    const arrived = once(client, 'notification')
    await other.query("select pg_notify('news', $1)", ['x'.repeat(7000)])
    const [told] = await arrived
    await client.query('unlisten *')
    await other.end()
    return [told.channel, told.payload.length]
  },
  async cursor(client) {
    const cursor = client.query(new Cursor('select n from generate_series(1, $1::int) n', [10]))
    const read = [await cursor.read(3), await cursor.read(100), await cursor.read(1)]
    await cursor.close()
    const early = client.query(new Cursor('select n from generate_series(1, 100000) n'))
    read.push(await early.read(2))
    await early.close()
    const wrong = client.query(new Cursor('select 10 / (5 - n) q from generate_series(1, 9) n'))
    read.push(await wrong.read(3), await failing(wrong.read(3)))
    read.push(answer(await client.query('select 1 after')))
    return read
  },
  async stream(client) {
    let [rows, sum] = [0, 0]
    for await (const row of client.query(new QueryStream('select n from generate_series(1, $1::int) n', [50000], { batchSize: 100 }))) {
      rows += 1
      sum += row.n
    }
    let left = 0
    for await (const row of client.query(new QueryStream('select n from generate_series(1, 50000) n'))) {
      left = row.n
      if (row.n === 10) break
    }
    return [rows, sum, left, answer(await client.query('select 1 after'))]
  },
  async copy(client) {
    await client.query('create temp table c (n int, t text)')
    const lines = function * () { for (let n = 0; n < 30000; n++) yield `${n}\t${'é'.repeat(n % 90)}\n` }
    const into = client.query(copyFrom('copy c from stdin'))
    await pipeline(Readable.from(lines()), into)
    let [bytes, chunks] = [0, client.query(copyTo("copy (select * from c order by n) to stdout (format csv)"))]
    for await (const chunk of chunks) bytes += chunk.length
    const bad = client.query(copyFrom('copy c from stdin'))
    const refused = await failing(pipeline(Readable.from(['1\tx\nnot a number\ty\n']), bad))
    return [into.rowCount, bytes, refused, answer(await client.query('select count(*), sum(length(t)) from c'))]
  },
  async big(client) {
    const value = 'é'.repeat(10 << 20)
    const echoed = await client.query('select $1::text v, length($1::text) n', [value])
    const text = await client.query(`select length('${'y'.repeat(4 << 20)}') n`)
    const wide = await client.query(`select ${Array.from({ length: 1600 }, (_, n) => `${n} c${n}`).join()}`)
    const many = await client.query(`select ${Array.from({ length: 1600 }, (_, n) => `$${n + 1}::int`).join('+')} s`, Array(1600).fill(2))
    const rows = await client.query("select n, repeat('x', 1000) v from generate_series(1, 20000) n")
    return [echoed.rows[0].v === value, echoed.rows[0].n, text.rows, Object.keys(wide.rows[0]).length, many.rows, rows.rowCount]
  },
  async timeouts() {
    const slow = new pg.Client({ ...config, statement_timeout: 200 })
    await slow.connect()
    const stopped = await failing(slow.query('select pg_sleep(30)'))
    const after = answer(await slow.query('select 1 after'))
    await slow.end()
    const impatient = new pg.Client({ ...config, query_timeout: 200 })
    await impatient.connect()
    const left = await impatient.query('select pg_sleep(2)').catch((e) => e.message)
    await impatient.end()
    const idle = new pg.Client({ ...config, idle_in_transaction_session_timeout: 200 })
    await idle.connect()
    const [cut, gone] = [[], new Promise((resolve) => idle.once('end', resolve))]
    idle.on('error', (error) => cut.push(failure(error)))
    await idle.query('begin')
    await gone
    return [stopped, after, left, cut]
  },
  async cancelled(client) {
    const pid = (await client.query('select pg_backend_pid() pid')).rows[0].pid
    const sleeping = failing(client.query('select pg_sleep(30)'))
    const other = new pg.Client(config)
    await other.connect()
    const running = "select 1 from pg_stat_activity where pid = $1 and query = 'select pg_sleep(30)' and state = 'active'"
    while ((await other.query(running, [pid])).rowCount === 0);
    await other.query('select pg_cancel_backend($1)', [pid])
    await other.end()
    return [await sleeping, answer(await client.query('select 1 after'))]
  },
  async pool() {
    const pool = new pg.Pool({ ...config, max: 5 })
    const all = await Promise.all(Array.from({ length: 200 }, (_, n) => pool.query('select $1::int n', [n])))
    const mixed = await Promise.all(Array.from({ length: 20 }, (_, n) => pool.query(`select 4 / ${n % 2} n`).then(answer, failure)))
    const client = await pool.connect()
    await client.query('begin; create temp table p (n int)')
    client.release()
    await pool.end()
    return [all.map((r) => r.rows[0].n), mixed, pool.totalCount]
  },
  async killed() {
    const [victim, other] = [new pg.Client(config), new pg.Client(config)]
    await Promise.all([victim.connect(), other.connect()])
    const pid = (await victim.query('select pg_backend_pid() pid')).rows[0].pid
    const [errors, gone] = [[], new Promise((resolve) => victim.once('end', resolve))]
    victim.on('error', (error) => errors.push(failure(error)))
    await other.query('select pg_terminate_backend($1)', [pid])
    await gone
    await other.end()
    return errors
  },
  async noDatabase() {
    return failing(new pg.Client({ ...config, database: 'is_not_there' }).connect())
  },
  async goneAtOnce() {
    const client = new pg.Client(config)
    let told = 'nothing'
    client.connect().catch((error) => { told = error.message })
    await client.end()
    return told
  },
}

async function main () {
  for (const [name, run] of Object.entries(tried)) {
    const client = new pg.Client(config)
    client.on('error', (error) => console.log(name, 'link', error.message))
    await client.connect()
    const seen = await run(client).catch((error) => ({ thrown: error.message }))
    console.log(name, JSON.stringify(seen))
    await client.end()
  }
}
main().catch((error) => { console.error(error); process.exit(1) })
