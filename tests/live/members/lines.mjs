// What the Node members share: options, lines out, the word to stop, commits that are due.
// The lines are described in `__init__.py`.

import { parseArgs } from 'node:util'

export const { values: options } = parseArgs({
  options: {
    bootstrap: { type: 'string' },
    topic: { type: 'string' },
    group: { type: 'string' },
    instance: { type: 'string' },
    protocol: { type: 'string', default: 'classic' },
    strategy: { type: 'string', default: 'roundrobin' },
    'session-ms': { type: 'string' },
    'heartbeat-ms': { type: 'string' }
  }
})
export const brokers = options.bootstrap.split(',')

// What was given of the two; the rest is the library's own.
export const times = {
  ...(options['session-ms'] && { sessionTimeout: Number(options['session-ms']) }),
  ...(options['heartbeat-ms'] && { heartbeatInterval: Number(options['heartbeat-ms']) })
}

export const nowNs = () => Number(process.hrtime.bigint())

export function say(event, fields = {}) {
  process.stdout.write(JSON.stringify({ event, at_ns: nowNs(), ...fields }) + '\n')
}

// Calls `stop` once, on SIGTERM or when standard input ends; then the process ends.
export function whenTold(stop) {
  let told = false
  const once = async () => {
    if (told) return
    told = true
    say('leaving')
    await stop()
    say('stopped')
    process.exit(0)
  }
  process.on('SIGTERM', once)
  process.stdin.on('end', once)
  process.stdin.resume()
}

// What this member owns. In the classic protocol both libraries tell the whole assignment after
// each rebalance.
export class Member {
  owned = new Set()
  due = new Map() // partition -> next offset, a number

  assigned(partitions, generation = -1) {
    this.revoked()
    this.owned = new Set(partitions)
    for (const partition of [...this.due.keys()]) {
      if (!this.owned.has(partition)) this.due.delete(partition)
    }
    say('assigned', { partitions, generation })
  }

  // In the consumer protocol the rest stays owned.
  owns(partitions) {
    const went = [...this.owned].filter((partition) => !partitions.includes(partition))
    const came = partitions.filter((partition) => !this.owned.has(partition))
    this.owned = new Set(partitions)
    for (const partition of went) this.due.delete(partition)
    if (went.length > 0) say('revoked', { partitions: went })
    if (came.length > 0) say('assigned', { partitions: came, generation: -1 })
  }

  revoked() {
    if (this.owned.size > 0) say('revoked', { partitions: [...this.owned] })
    this.owned = new Set()
  }

  // places: [partition, offset] in the order they came.
  records(places) {
    const runs = new Map()
    for (const [partition, offset] of places) {
      const mine = runs.get(partition) ?? []
      runs.set(partition, mine)
      const last = mine.at(-1)
      if (last && last[2] + 1 === offset) last[2] = offset
      else mine.push([partition, offset, offset])
      this.due.set(partition, offset + 1)
    }
    if (places.length > 0) say('records', { runs: [...runs.values()].flat() })
  }

  // Runs `send` for these offsets and says how it went; throws what it throws.
  async commit(offsets, send) {
    const began_ns = nowNs()
    try {
      await send()
    } catch (error) {
      say('commit_failed', { offsets, error: String(error?.message ?? error).slice(0, 200) })
      throw error
    }
    say('committed', { offsets, began_ns })
    for (const [partition, offset] of Object.entries(offsets)) {
      if (this.due.get(Number(partition)) === offset) this.due.delete(Number(partition))
    }
  }
}
