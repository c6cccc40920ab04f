//! Any messages, for properties.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::super::*;

/// Data that both encodings can carry; without line breaks, which JSON leaves out.
fn data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        Just(b"null".to_vec()),
        r#"\{"a": ?(-?[1-9][0-9]{0,20}|true|\[\]|"[a-z\u{e9}]*")\}"#.prop_map(String::into_bytes),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z]{1,3}", any::<String>()]
}

fn texts() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(), text(), 0..3)
}

fn filter() -> impl Strategy<Value = FilterNode> {
    let leaf = (text(), text(), text(), text(), vec(text(), 0..3));
    let leaf = leaf.prop_map(|(op, key, cmp, val, vals)| FilterNode {
        op,
        key,
        cmp,
        val,
        vals,
        nodes: Vec::new(),
    });
    leaf.prop_recursive(3, 8, 3, |node| {
        let nodes = vec(node, 0..3);
        (text(), nodes).prop_map(|(op, nodes)| FilterNode { op, nodes, ..FilterNode::default() })
    })
}

fn subscribe() -> impl Strategy<Value = SubscribeRequest> {
    let texts = (text(), text(), text(), text());
    let bits = any::<[bool; 4]>();
    let numbers = (any::<u64>(), any::<i64>(), any::<i32>());
    (texts, bits, numbers, data(), option::of(filter())).prop_map(
        |((channel, token, epoch, delta), bits, (offset, flag, kind), data, tf)| {
            let [recover, positioned, recoverable, join_leave] = bits;
            SubscribeRequest {
                channel,
                token,
                recover,
                epoch,
                offset,
                data,
                positioned,
                recoverable,
                join_leave,
                delta,
                tf,
                flag,
                r#type: kind,
            }
        },
    )
}

fn connect() -> impl Strategy<Value = ConnectRequest> {
    let subs = btree_map(text(), subscribe(), 0..3);
    (text(), data(), subs, text(), text(), texts(), any::<i64>()).prop_map(
        |(token, data, subs, name, version, headers, flag)| ConnectRequest {
            token,
            data,
            subs,
            name,
            version,
            headers,
            flag,
        },
    )
}

/// A command with any number of requests.
pub(super) fn any_command() -> impl Strategy<Value = Command> {
    let first = (option::of(connect()), option::of(subscribe()), option::of(text()));
    let publish = option::of((text(), data(), any::<i32>()));
    let since = option::of((any::<u64>(), text()));
    let history = option::of((text(), any::<i32>(), since, any::<bool>()));
    let calls = (option::of(data()), option::of((data(), text())));
    let tokens = (option::of(text()), option::of((text(), text(), any::<i32>())));
    let asked = (option::of(text()), option::of(text()), any::<bool>());
    (any::<u32>(), first, publish, history, calls, tokens, asked).prop_map(
        |(id, (connect, subscribe, unsubscribe), publish, history, calls, tokens, asked)| Command {
            id,
            connect: connect.map(Box::new),
            subscribe: subscribe.map(Box::new),
            unsubscribe: unsubscribe.map(|channel| UnsubscribeRequest { channel }),
            publish: publish.map(|(channel, data, kind)| PublishRequest {
                channel,
                data,
                r#type: kind,
            }),
            presence: asked.0.map(|channel| PresenceRequest { channel }),
            presence_stats: asked.1.map(|channel| PresenceStatsRequest { channel }),
            history: history.map(|(channel, limit, since, reverse)| HistoryRequest {
                channel,
                limit,
                since: since.map(|(offset, epoch)| StreamPosition { offset, epoch }),
                reverse,
            }),
            ping: asked.2.then(PingRequest::default),
            send: calls.0.map(|data| SendRequest { data }),
            rpc: calls.1.map(|(data, method)| RpcRequest { data, method }),
            refresh: tokens.0.map(|token| RefreshRequest { token }),
            sub_refresh: tokens.1.map(|(channel, token, kind)| SubRefreshRequest {
                channel,
                token,
                r#type: kind,
            }),
        },
    )
}

fn info() -> impl Strategy<Value = ClientInfo> {
    (text(), text(), data(), data()).prop_map(|(user, client, conn_info, chan_info)| ClientInfo {
        user,
        client,
        conn_info,
        chan_info,
    })
}

fn publication() -> impl Strategy<Value = Publication> {
    let numbers = (any::<u64>(), any::<i64>(), any::<i64>(), any::<u64>());
    let said = (text(), text(), text());
    (data(), option::of(info()), texts(), numbers, said, any::<[bool; 2]>()).prop_map(
        |(data, info, tags, numbers, (channel, key, epoch), [delta, removed])| {
            let (offset, time, score, version) = numbers;
            Publication {
                data,
                info,
                offset,
                tags,
                delta,
                time,
                channel,
                key,
                removed,
                score,
                epoch,
                version,
            }
        },
    )
}

fn subscribed() -> impl Strategy<Value = SubscribeResult> {
    let publications = vec(publication(), 0..3);
    (any::<[bool; 6]>(), any::<u32>(), text(), any::<u64>(), data(), publications).prop_map(
        |(bits, ttl, epoch, offset, data, publications)| {
            let [expires, recoverable, recovered, positioned, was_recovering, delta] = bits;
            SubscribeResult {
                expires,
                ttl,
                recoverable,
                epoch,
                publications,
                recovered,
                offset,
                positioned,
                data,
                was_recovering,
                delta,
            }
        },
    )
}

fn connected() -> impl Strategy<Value = ConnectResult> {
    let said = (text(), text(), text(), text(), data());
    let subs = btree_map(text(), subscribed(), 0..3);
    (said, any::<[bool; 2]>(), any::<[u32; 2]>(), subs, any::<i64>()).prop_map(
        |((client, version, session, node, data), [expires, pong], [ttl, ping], subs, time)| {
            ConnectResult {
                client,
                version,
                expires,
                ttl,
                data,
                subs: (!subs.is_empty()).then_some(Subscriptions(subs)),
                ping,
                pong,
                session,
                node,
                time,
            }
        },
    )
}

/// Any result or error.
pub(super) fn any_reply_body() -> impl Strategy<Value = ReplyBody> {
    let error = (any::<u32>(), text(), any::<bool>())
        .prop_map(|(code, message, temporary)| ReplyError { code, message, temporary });
    let presence = btree_map(text(), info(), 0..3).prop_map(|presence| PresenceResult { presence });
    let stats = any::<[u32; 2]>()
        .prop_map(|[num_clients, num_users]| PresenceStatsResult { num_clients, num_users });
    let history = (vec(publication(), 0..3), text(), any::<u64>())
        .prop_map(|(publications, epoch, offset)| HistoryResult { publications, epoch, offset });
    let refresh = (text(), text(), any::<bool>(), any::<u32>()).prop_map(
        |(client, version, expires, ttl)| RefreshResult { client, version, expires, ttl },
    );
    let sub_refresh =
        (any::<bool>(), any::<u32>()).prop_map(|(expires, ttl)| SubRefreshResult { expires, ttl });
    prop_oneof![
        error.prop_map(ReplyBody::Error),
        connected().prop_map(ReplyBody::Connect),
        subscribed().prop_map(ReplyBody::Subscribe),
        Just(ReplyBody::Unsubscribe),
        Just(ReplyBody::Publish),
        presence.prop_map(ReplyBody::Presence),
        stats.prop_map(ReplyBody::PresenceStats),
        history.prop_map(ReplyBody::History),
        data().prop_map(|data| ReplyBody::Rpc(RpcResult { data })),
        refresh.prop_map(ReplyBody::Refresh),
        sub_refresh.prop_map(ReplyBody::SubRefresh),
    ]
}

/// Any push.
pub(super) fn any_push() -> impl Strategy<Value = Push> {
    let unsubscribe = (any::<u32>(), text())
        .prop_map(|(code, reason)| Push::Unsubscribe(UnsubscribePush { code, reason }));
    let subscribe = (any::<[bool; 2]>(), text(), any::<u64>(), data()).prop_map(
        |([recoverable, positioned], epoch, offset, data)| {
            Push::Subscribe(SubscribePush { recoverable, epoch, offset, positioned, data })
        },
    );
    let connect = connected().prop_map(|result| {
        let ConnectResult { client, version, expires, ttl, data, subs, .. } = result;
        let ConnectResult { ping, pong, session, node, time, .. } = result;
        Push::Connect(ConnectPush {
            client,
            version,
            data,
            subs: subs.unwrap_or_default().0,
            expires,
            ttl,
            ping,
            pong,
            session,
            node,
            time,
        })
    });
    let disconnect = (any::<u32>(), text(), any::<bool>()).prop_map(|(code, reason, reconnect)| {
        Push::Disconnect(DisconnectPush { code, reason, reconnect })
    });
    let refresh = (any::<bool>(), any::<u32>())
        .prop_map(|(expires, ttl)| Push::Refresh(RefreshPush { expires, ttl }));
    prop_oneof![
        publication().prop_map(Push::Publication),
        info().prop_map(Push::join),
        info().prop_map(Push::leave),
        unsubscribe,
        data().prop_map(|data| Push::Message(MessagePush { data })),
        subscribe,
        connect,
        disconnect,
        refresh,
    ]
}

/// What a reply says that was read.
pub(super) fn body(reply: &Reply) -> Option<ReplyBody> {
    let reply = reply.clone();
    reply
        .error
        .map(ReplyBody::Error)
        .or(reply.connect.map(ReplyBody::Connect))
        .or(reply.subscribe.map(ReplyBody::Subscribe))
        .or(reply.unsubscribe.map(|_| ReplyBody::Unsubscribe))
        .or(reply.publish.map(|_| ReplyBody::Publish))
        .or(reply.presence.map(ReplyBody::Presence))
        .or(reply.presence_stats.map(ReplyBody::PresenceStats))
        .or(reply.history.map(ReplyBody::History))
        .or(reply.rpc.map(ReplyBody::Rpc))
        .or(reply.refresh.map(ReplyBody::Refresh))
        .or(reply.sub_refresh.map(ReplyBody::SubRefresh))
}

/// What a push says that was read.
pub(super) fn push(push: &PushMessage) -> Option<Push> {
    let push = push.clone();
    push.r#pub
        .map(Push::Publication)
        .or(push.join.map(Push::Join))
        .or(push.leave.map(Push::Leave))
        .or(push.unsubscribe.map(Push::Unsubscribe))
        .or(push.message.map(Push::Message))
        .or(push.subscribe.map(Push::Subscribe))
        .or(push.connect.map(Push::Connect))
        .or(push.disconnect.map(Push::Disconnect))
        .or(push.refresh.map(Push::Refresh))
}
