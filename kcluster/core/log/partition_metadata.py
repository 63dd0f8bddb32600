"""`partition.metadata`: which topic a partition directory belongs to (KIP-516).

    version: 0
    topic_id: 6P6CY3pUSu6T6WYE-dc5fQ

A topic that was deleted and made again under the same name has another id: without this file
its new replica would take over the old one's records.
"""

from __future__ import annotations

import base64
import binascii

from kcluster.errors import CorruptLogError
from kcluster.model import TopicId, topic_id_text

FILE_NAME = "partition.metadata"
TOPIC_ID_BYTES = 16


def format_metadata(topic_id: bytes) -> bytes:
    return f"version: 0\ntopic_id: {topic_id_text(topic_id)}".encode()


def parse_metadata(data: bytes) -> TopicId:
    """Raises CorruptLogError."""
    try:
        lines = [line for line in data.decode("ascii").splitlines() if line.strip()]
        fields = dict(line.split(": ", 1) for line in lines)
        if fields["version"] != "0":
            raise ValueError(f"version {fields['version']}")
        topic_id = base64.b64decode(fields["topic_id"] + "==", altchars=b"-_", validate=True)
        if len(topic_id) != TOPIC_ID_BYTES:
            raise ValueError(f"an id of {len(topic_id)} bytes")
    except (ValueError, KeyError, binascii.Error) as error:
        raise CorruptLogError(f"{FILE_NAME}: {error}") from None
    return TopicId(topic_id)
