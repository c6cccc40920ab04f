//! The requests of a connection, up to an upgrade.

use super::{Output, Rules};
use crate::http::{Answer, Exchange, Route};
use crate::session::{Mode, Pause, Piece, Session};

/// Answers the requests in `input`; returns how much of it was used, and the session that an
/// upgrade begins.
pub(super) fn receive(
    exchange: &mut Exchange,
    input: &[u8],
    rules: &Rules<'_>,
    output: &mut Output,
) -> (usize, Option<Session>) {
    let mut consumed = 0;
    while consumed < input.len() && !exchange.is_ended() {
        if output.session.pieces.len() >= ANSWERS_MAX || !rules.session.may_begin {
            output.session.paused = Some(Pause::Room);
            return (consumed, None);
        }
        let budget = rules.session.budget;
        if budget.is_spent() {
            output.session.paused = Some(Pause::Turn);
            return (consumed, None);
        }
        budget.spend(REQUEST_COST);
        match exchange.receive(&input[consumed..], rules.policy, rules.serving, rules.stats) {
            Answer::Incomplete => break,
            Answer::Upgrade { consumed: head, route, response, compression } => {
                let mode = match route {
                    Route::Echo => Mode::Echo,
                    Route::Broadcast { .. } => Mode::Broadcast,
                };
                output.upgraded = Some(route);
                output.session.pieces.push(Piece::Response(response));
                return (consumed + head, Some(Session::new(mode, compression)));
            }
            Answer::Respond { consumed: head, response, keep_alive, refusal } => {
                consumed += head;
                output.refused = refusal.or(output.refused);
                output.session.pieces.push(Piece::Response(response));
                if !keep_alive {
                    exchange.end();
                    output.session.finish = true;
                }
            }
        }
    }
    // What follows the last request is of no interest.
    (input.len(), None)
}

/// Pipelined requests answered before the peer has to read some of the answers.
const ANSWERS_MAX: usize = 16;
/// Units of a budget that a request and its answer take.
const REQUEST_COST: usize = 16 << 10;
