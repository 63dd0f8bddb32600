"""Who watches a controller is told the committed image, and again when it has changed."""

from __future__ import annotations

from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.turn import Send
from kcluster.wire import telling
from tests.core.controller.playbook import Playbook

WATCHER = -3


def images(book: Playbook) -> list[tuple[telling.Image, ClusterImage]]:
    found = []
    for send in book.sent:
        if send.target == WATCHER and isinstance(send.message, telling.Image):
            found.append((send.message, image_of(send)))
    book.sent.clear()
    return found


def image_of(send: Send) -> ClusterImage:
    image = ClusterImage()
    for record in r.decode_all(bytes(send.payload[0])):
        image.replay(record)
    return image


def test_a_change_is_told_with_the_whole_image_and_silence_is_nothing_new() -> None:
    book = Playbook()
    book.register(1)
    book.receive(WATCHER, telling.Watch(4))
    ((message, image),) = images(book)
    assert (message.request, message.told) == (4, 0)
    assert list(image.brokers) == [1]
    book.pass_time(300)
    images(book)
    book.pass_time(300)
    assert images(book) == []
    book.register(2)
    book.pass_time(300)
    message, image = images(book)[-1]
    assert message.told == 2
    assert list(image.brokers) == [1, 2]


def test_what_is_not_durable_is_not_told() -> None:
    book = Playbook()
    book.register(1)
    book.receive(WATCHER, telling.Watch(4))
    book.pass_time(300)
    images(book)
    book.holds_syncs = True
    book.register(2)
    book.pass_time(300)
    assert images(book) == []
