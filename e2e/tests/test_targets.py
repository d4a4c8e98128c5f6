"""Who gets a message: each connection that it is meant for, and each of them once.

That nothing more comes is shown by a last message, which must be the next.
"""

import pytest

from harness import token

LAST = "the last one"


def staff(name):
    return token(name, role="staff")


def test_a_message_to_several_channels_reaches_each_connection_once(site, subscribers, unique):
    one, two = f"venue:{unique}:1", f"venue:{unique}:2"
    both, only_two = subscribers(one, two), subscribers(two)
    site.api.publish(channels=[one, two], data=1)
    site.api.publish(channel=two, data=LAST)
    for client in both:
        client.expect("message", channel=one, data=1)
        client.expect("message", data=LAST)
    for client in only_two:
        client.expect("message", channel=two, data=1)
        client.expect("message", data=LAST)


def test_a_message_to_channel_user_and_role_reaches_each_connection_once(site, connect, unique):
    channel, user, role = f"venue:{unique}", f"user-{unique}", f"role-{unique}"
    clients = [connect(gateway, token(user, role=role)).subscribe(channel) for gateway in site.gateways]
    colleagues = [connect(gateway, token("bob", role=role)) for gateway in site.gateways]
    strangers = [connect(gateway, token("eve")).subscribe(channel) for gateway in site.gateways]
    answer = site.api.publish(channel=channel, users=[user], roles=[role], data=1)
    assert answer["channels"] == [channel, f"user:{user}", f"role:{role}"]
    site.api.publish(users=[user, "bob"], data=LAST)
    site.api.publish(channel=channel, data=LAST)
    for client in clients:
        # By which of its channels: the first, unless that copy is late to a new subscription.
        assert client.expect("message", data=1)["channel"] in answer["channels"]
        assert client.expect_data(2) == [LAST, LAST]
    for client in colleagues:
        client.expect("message", channel=f"role:{role}", data=1)
        client.expect("message", data=LAST)
    for client in strangers:
        client.expect("message", channel=channel, data=1)
        client.expect("message", data=LAST)


def test_a_message_to_users_reaches_all_their_connections_and_nobody_else(site, connect, unique):
    alice, bob, eve = (f"{name}-{unique}" for name in ("alice", "bob", "eve"))
    clients = [connect(gateway, token(name)) for gateway in site.gateways for name in (alice, bob)]
    stranger = connect(site.last, token(eve))
    site.api.publish(users=[alice, bob], event="hello", data=1)
    site.api.publish(users=[eve], data=LAST)
    for client in clients:
        client.expect("message", event="hello", data=1)
    stranger.expect("message", data=LAST)


def test_excluded_users_and_connections_get_nothing(site, connect, unique):
    channel, bob = f"venue:{unique}", f"bob-{unique}"
    anyone = [connect(gateway).subscribe(channel) for gateway in site.gateways]
    excluded = [connect(gateway, token(bob)).subscribe(channel) for gateway in site.gateways]
    excluded.append(connect(site.last).subscribe(channel))
    id = excluded[-1].connected["connection"]
    site.api.publish(channel=channel, data=1, exclude={"users": [bob], "connections": [id]})
    site.api.publish(channel=channel, data=LAST)
    for client in anyone:
        assert client.expect_data(2) == [1, LAST]
    for client in excluded:
        client.expect("message", data=LAST)


def test_without_echo_the_sender_gets_nothing(site, subscribers, connect, chat):
    others = subscribers(chat)
    sender = connect(site.first).subscribe(chat)
    sender.ask("publish", channel=chat, data=1, echo=False)
    sender.ask("publish", channel=chat, data=LAST)
    sender.expect("message", data=LAST)
    for client in others:
        assert client.expect_data(2) == [1, LAST]


def test_wildcard_and_exact_subscription_make_one_delivery(site, connect, unique):
    channel = f"venue:{unique}"
    client = connect(site.last, staff("alice")).subscribe(channel)
    for pattern in ("venue:*", "venue:**"):
        client.ask("subscribe", pattern=pattern)
    for data in (1, 2, 2, 2, LAST):
        site.api.publish(channel=channel, data=data)
    assert client.expect_data(5) == [1, 2, 2, 2, LAST]


@pytest.mark.parametrize("site", ["cluster"], indirect=True)
def test_equal_messages_without_id_are_not_taken_for_copies(site, nats, connect, unique):
    client = connect(site.last, staff("alice")).subscribe(f"venue:{unique}")
    client.ask("subscribe", pattern="venue:*")
    for body in (b"1", b"1", b"1", b"2"):
        nats.publish(f"fanfare.ch.venue.{unique}", body)
    assert client.expect_data(4) == [1, 1, 1, 2]


def test_a_wildcard_stands_for_segments(site, connect, unique):
    client = connect(site.last, staff("alice"))
    client.ask("subscribe", pattern=f"venue:{unique}:*:open")
    client.ask("subscribe", pattern=f"venue:{unique}:all:**")
    for rest in ("1:open", "1:2:open", "1:shut", "open", "all", "all:1", "all:1:2"):
        site.api.publish(channel=f"venue:{unique}:{rest}", data=rest)
    assert sorted(client.expect_data(3)) == ["1:open", "all:1", "all:1:2"]
    site.api.publish(channel=f"venue:{unique}:all:last", data=LAST)
    client.expect("message", data=LAST)


def test_a_wildcard_needs_its_grant(site, connect, unique):
    pattern = f"chat:{unique}:*"
    anybody = connect(site.first)
    assert anybody.refused("subscribe", pattern=pattern) == "forbidden"
    anybody.subscribe(f"chat:{unique}:1")
    granted = connect(site.first, token("bob", fanfare={"wildcard": [pattern]}))
    granted.ask("subscribe", pattern=pattern)
    assert granted.refused("subscribe", pattern="chat:*") == "forbidden"


def test_an_unsubscribed_channel_is_silent(site, connect, venue):
    client, other = connect(site.last).subscribe(venue), connect(site.last).subscribe(venue)
    site.api.publish(channel=venue, data=1)
    assert client.expect_data(1) == [1]
    client.ask("unsubscribe", channel=venue)
    site.api.publish(channel=venue, data=2)
    assert other.expect_data(2) == [1, 2]
    client.subscribe(venue)
    site.api.publish(channel=venue, data=3)
    client.expect("message", data=3)


def test_the_server_subscribes_to_user_role_and_configured_channels(site, connect, unique):
    client = connect(site.last, token("alice", roles=["admin", "staff"], org=unique))
    channels = {"user:alice", "role:admin", "role:staff", f"org:{unique}"}
    assert set(client.connected["channels"]) == channels
    site.api.publish(channel=f"org:{unique}", data=1)
    client.expect("message", channel=f"org:{unique}", data=1)
    assert client.refused("unsubscribe", channel="user:alice") == "forbidden"
    assert client.refused("subscribe", channel="user:bob") == "forbidden"
    assert client.refused("subscribe", channel="org:another") == "forbidden"


def test_ids_with_colons_stay_one_segment(site, connect, unique):
    client = connect(site.last, token(f"urn:{unique}"))
    assert client.connected["channels"] == [f"user:urn%3A{unique}"]
    site.api.publish(users=[f"urn:{unique}"], data=1)
    client.expect("message", channel=f"user:urn%3A{unique}", data=1)
