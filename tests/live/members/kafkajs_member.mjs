// A member by KafkaJS. It has one strategy, its own round robin, and tells the generation only
// with each heartbeat.

import kafkajs from 'kafkajs'
import { brokers, Member, options, say, times, whenTold } from './lines.mjs'

const { Kafka, logLevel } = kafkajs

const RETRY_MS = 100

const kafka = new Kafka({
  brokers,
  clientId: 'member',
  logLevel: logLevel.ERROR,
  logCreator: () => ({ log }) => say('error', { error: `${log.message} ${log.error ?? ''}` })
})
const member = new Member()
let consumer
let generation = -1
let isStopping = false

async function eachBatch({ batch, isStale }) {
  const { topic, partition, messages } = batch
  if (isStale() || messages.length === 0) return
  member.records(messages.map((message) => [partition, Number(message.offset)]))
  const next = Number(messages.at(-1).offset) + 1
  await member.commit({ [partition]: next }, () =>
    consumer.commitOffsets([{ topic, partition, offset: String(next) }])
  )
}

// It finds a group's coordinator only when it joins: what it asks a dead one it asks again until
// its retries are used up, and then it crashes. After some errors it starts itself again; after
// the others its user has to, with another consumer.
async function open() {
  consumer = kafka.consumer({ groupId: options.group, ...times })
  const { CRASH, GROUP_JOIN, HEARTBEAT, REBALANCING } = consumer.events
  consumer.on(GROUP_JOIN, ({ payload }) => {
    member.assigned(payload.memberAssignment[options.topic] ?? [])
  })
  consumer.on(HEARTBEAT, ({ payload }) => {
    if (payload.groupGenerationId !== generation) {
      generation = payload.groupGenerationId
      say('generation', { generation })
    }
  })
  consumer.on(REBALANCING, () => member.revoked())
  consumer.on(CRASH, ({ payload }) => {
    member.revoked()
    say('error', { error: `crashed, restarts: ${payload.restart}: ${payload.error.message}` })
    if (!payload.restart) reopen()
  })
  try {
    await consumer.connect()
    await consumer.subscribe({ topics: [options.topic], fromBeginning: true })
    await consumer.run({ autoCommit: false, partitionsConsumedConcurrently: 3, eachBatch })
  } catch (error) {
    say('error', { error: `not opened: ${error?.message ?? error}` })
    reopen()
  }
}

function reopen() {
  const crashed = consumer
  setTimeout(async () => {
    await crashed.disconnect().catch(() => {})
    if (!isStopping && consumer === crashed) await open()
  }, RETRY_MS)
}

say('started')
whenTold(async () => {
  isStopping = true
  await consumer.disconnect()
})
await open()
