"""Orders in and out with kcluster's own client, in an event loop.

python examples/orders/orders.py                            the cluster "dev", over ZeroMQ
python examples/orders/orders.py --bootstrap localhost:9092 any Kafka cluster, over TCP
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from kcluster.client import ApiError, AsyncAdmin, AsyncConsumer, AsyncProducer, ErrorCode

TOPIC = "orders"
CUSTOMERS = 5


async def write(where: dict[str, Any], count: int) -> None:
    async with AsyncProducer(**where) as producer:
        for number in range(count):
            order = {"number": number, "amount": 10 + number % 7}
            customer = f"customer-{number % CUSTOMERS}"
            await producer.send(TOPIC, json.dumps(order).encode(), key=customer.encode())


async def add_up(where: dict[str, Any], count: int) -> dict[str, int]:
    """What each customer has ordered, of the first `count` that this group has not seen."""
    totals: dict[str, int] = {}
    async with AsyncConsumer(topics=TOPIC, group="totals", **where) as consumer:
        while count:
            for record in await consumer.poll(limit=count):
                customer = (record.key or b"").decode()
                totals[customer] = totals.get(customer, 0) + json.loads(record.value)["amount"]
                count -= 1
    return totals


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", default="dev", help="a cluster of this user, by name")
    parser.add_argument("--bootstrap", help="any Kafka cluster, by address")
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    where: dict[str, Any] = {"cluster": options.cluster}
    if options.bootstrap:
        where = {"where": options.bootstrap}
    async with AsyncAdmin(**where) as admin:
        try:
            await admin.create_topic(TOPIC, partitions=3)
        except ApiError as refused:
            if refused.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
                raise
        [topic] = await admin.topics([TOPIC])
        print(f"{topic.name} has {len(topic.partitions)} partitions")
    _, totals = await asyncio.gather(write(where, options.count), add_up(where, options.count))
    for customer, amount in sorted(totals.items()):
        print(f"{customer}  {amount}")


if __name__ == "__main__":
    asyncio.run(main())
