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
    let mut at = 0;
    let mut is_blocked = exchange.blocked_topic().is_some();
    while (at < input.len() || is_blocked) && !exchange.is_ended() {
        if output.session.pieces.len() >= ANSWERS_MAX || !rules.session.may_begin {
            output.session.paused = Some(Pause::Room);
            return (at, None);
        }
        let budget = rules.session.budget;
        if budget.is_spent() {
            output.session.paused = Some(Pause::Turn);
            return (at, None);
        }
        let part = part(exchange, &input[at..]);
        let was_upload = exchange.has_upload();
        budget.spend(if was_upload { part.len() } else { REQUEST_COST });
        is_blocked = false;
        match exchange.receive(part, &rules.http) {
            Answer::Incomplete => {
                output.session.message_began |= exchange.has_upload() && !was_upload;
                at += part.len();
            }
            Answer::Blocked { consumed } => {
                output.session.paused = Some(Pause::Room);
                return (at + consumed, None);
            }
            Answer::Continue { consumed, response } => {
                at += consumed;
                output.session.message_began = true;
                output.session.pieces.push(Piece::Response(response));
            }
            Answer::Publish { consumed, publication, response, keep_alive } => {
                at += consumed;
                budget.spend(REQUEST_COST);
                output.session.messages += 1;
                output.posted.push(publication);
                answer(exchange, response, keep_alive, output);
            }
            Answer::Upgrade { consumed, route, response, compression } => {
                let mode = match route {
                    Route::Echo => Mode::Echo,
                    Route::Broadcast { may_publish, .. } => Mode::Broadcast { may_publish },
                };
                output.upgraded = Some(route);
                output.session.pieces.push(Piece::Response(response));
                return (at + consumed, Some(Session::new(mode, compression)));
            }
            Answer::Respond { consumed, response, keep_alive, refusal } => {
                at += consumed;
                output.refused = refusal.or(output.refused);
                answer(exchange, response, keep_alive, output);
            }
        }
    }
    // What follows the last request is of no interest.
    (input.len(), None)
}

fn answer(exchange: &mut Exchange, response: Vec<u8>, keep_alive: bool, output: &mut Output) {
    output.session.pieces.push(Piece::Response(response));
    if !keep_alive {
        exchange.end();
        output.session.finish = true;
    }
}

/// What is taken at once of the input: little of a body in chunks, of which each costs time
/// however short it is.
fn part<'i>(exchange: &Exchange, input: &'i [u8]) -> &'i [u8] {
    match exchange.is_chunked() {
        true => &input[..input.len().min(CHUNKED_BYTES)],
        false => input,
    }
}

/// Pipelined requests answered before the peer has to read some of the answers.
const ANSWERS_MAX: usize = 16;
/// Units of a budget that a request and its answer take.
const REQUEST_COST: usize = 16 << 10;
/// Bytes of a chunked body that are taken at once: some hundred chunks at the most.
const CHUNKED_BYTES: usize = 4096;
