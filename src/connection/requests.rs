//! The requests of a connection, up to an upgrade.

use super::{Output, Rules, Stage, Stream, Streamed, Upgraded};
use crate::http::{Answer, Exchange, Route, Wish};
use crate::sockjs::frame;
use crate::sockjs::transport::message_of;
use crate::websocket::{Mode, PUBLISHED_COST, Pause, Piece, WebSocket};
use crate::wire::close::CloseCode;

/// Answers the requests in `input`; returns how much of it was used, and what the connection has
/// become if that is something else.
pub(super) fn receive(
    exchange: &mut Exchange,
    input: &[u8],
    rules: &Rules<'_>,
    output: &mut Output,
) -> (usize, Option<Stage>) {
    let mut at = 0;
    while (at < input.len() || exchange.can_go_on()) && !exchange.is_ended() {
        if output.websocket.pieces.len() >= ANSWERS_MAX || !rules.websocket.may_begin {
            output.websocket.paused = Some(Pause::Room);
            return (at, None);
        }
        let budget = rules.websocket.budget;
        if budget.is_spent() {
            output.websocket.paused = Some(Pause::Turn);
            return (at, None);
        }
        let part = part(exchange, &input[at..], rules);
        let (was_upload, was_chunked) = (exchange.has_upload(), exchange.is_chunked());
        let answer = exchange.receive(part, &rules.http);
        let is_chunked = was_chunked || exchange.is_chunked();
        budget.spend(part.len() * if is_chunked { CHUNKED_BYTE_COST } else { 1 });
        budget.spend(if was_upload { 0 } else { REQUEST_COST });
        match answer {
            Answer::Incomplete => {
                output.websocket.message_began |= exchange.has_upload() && !was_upload;
                at += part.len();
            }
            Answer::Blocked { consumed } => {
                output.websocket.paused = Some(Pause::Room);
                return (at + consumed, None);
            }
            Answer::Ask { consumed, inquiry } => {
                output.inquiry = Some(inquiry);
                output.websocket.paused = Some(Pause::Judgement);
                return (at + consumed, None);
            }
            Answer::Continue { consumed, response } => {
                at += consumed;
                output.websocket.message_began = true;
                output.websocket.pieces.push(Piece::Response(response));
            }
            Answer::Publish { consumed, posted, response, keep_alive } => {
                at += consumed;
                budget.spend(REQUEST_COST);
                output.websocket.messages += 1;
                output.posted.push(posted);
                respond(exchange, response, keep_alive, output);
            }
            Answer::Elsewhere { consumed, shard } => {
                output.owner = Some(shard);
                output.websocket.paused = Some(Pause::Owner);
                return (at + consumed, None);
            }
            Answer::Session { consumed, request } => {
                at += consumed;
                if let Wish::Send(messages) = &request.wish {
                    budget.spend(PUBLISHED_COST * messages.len());
                }
                output.requested = Some(request);
                // What follows it is kept until it is answered.
                let rest = exchange.receive(&input[at..], &rules.http);
                debug_assert_eq!(rest, Answer::Incomplete, "it waits for its session");
                return (input.len(), None);
            }
            Answer::Call { consumed, called } => {
                output.called = Some(called);
                output.websocket.paused = Some(Pause::Call);
                return (at + consumed, None);
            }
            Answer::Upgrade { consumed, route, response, compression } => {
                let mut websocket = WebSocket::new(mode(&route), compression);
                output.websocket.pieces.push(Piece::Response(response));
                if websocket.is_sockjs() {
                    let bytes = message_of(frame::OPEN);
                    output.websocket.pieces.push(Piece::Owned { bytes, ends_frame: true });
                }
                if let Some((code, reason)) = route.closes() {
                    websocket.close(CloseCode(code), reason, &mut output.websocket);
                }
                let was_kept_alive = exchange.keep_no_longer();
                output.upgraded = Some(Upgraded { route, was_kept_alive });
                return (at + consumed, Some(Stage::WebSocket(websocket)));
            }
            Answer::Stream { consumed, topic, response, framing } => {
                let was_kept_alive = exchange.keep_no_longer();
                output.streamed = Some(Streamed { topic, was_kept_alive });
                output.websocket.pieces.push(Piece::Response(response));
                return (at + consumed, Some(Stage::Stream(Stream::new(framing))));
            }
            Answer::Respond { consumed, response, keep_alive, refusal } => {
                at += consumed;
                output.refused = refusal.or(output.refused);
                respond(exchange, response, keep_alive, output);
            }
        }
    }
    // What follows the last request is of no interest.
    (input.len(), None)
}

/// What the messages of a route are for.
fn mode(route: &Route) -> Mode {
    match route {
        Route::Echo | Route::Close { .. } => Mode::Echo,
        Route::Broadcast { may_publish, .. } => Mode::Broadcast { may_publish: *may_publish },
        Route::Session { kind, .. } => Mode::Session { kind: *kind },
        Route::SockJs(route) => match **route {
            Route::Broadcast { may_publish, .. } => Mode::SockJs { may_publish },
            _ => Mode::SockJs { may_publish: true },
        },
    }
}

pub(super) fn respond(
    exchange: &mut Exchange,
    response: Vec<u8>,
    keep_alive: bool,
    output: &mut Output,
) {
    output.websocket.pieces.push(Piece::Response(response));
    if keep_alive {
        output.answered = true;
    } else {
        exchange.end();
        output.websocket.finish = true;
    }
}

/// What is taken at once of the input: no more than a head may have where one is expected, because
/// a body in chunks may follow, and little of such a body.
fn part<'i>(exchange: &Exchange, input: &'i [u8], rules: &Rules<'_>) -> &'i [u8] {
    let most = match (exchange.is_chunked(), exchange.has_upload()) {
        (true, _) => CHUNKED_BYTES,
        (false, true) => input.len(),
        (false, false) => rules.http.policy.request_head_bytes,
    };
    &input[..input.len().min(most)]
}

/// Pipelined requests answered before the peer has to read some of the answers.
const ANSWERS_MAX: usize = 16;
/// Units of a budget that a request and its answer take.
const REQUEST_COST: usize = 16 << 10;
/// Bytes of a chunked body that are taken at once: some hundred chunks at the most.
const CHUNKED_BYTES: usize = 2048;
/// Units of a budget that a byte of such a body takes: a chunk of one byte has six, and two lines.
const CHUNKED_BYTE_COST: usize = 32;
