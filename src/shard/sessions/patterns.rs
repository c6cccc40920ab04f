//! Subscriptions to all channels that match a pattern. Nothing is known of them at any home: there
//! is no position in many streams, and those who are there are there in none.

use super::super::Shard;
use super::commands::{Outcome, told};
use super::home::Reserved;
use super::subscribing::Subscribing;
use crate::io::{Io, Key};
use crate::realtime::channels::may_subscribe_to_pattern;
use crate::realtime::protocol::SubscribeRequest;
use crate::realtime::protocol::codes::ErrorCode;
use crate::realtime::session::{Subscription, Traits};

impl<I: Io> Shard<I> {
    pub(super) fn subscribe_to_pattern(
        &mut self,
        key: Key,
        id: u32,
        request: SubscribeRequest,
    ) -> Outcome {
        let effective = self.effective.clone();
        let SubscribeRequest { channel: pattern, token, tf, r#type, .. } = request;
        let Some(session) = self.sessions.get(key.index) else { return Outcome::Nothing };
        let options = match effective.channels.options_of_pattern(&pattern) {
            Ok(options) => options,
            Err(denied) => return Outcome::error(denied),
        };
        if r#type != 0 {
            return Outcome::error(ErrorCode::PermissionDenied);
        }
        if tf.is_some() {
            return Outcome::error(ErrorCode::BadRequest);
        }
        let token = match self.subscription_token(session, &pattern, &token) {
            Ok(token) => token,
            Err(outcome) => return outcome,
        };
        let asker = self.asker(session, &pattern);
        if let Err(denied) = may_subscribe_to_pattern(options, &pattern, &asker, token.is_some()) {
            return Outcome::error(denied);
        }
        if !self.topics.has_room_for_pattern(&pattern) {
            return Outcome::error(ErrorCode::LimitExceeded);
        }
        let token = token.unwrap_or_default();
        let subscribing = Subscribing {
            client: session.client.clone(),
            id: Some(id),
            subscription: Subscription {
                channel: pattern.into(),
                traits: Traits::empty(),
                filter: None,
                info: told(token.grant.info),
                expires_s: token.expires_s,
            },
            data: told(token.grant.data).to_vec(),
            since: None,
            rejects_unrecovered: false,
        };
        self.subscribe(key, Box::new(subscribing), Reserved::Here);
        Outcome::Waits
    }
}
