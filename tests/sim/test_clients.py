"""The simulated clients against a broker that is a few lines of its own."""

from kcluster.check.history import FAIL, INFO, OK, History
from kcluster.core.turn import Request
from kcluster.errors import ErrorCode
from kcluster.model import TopicPartition
from kcluster.sim.clients import Producer, SimClient
from kcluster.sim.cluster import SimCluster
from kcluster.sim.consumer import Consumer
from kcluster.wire.apis import APIS
from kcluster.wire.frame import parse_request_header, response_frame
from kcluster.wire.message import decode, encode_parts
from kcluster.wire.messages import fetch as f
from kcluster.wire.messages import init_producer_id as ipi
from kcluster.wire.messages import metadata as m
from kcluster.wire.messages import produce as p
from kcluster.wire.records import batches, patch

TP = TopicPartition("orders", 0)


class ToyBroker:
    """Leads every partition, keeps its batches in a list, and refuses what it is told to."""

    errors: list[int]

    def __init__(self, birth):
        self.id = birth.id
        self.errors = []
        self.log = []
        self.end = 0
        self.is_mute = False

    def handle(self, event, turn):
        if not isinstance(event, Request) or self.is_mute:
            return
        header, position = parse_request_header(event.frame)
        body = decode(APIS[header.api_key].request, event.frame, header.api_version, position)
        response = self.answer(body)
        parts = encode_parts(response, header.api_version)
        turn.reply(
            event.connection,
            response_frame(header.api_key, header.api_version, header.correlation_id, parts),
        )

    def answer(self, body):
        match body:
            case m.MetadataRequest():
                partition = m.MetadataResponsePartition(partition_index=0, leader_id=1)
                topic = m.MetadataResponseTopic(name="orders", partitions=[partition])
                return m.MetadataResponse(topics=[topic])
            case ipi.InitProducerIdRequest():
                return ipi.InitProducerIdResponse(producer_id=7)
            case p.ProduceRequest():
                told = p.PartitionProduceResponse(base_offset=self.end)
                if self.errors:
                    told = p.PartitionProduceResponse(error_code=self.errors.pop(0), base_offset=-1)
                else:
                    data = bytearray(body.topic_data[0].partition_data[0].records)
                    for _, header in batches(data):
                        patch(memoryview(data), 0, self.end, 0)
                        self.end += header.record_count
                    self.log.append(bytes(data))
                return p.ProduceResponse(
                    responses=[p.TopicProduceResponse(name="orders", partition_responses=[told])]
                )
            case f.FetchRequest():
                told = f.PartitionData(records=b"".join(self.log))
                return f.FetchResponse(
                    responses=[f.FetchableTopicResponse(topic="orders", partitions=[told])]
                )

    def settle(self, turn): ...

    def disk_failed(self, turn, operation, errno): ...


def setting(**options):
    cluster = SimCluster(1, make_broker=ToyBroker, make_controller=ToyBroker, brokers=1)
    cluster.start_all()
    cluster.run(5)
    history = History()
    client = SimClient(cluster, "c", history)
    options = {"values": [b"a", b"b", b"c"], "records_max": 1} | options
    producer = Producer(client, TP, **options)
    return cluster, history, client, producer


def outcomes(history):
    return [(sent.value, sent.outcome, sent.offset) for sent in history.sends]


def test_a_producer_tells_where_its_records_went_and_a_consumer_finds_them():
    cluster, history, client, producer = setting()
    client.live(producer.life())
    cluster.run_until(lambda: client.running == 0, 2000)
    assert outcomes(history) == [(b"a", OK, 0), (b"b", OK, 1), (b"c", OK, 2)]
    consumer = Consumer(client, TP)
    client.live(consumer.life())
    cluster.run(20)
    assert history.polls[0].records == ((0, b"a"), (1, b"b"), (2, b"c"))


def test_an_idempotent_producer_sends_again_what_was_refused_for_now():
    cluster, history, client, producer = setting(in_flight=1)
    cluster.processes[1].core.errors = [ErrorCode.NOT_ENOUGH_REPLICAS] * 2
    client.live(producer.life())
    cluster.run_until(lambda: client.running == 0, 5000)
    assert outcomes(history) == [(b"a", OK, 0), (b"b", OK, 1), (b"c", OK, 2)]


def test_a_plain_producer_takes_a_refusal_for_a_failure_and_a_timeout_for_unknown():
    cluster, history, client, producer = setting(is_idempotent=False)
    cluster.processes[1].core.errors = [
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ]
    client.live(producer.life())
    cluster.run_until(lambda: client.running == 0, 5000)
    assert outcomes(history) == [(b"a", FAIL, -1), (b"b", INFO, -1), (b"c", OK, 0)]


def test_a_call_that_is_not_answered_ends_its_connection_and_is_made_anew():
    cluster, history, client, producer = setting()
    cluster.processes[1].core.is_mute = True
    client.live(producer.life())
    cluster.run(8000)
    cluster.processes[1].core.is_mute = False
    cluster.run_until(lambda: client.running == 0, 10_000)
    assert [sent.outcome for sent in history.sends] == [OK, OK, OK]
