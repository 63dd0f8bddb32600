"""The image: replay, the shortest list that replays to the same, and what a batch changed."""

from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import Changes, ClusterImage, leader_of
from kcluster.model import TopicPartition

ID = bytes(range(16))


def replayed(*records: r.Record) -> ClusterImage:
    image = ClusterImage()
    for record in records:
        image.replay(record)
    return image


def registered(incarnation: int = 1, epoch: int = 5) -> r.BrokerRegistered:
    return r.BrokerRegistered(1, epoch, incarnation, "127.0.0.1", 9092, "ipc://x")


def test_new_incarnation_is_fenced_and_not_shutting_down() -> None:
    image = replayed(
        registered(), r.BrokerUnfenced(1, 5), r.BrokerShuttingDown(1, 5), registered(2, 9)
    )
    assert not image.is_alive(1)
    assert not image.brokers[1].is_shutting_down


def test_record_of_an_older_broker_epoch_changes_nothing() -> None:
    image = replayed(registered(2, 9), r.BrokerUnfenced(1, 9), r.BrokerFenced(1, 5))
    assert image.is_alive(1)


def test_deleted_topic_takes_its_partitions_and_configs_along() -> None:
    image = replayed(
        r.TopicCreated("t", ID),
        r.PartitionChanged(ID, 0, [1], [1], 1, 0, 0),
        r.ConfigChanged(2, "t", "retention.ms", "1"),
        r.TopicDeleted(ID),
    )
    assert image.records() == []
    assert leader_of(image, TopicPartition("t", 0)) == -1


def test_record_for_a_deleted_topic_changes_nothing() -> None:
    image = replayed(
        r.TopicCreated("t", ID), r.TopicDeleted(ID), r.PartitionChanged(ID, 0, [1], [1], 1, 0, 0)
    )
    assert image.topics == {}


def test_changes_name_what_a_batch_touched() -> None:
    image = replayed(r.TopicCreated("old", bytes(16)))
    changes = Changes()
    changes.replay(
        image,
        [
            registered(),
            r.TopicCreated("t", ID),
            r.PartitionChanged(ID, 0, [1], [1], 1, 0, 0),
            r.ConfigChanged(2, "t", "retention.ms", "1"),
            r.TopicDeleted(bytes(16)),
        ],
    )
    assert changes.brokers == {1}
    assert changes.partitions == {(ID, 0)}
    assert changes.configs == {(2, "t")}
    assert changes.topics_deleted == [("old", bytes(16))]
    assert not changes.quotas
    changes.replay(image, [r.QuotaChanged((("user", None),), "producer_byte_rate", 1.0)])
    assert changes.quotas


def test_records_survive_the_way_over_the_bus() -> None:
    records: list[r.Record] = [
        registered(),
        r.PartitionChanged(ID, 3, [1, 2], [], -1, 4, 9, [1], 2, True, [2]),
    ]
    assert r.decode_all(r.encode_all(records)) == records
