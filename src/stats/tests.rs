//! What the counters of all shards come to.

use super::*;

#[test]
fn totals_are_the_sum_of_the_shards() {
    let stats = Stats::new(2);
    stats.shard(0).echo_messages_in.add(3);
    stats.shard(1).broadcast_messages_in.add(4);
    stats.shard(1).connections_open.add(2);
    stats.shard(1).connections_open.subtract(1);
    stats.shard(0).refuse(Refusal::NotFound);
    stats.shard(1).drop_messages(SlowConsumer::Latest, 9);
    stats.shard(0).close(Initiator::Remote, CloseCode(1001));
    stats.shard(1).close(Initiator::Remote, CloseCode(4321));
    let json = stats.to_json();
    assert_eq!(json["messages_in"], 7);
    assert_eq!(json["connections_open"], 1);
    assert_eq!(json["connections_refused"]["not_found"], 1);
    assert_eq!(json["dropped"]["latest"], 9);
    assert_eq!(json["closes"]["remote"], json!({ "1001": 1, "other": 1 }));
    assert_eq!(json["shards"][1]["messages_in"], 4);
}
