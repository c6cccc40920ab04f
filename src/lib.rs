//! Ringwire: a WebSocket echo, broadcast and pub/sub server directly on io_uring, and the load
//! generator that proves it.
//!
//! # Bird's eye view
//!
//! A process runs as many *shards* as it has cores, each a thread pinned to its core with an
//! io_uring, a table of registered files, receive buffers, connections, timers and topics of its
//! own. The kernel spreads connections over the shards (`SO_REUSEPORT`), and there they stay, but
//! for those that [move](shard::moves) when a shard has many more than its share. On the path
//! of a message shards share broadcast rings, and a table of counters that tells which topics have
//! members elsewhere and whether those are behind ([`hub::interest`]); beside it letters to one
//! shard ([`hub::inbox`]), counters ([`stats`]), the state of memory ([`memory`]), and who
//! connects, joins and publishes, where that is limited ([`admission`]).
//!
//! ```text
//!            kernel-chosen buffer        in place              pieces, publications
//! socket --> io (recv completion) --> connection (HTTP, then WebSocket) --+--> outbox --> io
//!                                                                         |      ^
//!                                                     hub (topics, rings) <      | one send
//!                                                         |  ^            +------+
//!                                               other shards (MSG_RING)
//! ```
//!
//! Data moves one way: `io -> connection -> hub -> io`, driven by [`shard`]; HTTP and WebSocket are
//! functions over bytes. No stage calls its predecessor, and a test holds the direction of every
//! `use` (`MAY_USE` in `tests/tidy.rs`, where a new module needs a line). How to add an option, a
//! counter or a route, step by step, is in `CONTRIBUTING.md`.
//!
//! # The loop
//!
//! > A tick takes all completions, acts on every one and on the deadlines that have passed,
//! > delivers what was published, sends what was queued, and submits once. Nothing calls back from
//! > a completion.
//!
//! One `io_uring_enter` a tick submits every request and waits for the next completion, so the
//! more there is to do, the less each message pays for the crossing. A fan-out to a thousand
//! subscribers is one enter. The wait ends with the first completion, or with `--batch-wait-us`
//! gathers them for that long. With `--busy-poll` there is no wait, and an enter only where there
//! is something to submit or the kernel says that it has deferred work.
//!
//! # A fair share of a tick
//!
//! No peer may hold up the others, whatever it sends:
//!
//! * A WebSocket has a budget for each tick ([`websocket::Budget`]); what it has not done goes on
//!   in a later tick, in turn. Whoever sends little is served at once.
//! * A connection whose input waits does so for exactly one thing: memory, room in the broadcast
//!   ring, its peer to read, its rate, requests before its own, or its turn; and stands on the one
//!   list that lets it go on (`shard/pause.rs`).
//! * Whoever sends much and whoever sends little stand in lines of their own, which are served by
//!   turns (`shard/line.rs`).
//! * Receives that find no buffer are started again in the order in which they wait, no more than
//!   there are buffers for, and each for one of them (`shard/receive.rs`).
//! * A topic is delivered in *rounds*: a tick serves so many members, and the next goes on with the
//!   others ([`hub::topics`]). What is published meanwhile waits for the next round; publishers of
//!   a topic that has much pending wait, on every shard.
//! * What a tick takes from each ring, compresses, and sends for those who have much to send is
//!   bounded in bytes, and the deadlines that it acts on in number.
//! * A tick begins with all that the kernel has ready (`io/queues.rs`): whoever is last in its
//!   queue does not wait for several.
//! * Silence is counted in time in which the shard came round to its peers, and before a silent
//!   peer is closed the kernel is asked whether something has arrived (`shard/deadlines.rs`).
//!
//! # So much in a second
//!
//! What a connection has left of a second is one more bound of the budget that it gets anyway, and
//! what it has used is charged behind (`shard/rates.rs`). Whoever has nothing left waits in a wheel
//! of its own until it has. What is begun is finished, and owed.
//!
//! The rate of a topic holds for all shards, so it is kept where all can see it
//! (`admission/publications.rs`). A member takes a few messages of what there is, is bounded by
//! that in the same way, and gives back what it has not begun (`shard/topic_rate.rs`). Where
//! nothing is left it gets a place in a line, as a moment to ask again.
//!
//! # Too much to do
//!
//! Fair shares do not help a shard that has too little time for all of them. It notices by the
//! *standing delay*: when its thread has not slept for 100 ms, and even the shortest tick meanwhile
//! took more than 5 ms, then everything that arrives waits for at least so long
//! (`shard/overload.rs`). Level by level it leaves undone what costs it most and its peers least:
//! requests wait in a line of their own, upgrades are refused, accepting pauses. Those who are
//! connected are served as before, and are never closed for want of time unless `--shed-idle` says
//! so. Memory is another matter (`shard/shed.rs`).
//!
//! # What a connection costs
//!
//! 64 bytes of hot state, 12 of timer, 4 for its age, nothing else while it is idle: no buffer, no
//! task, no allocation. In the kernel an idle connection is *parked*: its multishot receive (about
//! 1,150 bytes) is replaced by a one-shot poll (256 bytes); the first byte un-parks it.
//!
//! The 64 bytes are full but for some bits, of the requests (`shard/requests.rs`) and of the marks
//! (`shard/connections.rs`). What only some connections need lies beside the table, by their index
//! (`shard/pending_input.rs`, `Lifetimes`, `shard/peers.rs`, `shard/rates.rs`).
//!
//! A registered file is no file descriptor of the process: `RLIMIT_NOFILE` bounds the table of a
//! ring, so more shards hold more connections, without privilege.
//!
//! # Where memory in flight belongs
//!
//! * Received bytes are a [`io::BufferSlice`], which cannot be copied and must be released; its
//!   buffer returns to the kernel with the last slice.
//! * A send hands its [`io::Outgoing`] to the ring and gets it back with the completion. Nothing
//!   the rest of the program does can free memory that the kernel reads.
//! * A send that holds a receive buffer never waits for the peer (`MSG_DONTWAIT`): what the socket
//!   does not take at once is copied out. So receive buffers are bound for one tick at the most,
//!   and slow readers cannot exhaust them.
//!
//! # Echo in place
//!
//! A server's frame header is four bytes shorter than the client's, for want of a mask. So a burst
//! of frames is unmasked, given new headers and compacted in one forward pass within the receive
//! buffer, and leaves with one send. A binary frame that spans buffers is passed on part by part
//! (cut-through), and its payload costs no memory; a text message is held until all of it is known
//! to be UTF-8, because nothing may follow half a frame but its other half
//! (`websocket/reflection.rs`).
//!
//! # Requests
//!
//! A request is decided on at once, in `Exchange::receive` (`http/exchange.rs`), with what the
//! shard knows before (`Conditions`, made in `Shard::take_in`). A topic is joined only after
//! that, when the 101 is on its way (`Shard::upgraded`): what refuses an upgrade belongs before.
//! What waits keeps its request in `Exchange`; only a whole body that may not be published yet does
//! so far (`Answer::Blocked`). Whether a connection is open means whether it is an open WebSocket
//! or an open stream (`Stage::is_open`): a further protocol has to look at each place in `shard`
//! that asks.
//!
//! # Streams
//!
//! A request may be answered with a topic as a response that goes on, one line a message
//! (`http/stream.rs`). The connection is a stage of its own then (`connection/stream.rs`), a member
//! that only gets, and counts, waits, is drained and cut off as a WebSocket does. What its peer
//! sends is thrown away. Silence says nothing of it, so the shard looks at what it takes
//! (`shard/streams.rs`). Lines are one more encoding of a run, each in a chunk of its own, so that
//! what is dropped, or cut off, stays whole.
//!
//! # Who connects
//!
//! A multishot accept does not tell who has connected. Where that makes a difference (a limit by
//! address, a network that may or may not connect, a proxy that is trusted) each accept is for one
//! connection and tells its address, and several wait (`io/accept.rs`).
//! The peer is judged in `Shard::arrived` (`shard/peers.rs`), before anything is received. By
//! listeners that expect PROXY headers ([`proxy_protocol`]) the connection begins in a stage of its
//! own, which `Shard::take_preamble` ends before `take_in` goes on with what follows. For whom a
//! trusted proxy asks in a header of HTTP is decided with the upgrade (`http/forwarded.rs`).
//!
//! Limits hold for the process ([`admission`]), as one address, or user, is spread over all shards.
//! What a connection counts for lies beside the table of connections, goes along when it moves, and
//! is given back when its slot is free; its seat among those of its user when its end begins. Who
//! loses that to another hears of it by letter, or where it arrives (`shard/peers/seats.rs`).
//!
//! # TLS
//!
//! TLS lies between the socket and everything else (`shard/secure.rs`). What arrives by a listener
//! that speaks it is opened before the stage sees it, and from then on is input like any other.
//! What leaves waits in the outbox as it does elsewhere, so that policies may drop it, and is
//! sealed when its send begins: records have an order that nothing may leave or overtake. What the
//! kernel has not taken of a send stays sealed, and goes first; an end in good order is said last.
//!
//! The protocol itself is in [`tls`], without socket and clock: handshakes and TLS 1.2 by a
//! library, the records of TLS 1.3 by `tls/records.rs`. Those are opened where they lie, so an echo
//! is still made in the receive buffer, and sealed from there into what is sent. A broadcast is
//! sealed for each member out of the frames that all share. While a connection is parked it keeps
//! two secrets and two numbers, from which its keys follow.
//!
//! Its state lies beside the table of connections and moves with the connection. Handshakes wait
//! for each other in a line of their own, a few in each tick. Certificates and keys are part of
//! what is in force (`shard/in_force.rs`): a new connection begins with the newest, and the control
//! thread looks whether files have changed (`control/certificates.rs`).
//!
//! # Who may do what
//!
//! With keys, what somebody may do follows from a token, which [`identity`] verifies, and by a list
//! from who that is, which a certificate may say instead (`tls/client_name.rs`); [`authorization`]
//! puts that together with what the operator allows, in one function that is asked before anybody
//! joins or publishes. A request is asked for its token where it is decided on (`http/bearer.rs`,
//! `Conditions::verify`). Verifying takes up to 0.1 ms, so a tick does a bounded number, and others
//! wait in the line that there is for too many requests (`shard/overload.rs`).
//!
//! A connection keeps neither token nor grants, as it has one topic and what it may do there is
//! decided when it joins; only who its peer is, and until when, which lies beside the table
//! (`shard/peers/identified.rs`) and is one of its deadlines. That alone goes by the time of day,
//! which the control thread looks at once a second ([`stats::Stats::look_at_clock`]).
//!
//! Where a backend decides, or a password is checked, a request is decided on twice: as if all was
//! granted, to find out whether it is worth asking (`http/asking.rs`), and with the answer. The
//! shard sends what is to be asked to the control thread, with the place of the answer
//! (`shard/inquiries.rs`); that asks (`control/consultations.rs`, or `logins.rs` and its threads).
//!
//! Keys of a URL are fetched by a task of the control thread (`control/key_set.rs`). Those of files
//! and the list of what is revoked are read with the settings ([`settings::read_trust`]), and are
//! in force together with them. To revoke is to put another list in force: each shard looks at
//! those who are there, one after the other (`shard/in_force.rs`), and at those who move to it when
//! they arrive.
//!
//! # Broadcast
//!
//! A connection joins a topic when it is upgraded, and publishes to that one, or when it becomes a
//! stream; by POST anybody publishes to any. `hub/topics` lets one join as many as
//! [`limits::SUBSCRIPTIONS_MOST`], in lists beside the connections, of twelve bytes an entry.
//!
//! A topic exists on each shard on which it has members, and ends there with the last of them. No
//! shard knows how many there are in all: what the shards share are counts by hash, not names.
//! Nothing is numbered or kept: a message that has been queued for all members is forgotten. What
//! one shard publishes reaches each other in its order; what two publish may come in any on each.
//!
//! What is published is a [message](wire::message): its kind and its payload, which lies within the
//! frame that most subscribers get. It waits with whatever else was published to the topic since
//! its last delivery; then each encoding that a subscriber wants ([`hub::run::Encoding`]) is made
//! of all together, once, and shared. A lone message is sent from where it lies. Other shards read
//! messages from the publisher's broadcast ring, each at its own cursor ([`hub::ring`]), and are
//! woken by `MSG_RING` if they sleep ([`hub::mesh`]). A full ring, in messages or in bytes, lets
//! publishers wait in turn and drops nothing; what no other shard has members for does not enter
//! it. What a subscriber does not read queues in its outbox (`shard/outbox.rs`). It counts as slow
//! for what has waited since before the last 100 ms, never for what has just arrived; then the
//! policy for slow consumers decides.
//!
//! # Mail
//!
//! What concerns one shard goes to its inbox ([`hub::inbox`]), bounded in letters and in bytes.
//! Nobody waits for mail within a tick: a sender that finds no place keeps what it has, and a
//! receiver takes so many letters a tick. A request takes the place of its answer before it is
//! sent, in the inbox of its sender, so that no answer is ever refused and no two full inboxes wait
//! for each other. What waits for an answer has a deadline and a key that makes a late one harmless
//! ([`shard::pending`]). The inbox of a shard takes 4 KiB, and its letters hold 256 KiB at most.
//!
//! Letters go from shard to shard, and between the control thread and each (`shard/mail.rs`). The
//! control thread reads letters alone, no broadcast ring, and is woken for nothing else, by a ring
//! of its own that waits for none: a shard that hangs must not hold it up ([`io::waker`]).
//!
//! What it wants of a shard is an order, of which each has one at a time (`control/mail.rs`), and
//! which ends with one answer. An order that concerns many connections is a walk over the places of
//! the table, so many in a tick (`shard/orders.rs`). Whoever waits for the answer does so for ten
//! seconds; then the order is withdrawn, and what the shard has not done by then it leaves.
//!
//! # Connections that move
//!
//! `SO_REUSEPORT` spreads connections as they come, and they go as they like: a shard may be left
//! with nearly all. One that has many more than its share moves some to the one that has the
//! fewest, those first whose peers are silent (`shard/balance.rs`). The socket goes by `MSG_RING`
//! from one table of registered files to another, and everything else by mail: the request or
//! message that has begun, what was received until the receive ended, and what is queued for the
//! peer (`shard/outbox/luggage.rs`), as far as a letter may hold it. A send that is in flight ends
//! before; whoever's peer does not read stays, whoever is being closed, and streams.
//!
//! What two shards publish may come to a third in any order. So whoever has published leaves only
//! when all shards have read what its own had published by then.
//!
//! Each shard is elsewhere in the broadcast rings. So before a member of a topic leaves, the shard
//! that is to get it *holds* the topic: it keeps what is published from then on, each message with
//! its place in the ring that it came by (`hub/topics/holds.rs`). The member leaves as soon as its
//! shard has read up to where the hold began, and notes how far it has read; what was held from
//! there on it gets where it goes on, when that shard has read as far (`shard/moves/members.rs`).
//! The topic counts in [`hub::interest`] there before it counts no more here.
//!
//! # Channels
//!
//! A WebSocket of `/connection/websocket` is a *session*, whose messages are commands of a protocol
//! ([`realtime::protocol`]), done one after the other (`shard/sessions/commands.rs`); while one
//! waits for an answer, no more is received. A channel is up to three topics of the hub
//! ([`realtime::topic`]): what is published, the same as deltas, and who comes and goes. Messages
//! are pushes in JSON; in Protobuf they are made once for all who want it (`hub/run/pushes.rs`).
//! Those who choose by tags, or have a pattern of channels, are members of *derived* topics
//! (`hub/topics/derived.rs`), each of which gets what it is to get once for all who are alike.
//!
//! What is kept of a channel lies on one shard, its *home*, which a hash of its name says
//! ([`realtime::home`]). Others ask it by mail (`shard/sessions/home.rs`). It gives publications
//! their offsets and sends them to its own ring, so that everybody gets them in that order. Of a
//! channel without a history each shard publishes by itself.
//!
//! Between what comes from the history and what comes from the ring nothing may be lost or doubled.
//! So a shard holds the topics, as for a connection that moves, before it asks; the answer says how
//! many messages the home had sent to its ring by then; and when the shard has read as many, the
//! session joins, and gets what was held from there on (`shard/sessions/subscribing.rs`).
//!
//! A session takes 144 bytes beside the table of connections, a subscription 56, and their names;
//! it stays on its shard. If it reads too slowly it loses its subscriptions with positions, and
//! comes back for the rest from the history (`shard/sessions/ending.rs`). Calls of applications are
//! done by steps (`shard/sessions/calls.rs`), and what a backend decides twice (`.../hooks.rs`).
//!
//! # Compression
//!
//! Connections that keep no context between messages lend nothing: the shard's [`wire::deflate`]
//! codec inflates and compresses for each in turn. Where both ends have agreed on a context, a
//! connection owns it from its first compressed message on. Broadcasts are compressed once on each
//! shard for all subscribers of a class of windows ([`hub::run`]). What takes long to inflate or to
//! compress goes on in later ticks (`websocket/recoding.rs`), a few messages at a time.
//!
//! # When a part fails
//!
//! A shard whose ring fails loses its connections: it counts them as closed, leaves the mesh, and
//! tells the main thread, which logs it and has the control thread drain all others ([`serve`]).
//! The process ends with status 1. A control thread that fails drains the server as well, because
//! nobody could stop it any more.
//!
//! # Administration
//!
//! The admin listener is plain HTTP on the control thread (`control/admin`), so that nobody who
//! asks for counters takes time from a connection. It reads what the shards count; what concerns
//! single connections it has the shards do, by orders (`control/admin/calls.rs`). Whether a shard
//! is alive is told by the counter of its ticks; one that stands still is woken, as sleep looks the
//! same, and only one that does not tick then is missed (`control/health.rs`). While one is missed,
//! the watchdog of the service manager is not fed.
//!
//! Metrics are what the shards count ([`stats::family`]) and what the control thread knows besides
//! (`control/metrics`). A shard measures with the two times that a tick has anyway, its begin and
//! its end (`shard/measure.rs`): nothing reads a clock for a message. The address of a peer, and
//! what the access log is to say of it, lie beside the table and move along (`shard/peers.rs`).
//!
//! # A successor
//!
//! A server with `--takeover` may be succeeded by another process ([`takeover`]). That gets the
//! listening sockets themselves ([`io::inheritance`]), since to close one of `SO_REUSEPORT` resets
//! who waits in its queue. Nothing ends in the old server until the new one says that its shards
//! accept; then each of its shards cancels its accepts, and closes its copies when the last has
//! ended (`shard/drain.rs`): whom it has accepted by then it serves, and sends to the successor
//! with 1012. All of it is one task of the control thread (`control/takeover.rs`).
//!
//! What is kept of channels goes over first (`shard/sessions/hand_over.rs`). While both live, what
//! is published goes both ways ([`hub::relay`]), by a queue that is bounded in bytes and lets
//! nobody wait, into the broadcast ring of the other's control thread, so that it is not sent back.
//! Meanwhile every topic counts as wanted elsewhere ([`hub::interest`]).
//!
//! # Settings that change
//!
//! What a setting's declaration calls live may change while the server runs. The control thread
//! reads all layers again, and either puts a whole new set in force or changes nothing
//! (`settings/layers.rs`, `control/standing.rs`). Shards see at the beginning of a tick that there
//! is a newer set, take it, and set the deadlines of all their connections anew, some in each tick
//! (`shard/in_force.rs`); on the path of a message each reads its own copy.
//!
//! # The life of a message
//!
//! A text of 20 bytes, sent by one member of a topic to all others:
//!
//! 1. The kernel puts the frame into one of the shard's receive buffers and completes the multishot
//!    receive (`io/ring.rs`, `io/buffers.rs`). `shard/mod.rs` takes the completion in
//!    `Shard::turn` and calls `Shard::received` (`shard/receive.rs`).
//! 2. `Shard::take_in` sees that nothing stands in the way (`shard/pause.rs`), and hands the bytes
//!    to the connection's stage with a budget (`connection/mod.rs`).
//! 3. The WebSocket finds the frame, checks it, removes the mask and makes a message of it
//!    (`websocket/frames.rs`, `wire/header.rs`, `wire/mask`, `wire/message.rs`).
//! 4. `Shard::publish` appends it to what its topic has pending (`hub/topics.rs`) and, where other
//!    shards have members, to this shard's broadcast ring (`hub/mesh.rs`, `hub/ring.rs`). The
//!    buffer goes back to the kernel.
//! 5. At the end of the tick `Shard::deliver` makes each encoding that members want, once
//!    (`hub/run.rs`), and queues it in their outboxes (`shard/outbox.rs`).
//! 6. `Shard::flush` starts one send for every connection that has something and no send under way
//!    (`shard/send.rs`); `Io::submit` gives all of them to the kernel with the wait for the next
//!    completion (`io/enter.rs`).
//! 7. The other shards wake up, find the message in the ring (`Shard::handle_messages`), and do
//!    steps 5 and 6 for their own members. An echo skips steps 4 and 5.
//!
//! # Where do I change ...?
//!
//! | what | where |
//! |---|---|
//! | an option | [`config`], range in [`limits`]; how options agree: `settings/relations.rs` |
//! | an option of a listener, of a mount | a `field` in `config/listen.rs`, `config/mount.rs` |
//! | a limit of the whole server | `Shared` and `Shard::serving` in `shard/mod.rs` |
//! | a counter, a metric | [`stats`]; of the process or the server: `control/metrics` |
//! | what a shard measures | `shard/measure.rs` |
//! | who takes the most, what is used up soon | `shard/orders/top.rs`, `control/capacity.rs` |
//! | what the access log says | `shard/peers/visit.rs`, `http/asked.rs`; its way: [`output`] |
//! | what the page shows | `control/admin/page`; the terminal: `top/screen.rs`, `top/panel.rs` |
//! | what is told of an end | [`stats::close_records`], `control/admin/closed.rs` |
//! | a path of the public listeners | `http/route.rs`, `http/decision.rs`, `BUILT_IN_PATHS` |
//! | a field of a request's head that counts | `Head` in `http/request.rs` |
//! | what a request may wait for | `http/exchange.rs`, [`websocket::Pause`], `shard/pause.rs` |
//! | a protocol that a connection speaks | `Stage` in `connection/mod.rs`, and whoever asks it |
//! | how bytes are changed on their way in or out | `shard/receive.rs`, `shard/send.rs` |
//! | a path of the admin listener | `control/admin/routes.rs` |
//! | what is shown and asked for by TLS | [`tls::certificates`], `config/tls.rs` |
//! | where those are sent who come without TLS | `http/redirect.rs`, `note_listener` in `shard` |
//! | what is opened and sealed, and when | [`tls::session`], `tls/records.rs`, `shard/secure.rs` |
//! | what the control thread has shards do | `Errand` and `visit` in `shard/orders.rs` |
//! | what systemd is told | [`service_manager`]; when: `control/mod.rs`, `control/standing.rs` |
//! | what a body of a request may be | `http/body.rs`, `http/publish.rs` |
//! | who may do what | [`authorization`]; a backend: `http/asking.rs`, `control/consultations.rs` |
//! | which tokens are believed, what users may do | [`identity`]; `http/bearer.rs` finds tokens |
//! | how much a connection may send in a second | `shard/rates.rs` |
//! | how much may be published to a topic | `admission/publications.rs`, `shard/topic_rate.rs` |
//! | how many may join a topic | `admission/topics.rs`, `admission/counts.rs` |
//! | how often a user may be connected | `admission/users.rs`, `shard/peers/seats.rs` |
//! | what a successor gets | [`takeover`]; what the server does then: `control/takeover.rs` |
//! | what goes to another process | [`hub::relay`], `pass_on` in `shard/publish.rs` |
//! | who may connect, how many, how fast | [`admission`], and who asks it: `shard/peers.rs` |
//! | for whom a proxy speaks | `http/forwarded.rs`, [`proxy_protocol`] |
//! | a rule of RFC 6455 | `wire` if a frame alone breaks it, else `websocket/frames.rs` |
//! | what a message does | [`websocket::Mode`] and where it is asked for: `websocket/frames.rs` |
//! | how a topic becomes a response | `http/stream.rs`, `connection/stream.rs`, `wire/line.rs` |
//! | a rule of SockJS | [`sockjs`], `http/sockjs.rs`; a session: `shard/sockjs.rs` |
//! | how a subscriber gets a message | `hub/run.rs`; who gets it so: `shard/deliver.rs` |
//! | what is known of a message on its way | `Publication` in `hub/topics.rs` |
//! | a command of the protocol of channels | `shard/sessions/commands.rs`, `realtime/protocol` |
//! | what the home of a channel keeps | `realtime/home.rs`, [`realtime::log`] |
//! | what applications call | [`realtime::api`], `http/call.rs`, `shard/sessions/calls.rs` |
//! | an option of channels | `config/channels.rs`; who may do what: `realtime/channels.rs` |
//! | a letter | `Letter` and `handle_mail` in `shard/mail.rs` |
//! | which connections move, how they go on | `shard/moves.rs`, `shard/moves/arrival.rs` |
//! | what the control thread waits for | `Control::run` in `control/mod.rs` |
//! | what happens to slow readers | `Bounds::admit` in `shard/deliver.rs` |
//! | a deadline | `Deadline` in `shard/deadlines.rs`; the times behind it: `shard/times.rs` |
//! | what is left undone when there is too much to do | `Level` in `shard/overload.rs` |
//! | how much a peer may take of a tick | the ends of `shard/*.rs`, `websocket/budget.rs` |
//! | a request to the kernel | `io/mod.rs`, `io/ring.rs`, `shard/requests.rs`, simulated `Kernel` |
//! | what is known of each connection | `shard/connections.rs`; how it ends: `shard/ending.rs` |
//! | a workload of the load generator | `bench/workload` |
//! | how the load generator gets to a server | `bench/way.rs`, `bench/secure.rs` |
//!
//! # Words
//!
//! | word | means |
//! |---|---|
//! | shard | a thread with an event loop and all that belongs to it |
//! | tick | one turn of that loop; as a unit of time, 100 ms |
//! | slot | the place of a socket in a ring's table of registered files: a direct descriptor |
//! | key | a connection's place in its shard's table, and which of the place's tenants is meant |
//! | parked | waiting with a poll instead of a receive, which costs the kernel less |
//! | starved | its receive found no free buffer |
//! | paused | its input waits, for exactly one thing (`shard/pause.rs`) |
//! | doomed | given up, or gone to another shard: to be closed as soon as no request is under way |
//! | finishing | nothing more will be sent after what is queued (`shard/ending.rs`) |
//! | heavy, light | whoever sends much, or little: they stand in lines of their own |
//! | topic, member | where messages go, and a connection that gets them |
//! | session | a WebSocket whose messages are commands, for channels |
//! | channel, home | topics of which something is kept, and the shard that keeps it |
//! | run, round | messages of a topic that are delivered together; one pass over its members |
//! | class | members whose compression windows are alike |
//! | committed | given to the kernel in part: never dropped, never overtaken |
//! | ability | something that only newer kernels can do |
//!
//! # Modules, in the order of the data
//!
//! * [`cli`], [`settings`], [`bounded_file`], [`config`], [`limits`], [`logging`]: from flags,
//!   environment and files to one effective configuration. A setting is declared in one place, a
//!   field of [`config`]; listeners, mounts and channels share one grammar ([`config::entry`]).
//! * [`output`]: the log lines and counters on their way out, on threads of their own with bounded
//!   queues: an output that nobody reads, or that is broken, loses them and stops nothing.
//! * [`io`]: the only place that names io_uring. Trait [`io::Io`] is the seam: production plugs in
//!   the ring, tests plug in a simulated kernel.
//! * [`wire`]: RFC 6455 and RFC 7692 as functions over bytes; lines. [`sockjs`]: its protocol.
//! * [`proxy_protocol`]: who has connected to a proxy. [`admission`]: how many may, and how fast.
//! * [`identity`]: tokens, the keys that verify them, what they grant, and what backends say.
//! * [`authorization`]: who may join a topic or publish to it: one function for every transport.
//! * [`http`]: requests and their bodies to decisions: routes, refusals, upgrades, messages.
//! * [`websocket`]: the state machine of one WebSocket, without socket and clock.
//! * [`connection`]: what one connection speaks: header of a proxy, requests, WebSocket or stream.
//! * [`hub`]: topics of a shard, rings and mail between shards.
//! * [`realtime`]: channels for client libraries: their protocol, tokens, histories, who is there.
//! * [`shard`]: the event loop: connections, outboxes, timers, backpressure, moves, drain.
//! * [`stats`]: counters of single shards, for all to read. [`memory`]: how short memory is.
//! * [`serve`] starts shards. [`control`]: signals, the admin listener, on a thread of its own.
//! * [`service_manager`]: what systemd is told. [`takeover`]: listening sockets to a successor.
//! * [`admin_client`]: a client of the admin listener, for [`health`] and [`top`].
//! * [`mod@bench`]: the load generator, in the client's role, and no part of the server.
//!
//! # Deliberately absent
//!
//! No lock and no shared map on the path of a message; no allocation for an idle connection; no
//! timer in the kernel; no unsafe outside the files that talk to the kernel or the allocator, the
//! mask kernels, the broadcast ring and the inbox; no clock below the loop.

// Files of tests that `tests/fuzz` runs as well call the crate by its name.
#[cfg(test)]
extern crate self as ringwire;

pub mod admin_client;
pub mod admission;
pub mod authorization;
pub mod bench;
pub mod bounded_file;
pub mod cli;
pub mod config;
pub mod connection;
pub mod control;
pub mod health;
pub mod http;
pub mod hub;
pub mod identity;
pub mod io;
pub mod limits;
pub mod logging;
pub mod memory;
pub mod output;
pub mod proxy_protocol;
pub mod realtime;
pub mod serve;
pub mod service_manager;
pub mod settings;
pub mod shard;
pub mod sockjs;
pub mod stats;
pub mod takeover;
pub mod tls;
pub mod top;
pub mod websocket;
pub mod wire;

/// The version of this build, as `--version` prints it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
