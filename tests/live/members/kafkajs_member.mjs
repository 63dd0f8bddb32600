// A member by KafkaJS. It has one strategy, its own round robin, and tells the generation only
// with each heartbeat.

import kafkajs from 'kafkajs'
import { brokers, Member, options, say, sessionMs, whenTold } from './lines.mjs'

const { Kafka, logLevel } = kafkajs

const kafka = new Kafka({
  brokers,
  clientId: 'member',
  logLevel: logLevel.ERROR,
  logCreator: () => ({ log }) => say('error', { error: `${log.message} ${log.error ?? ''}` })
})
const consumer = kafka.consumer({ groupId: options.group, sessionTimeout: sessionMs })
const member = new Member()
let generation = -1

consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
  member.assigned(payload.memberAssignment[options.topic] ?? [])
})
consumer.on(consumer.events.HEARTBEAT, ({ payload }) => {
  if (payload.groupGenerationId !== generation) {
    generation = payload.groupGenerationId
    say('generation', { generation })
  }
})
consumer.on(consumer.events.REBALANCING, () => member.revoked())
consumer.on(consumer.events.CRASH, ({ payload }) => {
  member.revoked()
  say('error', { error: `crashed, restarts: ${payload.restart}: ${payload.error.message}` })
  if (!payload.restart) process.exit(1)
})

async function eachBatch({ batch, isStale }) {
  const { topic, partition, messages } = batch
  if (isStale() || messages.length === 0) return
  member.records(messages.map((message) => [partition, Number(message.offset)]))
  const next = Number(messages.at(-1).offset) + 1
  await member.commit({ [partition]: next }, () =>
    consumer.commitOffsets([{ topic, partition, offset: String(next) }])
  )
}

whenTold(() => consumer.disconnect())
say('started')
await consumer.connect()
await consumer.subscribe({ topics: [options.topic], fromBeginning: true })
await consumer.run({ autoCommit: false, partitionsConsumedConcurrently: 3, eachBatch })
