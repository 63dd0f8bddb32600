// A member by @platformatic/kafka.

import { Consumer, cooperativeStickyAssigner, roundRobinAssigner } from '@platformatic/kafka'
import { brokers, Member, options, say, times, whenTold } from './lines.mjs'

// It wants Node 22 for this; the rest of what a member needs runs on Node 20 as well.
Promise.withResolvers ??= function () {
  const it = {}
  it.promise = new Promise((resolve, reject) => Object.assign(it, { resolve, reject }))
  return it
}

const RETRY_MS = 100

const isClassic = options.protocol === 'classic'
const classic = {
  ...times,
  protocols: [{ name: options.strategy, version: 1 }],
  partitionAssigner:
    options.strategy === 'cooperative-sticky' ? cooperativeStickyAssigner : roundRobinAssigner
}
const consumer = new Consumer({
  bootstrapBrokers: brokers,
  clientId: 'member',
  groupId: options.group,
  groupInstanceId: options.instance,
  autocommit: false,
  ...(isClassic ? classic : { groupProtocol: 'consumer', groupRemoteAssignor: options.strategy })
})
const member = new Member()
let places = [] // [partition, offset, leader epoch] since the last commit began
let isCommitting = false
let isStopping = false
let epochs = new Map()

const partitionsIn = (assignments) =>
  assignments?.find(({ topic }) => topic === options.topic)?.partitions ?? []

// The library tells no assignment of the consumer protocol: a heartbeat acknowledges it.
function noteAssignment() {
  if (!isClassic) member.owns(partitionsIn(consumer.assignments))
}

if (isClassic) {
  consumer.on('consumer:group:rebalance', () => member.revoked())
  consumer.on('consumer:group:join', ({ assignments, generationId }) => {
    member.assigned(partitionsIn(assignments), generationId ?? -1)
  })
}
consumer.on('consumer:heartbeat:start', noteAssignment)
consumer.on('consumer:heartbeat:error', ({ error }) => say('error', { error: error.message }))

// The stream gives one record at a time: what came in one turn of the loop is one poll.
function takePlaces() {
  noteAssignment()
  member.records(places.map(([partition, offset]) => [partition, offset]))
  for (const [partition, , epoch] of places) epochs.set(partition, epoch)
  places = []
}

async function commitDue() {
  if (isCommitting) return
  isCommitting = true
  try {
    while (member.due.size > 0) {
      const offsets = Object.fromEntries(member.due)
      const wanted = [...member.due].map(([partition, next]) => ({
        topic: options.topic,
        partition,
        offset: BigInt(next),
        leaderEpoch: epochs.get(partition)
      }))
      await member.commit(offsets, () => consumer.commit({ offsets: wanted }))
    }
  } catch {
    if (!isStopping) setTimeout(commitDue, RETRY_MS)
  } finally {
    isCommitting = false
  }
}

// A fetch is tried again on the same broker, then the stream ends with an error, and the member
// has to open another: that is how its users go on after a broker died.
let stream
let ahead = new Map() // partition -> where this stream has to go on
function isStale(partition, offset) {
  if (offset < ahead.get(partition)) return true
  ahead.set(partition, offset + 1)
  return false
}

// A fetch that a dead broker was asked is asked of it again until it is back, and its records come
// although the stream has long gone on elsewhere, or taken up what another member committed.
function noteRestored() {
  for (const [key, offset] of stream.offsetsToFetch) {
    ahead.set(Number(key.slice(key.lastIndexOf(':') + 1)), Number(offset))
  }
}

async function open() {
  try {
    stream = await consumer.consume({
      topics: [options.topic],
      mode: 'committed',
      fallbackMode: 'earliest',
      autocommit: false
    })
  } catch (error) {
    reopen(error)
    return
  }
  ahead = new Map()
  stream.on('offsets', noteRestored)
  stream.on('error', reopen)
  stream.on('data', ({ partition, offset, leaderEpoch }) => {
    if (isStopping || isStale(partition, Number(offset))) return
    if (places.length === 0) {
      setImmediate(() => {
        takePlaces()
        commitDue()
      })
    }
    places.push([partition, Number(offset), leaderEpoch ?? -1])
  })
}

function reopen(error) {
  const cause = error?.errors?.at(-1)?.message ?? ''
  say('error', { error: `${error?.message ?? error} ${cause}` })
  if (!isStopping) setTimeout(open, RETRY_MS)
}

say('started')
whenTold(async () => {
  isStopping = true
  await stream?.close()
  await consumer.close(true)
})
await open()
