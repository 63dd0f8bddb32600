"""Groups of the consumer protocol in a simulation, as their plans say.

Some have classic members as well, so that they go from one protocol to the other and back.
"""

from __future__ import annotations

from collections.abc import Callable

from kcluster.sim.clients import SimClient
from kcluster.sim.consumer_core_members import ConsumerCoreMember
from kcluster.sim.consumer_group_clients import ConsumerGroupMember
from kcluster.sim.consumer_group_plan import ConsumerGroupPlan
from kcluster.sim.group_clients import GroupLoad, GroupMember, GroupPlan


def begin(
    load: GroupLoad, plan: ConsumerGroupPlan, make_client: Callable[[str], SimClient]
) -> None:
    """The first member of the consumer protocol at once, the others one after another; those of
    our client, and classic ones, before it or after."""
    for number in range(plan.members):
        client = make_client(f"{plan.group}/{number}")
        instance_id = f"{plan.group}-{number}" if number < plan.static else None
        member = ConsumerGroupMember(client, plan, load.topics, load.coordinators, instance_id)
        load.add(plan.group, member, number * client.random.randint(0, 3000))
    for number in range(plan.ours):
        client = make_client(f"{plan.group}/ours{number}")
        ours = ConsumerCoreMember(client, plan, sorted(load.topics), load.coordinators)
        load.add(plan.group, ours, client.random.choice([0, client.random.randint(0, 6000)]))
    terms = GroupPlan(plan.group, plan.classic, plan.classic_assignor, plan.restless)
    for number in range(plan.classic):
        client = make_client(f"{plan.group}/classic{number}")
        classic = GroupMember(client, terms, sorted(load.topics), load.coordinators)
        load.add(plan.group, classic, client.random.choice([0, client.random.randint(0, 6000)]))
