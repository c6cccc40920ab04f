//! The log against the naive one: everything that ever was published, and the rules by hand.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// What a test does to the log.
#[derive(Clone, Debug)]
enum Step {
    Append { channel: usize, data: u16, key: Option<u8>, version: u64, is_kept: bool },
    Read { channel: usize, since: Option<(u64, u8)>, limit: i64, is_reverse: bool },
    Recover { channel: usize, since: (u64, u8), publications_max: usize, mode: RecoveryMode },
    Remove { channel: usize },
    TellInFull { channel: usize },
    Wait { time_ms: u64 },
    Advance { budget: usize },
    HandOver { bytes: usize },
}

/// Something that was published and kept.
#[derive(Clone, Debug)]
struct Entry {
    offset: u64,
    data: Vec<u8>,
}

/// All that is known of a channel.
#[derive(Clone, Debug, Default)]
struct Naive {
    /// Nothing, where there is no stream.
    epoch: Option<Epoch>,
    published: Vec<Entry>,
    /// Offsets from here on are still kept.
    kept_from: u64,
    published_ms: u64,
    used_ms: u64,
    version: u64,
    /// What every subscriber got last, if it was kept.
    last_seen: Option<u64>,
    keys: Vec<(u8, u64, Head)>,
}

impl Naive {
    fn top(&self) -> u64 {
        self.published.len() as u64
    }

    /// What is kept now.
    fn kept(&self, now_ms: u64) -> Vec<Entry> {
        let is_over = self.published_ms + RULES.ttl_ms <= now_ms;
        let kept = self.published.iter().filter(|entry| entry.offset >= self.kept_from);
        let kept = kept.filter(|_| !is_over).cloned().collect::<Vec<_>>();
        kept[kept.len().saturating_sub(RULES.size)..].to_vec()
    }

    /// It is used; what the log says tells the epoch of a stream that begins.
    fn used(&mut self, epoch: Epoch, now_ms: u64, epochs: &mut HashSet<Epoch>) {
        let is_over = self.used_ms + RULES.meta_ttl_ms <= now_ms;
        if self.epoch.is_none() || is_over {
            assert!(epochs.insert(epoch), "an epoch that was there before");
            *self = Self {
                epoch: Some(epoch),
                keys: std::mem::take(&mut self.keys),
                ..Self::default()
            };
        }
        assert_eq!(self.epoch, Some(epoch), "the epoch stays");
        self.used_ms = now_ms;
    }

    fn position(since: (u64, u8), epochs: &[String]) -> (u64, String) {
        let (offset, which) = since;
        let epoch = match which {
            0 => String::new(),
            1 => "unknownX".to_owned(),
            which => epochs[which as usize % epochs.len()].clone(),
        };
        (offset, epoch)
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let channel = || 0..CHANNELS;
    let key = prop::option::weighted(0.2, 0..4u8);
    let version = prop_oneof![4 => Just(0u64), 1 => 1..9u64];
    let append = (channel(), any::<u16>(), key, version, prop::bool::weighted(0.95));
    let since = || (0..14u64, 0..5u8);
    let mode = prop_oneof![3 => Just(RecoveryMode::Stream), 1 => Just(RecoveryMode::Cache)];
    let step = prop_oneof![
        8 => append.prop_map(|(channel, data, key, version, is_kept)| {
            Step::Append { channel, data, key, version, is_kept }
        }),
        4 => (channel(), prop::option::of(since()), -1..5i64, any::<bool>()).prop_map(
            |(channel, since, limit, is_reverse)| Step::Read { channel, since, limit, is_reverse }
        ),
        6 => (channel(), since(), 1..8usize, mode).prop_map(
            |(channel, since, publications_max, mode)| {
                Step::Recover { channel, since, publications_max, mode }
            }
        ),
        1 => channel().prop_map(|channel| Step::Remove { channel }),
        1 => channel().prop_map(|channel| Step::TellInFull { channel }),
        3 => prop_oneof![
            0..40u64,
            0..900u64,
            0..200_000u64,
            Just(RULES.ttl_ms),
            Just(RULES.meta_ttl_ms),
        ]
            .prop_map(|time_ms| Step::Wait { time_ms }),
        1 => (0..6usize).prop_map(|budget| Step::Advance { budget }),
        1 => (0..3000usize).prop_map(|bytes| Step::HandOver { bytes }),
    ];
    prop::collection::vec(step, 0..120)
}

/// A log and what is known of it.
struct Bench {
    log: Log,
    names: Vec<Arc<str>>,
    naive: Vec<Naive>,
    epochs: HashSet<Epoch>,
    /// Processes that there were.
    processes: u64,
    now_ms: u64,
}

impl Bench {
    fn new() -> Self {
        let names = (0..CHANNELS).map(|number| format!("channel{number}").into()).collect();
        let naive = vec![Naive::default(); CHANNELS];
        let log = Log::new(1 << 30, 1);
        Self { log, names, naive, epochs: HashSet::new(), processes: 1, now_ms: 1000 }
    }

    /// The epochs that clients may know of a channel: its own, and the one before.
    fn known(&self, channel: usize) -> Vec<String> {
        let other = &self.naive[(channel + 1) % CHANNELS];
        let own = &self.naive[channel];
        let texts = [own.epoch, own.epoch, other.epoch].into_iter().flatten();
        let mut texts: Vec<_> = texts.map(|epoch| epoch.as_str().to_owned()).collect();
        texts.push("otherone".to_owned());
        texts
    }

    fn take(&mut self, step: &Step) {
        let (now_ms, names) = (self.now_ms, self.names.clone());
        match step.clone() {
            Step::Append { channel, data, key, version, is_kept } => {
                self.append(channel, data, key, version, is_kept);
            }
            Step::Read { channel, since, limit, is_reverse } => {
                self.read(channel, since, limit, is_reverse);
            }
            Step::Recover { channel, since, publications_max, mode } => {
                self.recover(channel, since, publications_max, mode);
            }
            Step::TellInFull { channel } => {
                self.log.tell_next_in_full(&self.names[channel].clone());
                self.naive[channel].last_seen = None;
            }
            Step::Remove { channel } => {
                let naive = &mut self.naive[channel];
                self.log.remove_history(&names[channel]);
                naive.kept_from = naive.top() + 1;
            }
            Step::Wait { time_ms } => self.now_ms += time_ms,
            Step::Advance { budget } => {
                let left = self.log.advance(now_ms, budget);
                assert!(left <= budget);
                if left > 0 {
                    assert!(self.log.next_deadline_ms().is_none_or(|due_ms| due_ms > now_ms));
                }
            }
            Step::HandOver { bytes } => self.hand_over(bytes),
        }
    }

    /// Another process goes on, which gets it by parts.
    fn hand_over(&mut self, bytes: usize) {
        let now_ms = self.now_ms;
        self.log.seal();
        let (entry, options) = (Publication::default(), AppendOptions::default());
        assert!(self.log.append(&self.names[0], entry, &RULES, now_ms, options).is_err());
        self.processes += 1;
        let mut successor = Log::new(1 << 30, self.processes << 32);
        loop {
            let Part { streams, keys, is_last } = self.log.next_part(bytes, now_ms);
            streams.into_iter().for_each(|it| assert!(successor.import(it, now_ms)));
            keys.iter().for_each(|it| successor.import_key(it, now_ms));
            if is_last {
                break;
            }
        }
        // What has ended is not passed on; all else takes there what it takes here.
        self.log.unseal();
        self.log.advance(now_ms, usize::MAX);
        assert_eq!(successor.held_bytes(), self.log.held_bytes());
        self.log = successor;
    }

    fn append(&mut self, channel: usize, data: u16, key: Option<u8>, version: u64, is_kept: bool) {
        let (now_ms, rules) = (self.now_ms, if is_kept { RULES } else { NOTHING_KEPT });
        let data = vec![data as u8; usize::from(data >> 8)];
        let text = key.map(|key| key.to_string());
        let idempotency_key = text.as_deref();
        let options = AppendOptions { idempotency_key, version, version_epoch: "" };
        let entry = Publication { data: data.clone().into(), ..Publication::default() };
        let appended = self.log.append(&self.names[channel], entry, &rules, now_ms, options);
        let appended = appended.expect("not sealed");
        let head = Head { offset: appended.offset, epoch: appended.epoch };
        let naive = &mut self.naive[channel];
        naive.keys.retain(|(_, end_ms, _)| *end_ms > now_ms);
        if let Some((_, _, first)) = naive.keys.iter().find(|(other, ..)| Some(*other) == key) {
            assert!(!appended.is_new() && *first == head);
            return;
        }
        naive.keys.extend(key.map(|key| (key, now_ms + keys::LIFETIME_MS, head)));
        if !is_kept {
            assert!(appended.is_new() && appended.previous.is_none());
            assert_eq!(head, Head { offset: 0, epoch: Epoch::NONE });
            naive.last_seen = None;
            return;
        }
        naive.used(head.epoch, now_ms, &mut self.epochs);
        if version > 0 && version <= naive.version {
            assert!(!appended.is_new() && head.offset == naive.top());
            return;
        }
        naive.version = if version > 0 { version } else { naive.version };
        let publication = appended.publication.expect("new");
        assert_eq!(head.offset, naive.top() + 1);
        assert_eq!((publication.offset, publication.data.to_vec()), (head.offset, data.clone()));
        let previous = naive.kept(now_ms).last().map(|entry| entry.offset);
        let previous = previous.filter(|offset| naive.last_seen == Some(*offset));
        assert_eq!(appended.previous.map(|previous| previous.offset), previous);
        let kept = naive.kept(now_ms);
        naive.kept_from = kept.first().map_or(head.offset, |entry| entry.offset);
        naive.published.push(Entry { offset: head.offset, data });
        naive.published_ms = now_ms;
        naive.last_seen = Some(head.offset);
    }

    fn read(&mut self, channel: usize, since: Option<(u64, u8)>, limit: i64, is_reverse: bool) {
        let (now_ms, known) = (self.now_ms, self.known(channel));
        let since = since.map(|since| Naive::position(since, &known));
        let position = since.as_ref().map(|(offset, epoch)| Position { offset: *offset, epoch });
        let request = ReadRequest { since: position, limit, is_reverse };
        let name = self.names[channel].clone();
        let history = self.log.read(&name, request, READ_MAX, &RULES, now_ms);
        if is_reverse && position.is_some_and(|since| since.offset == 0) {
            assert_eq!(history, Err(ReadError::BadRequest));
            return;
        }
        let epoch = self.log.position(&name, &RULES, now_ms).epoch;
        let naive = &mut self.naive[channel];
        naive.used(epoch, now_ms, &mut self.epochs);
        if position.is_some_and(|since| !["", epoch.as_str()].contains(&since.epoch)) {
            assert_eq!(history, Err(ReadError::Unrecoverable));
            return;
        }
        let mut expected = naive.kept(now_ms);
        if is_reverse {
            expected.reverse();
        }
        if let Some(since) = position {
            let is_past = since.offset > naive.top();
            expected.retain(|entry| match is_reverse {
                false => entry.offset > since.offset,
                true => entry.offset < since.offset && !is_past,
            });
        }
        expected.truncate(if limit < 0 { READ_MAX } else { READ_MAX.min(limit as usize) });
        let history = history.expect("nothing is wrong");
        assert_eq!((history.offset, history.epoch), (naive.top(), epoch));
        assert_same(&history.publications, &expected);
    }

    fn recover(&mut self, channel: usize, since: (u64, u8), most: usize, mode: RecoveryMode) {
        let (now_ms, known) = (self.now_ms, self.known(channel));
        let (offset, text) = Naive::position(since, &known);
        let since = Position { offset, epoch: &text };
        let name = self.names[channel].clone();
        let recovered = self.log.recover(&name, since, most, mode, &RULES, now_ms);
        let naive = &mut self.naive[channel];
        naive.used(recovered.epoch, now_ms, &mut self.epochs);
        let (top, kept) = (naive.top(), naive.kept(now_ms));
        let is_epoch = text == recovered.epoch.as_str();
        let missed: Vec<_> =
            naive.published.iter().filter(|entry| entry.offset > offset).cloned().collect();
        let are_kept = missed.iter().all(|one| kept.iter().any(|it| it.offset == one.offset));
        match mode {
            RecoveryMode::Stream => {
                let is_whole = are_kept && missed.len() <= most && offset <= top;
                assert_eq!(recovered.is_recovered, (is_epoch || text.is_empty()) && is_whole);
                let expected = if recovered.is_recovered { missed } else { Vec::new() };
                assert_same(&recovered.publications, &expected);
                assert_eq!(recovered.offset, if recovered.is_recovered { offset } else { top });
            }
            RecoveryMode::Cache => {
                let is_there = is_epoch && offset == top;
                assert_eq!(recovered.is_recovered, !kept.is_empty() || is_there);
                let newest = if is_there { None } else { kept.last().cloned() };
                assert_same(&recovered.publications, newest.as_slice());
                assert_eq!(recovered.offset, top);
            }
        }
    }
}

fn assert_same(publications: &[Arc<Publication>], expected: &[Entry]) {
    let told = |publication: &Arc<Publication>| (publication.offset, publication.data.to_vec());
    let told: Vec<_> = publications.iter().map(told).collect();
    let expected: Vec<_> = expected.iter().map(|it| (it.offset, it.data.clone())).collect();
    assert_eq!(told, expected);
}

proptest! {
    #[test]
    fn the_log_says_what_the_naive_one_says(steps in steps()) {
        let mut bench = Bench::new();
        steps.iter().for_each(|step| bench.take(step));
        // In the end nothing is left that nobody uses.
        bench.log.advance(u64::MAX - 1, usize::MAX);
        prop_assert_eq!((bench.log.held_bytes(), bench.log.streams_len()), (0, 0));
        prop_assert_eq!(bench.log.next_deadline_ms(), None);
    }

    /// With too little memory nobody can say what is kept; but nothing is called complete that is
    /// not, and nothing is told twice.
    #[test]
    fn without_memory_nothing_is_wrong(steps in steps(), memory_bytes_max in 0..6000usize) {
        let mut log = Log::new(memory_bytes_max, 3);
        let names: Vec<Arc<str>> = (0..CHANNELS).map(|number| number.to_string().into()).collect();
        let mut heads = [Head { offset: 0, epoch: Epoch::NONE }; CHANNELS];
        let mut published: HashMap<(usize, Epoch), Vec<Entry>> = HashMap::new();
        let mut now_ms = 0;
        for step in steps {
            match step {
                Step::Append { channel, data, .. } => {
                    let data = vec![data as u8; usize::from(data >> 8)];
                    let entry = Publication { data: data.clone().into(), ..Publication::default() };
                    let options = AppendOptions::default();
                    let appended = log.append(&names[channel], entry, &RULES, now_ms, options);
                    let appended = appended.expect("not sealed");
                    let all = published.entry((channel, appended.epoch)).or_default();
                    prop_assert_eq!(appended.offset, all.len() as u64 + 1);
                    all.push(Entry { offset: appended.offset, data });
                    heads[channel] = Head { offset: appended.offset, epoch: appended.epoch };
                }
                Step::Recover { channel, since: (back, _), publications_max, .. } => {
                    let Head { offset, epoch } = heads[channel];
                    let offset = offset.saturating_sub(back);
                    let since = Position { offset, epoch: epoch.as_str() };
                    let (name, mode) = (&names[channel], RecoveryMode::Stream);
                    let recovered =
                        log.recover(name, since, publications_max, mode, &RULES, now_ms);
                    let all = published.get(&(channel, epoch)).map_or(&[][..], Vec::as_slice);
                    let missed: Vec<_> =
                        all.iter().filter(|entry| entry.offset > offset).cloned().collect();
                    let expected = if recovered.is_recovered { missed } else { Vec::new() };
                    assert_same(&recovered.publications, &expected);
                }
                Step::Wait { time_ms } => now_ms += time_ms,
                Step::Advance { budget } => {
                    log.advance(now_ms, budget);
                }
                _ => {}
            }
            let is_one = log.streams_len() == 1;
            prop_assert!(log.held_bytes() <= memory_bytes_max || is_one);
        }
        log.advance(u64::MAX - 1, usize::MAX);
        prop_assert_eq!(log.held_bytes(), 0);
    }
}

#[test]
fn the_least_recently_used_stream_goes_first_and_returns_with_another_epoch() {
    let mut log = Log::new(40_000, 5);
    let names: Vec<Arc<str>> = (0..4).map(|number| number.to_string().into()).collect();
    let publish = |log: &mut Log, channel: usize| {
        let entry = Publication { data: vec![0; 9000].into(), ..Publication::default() };
        let options = AppendOptions::default();
        log.append(&names[channel], entry, &RULES, 0, options).expect("not sealed")
    };
    let first = (0..4).map(|channel| publish(&mut log, channel).epoch).collect::<Vec<_>>();
    assert_eq!(log.streams_len(), 4);
    let since = Position { offset: 1, epoch: first[0].as_str() };
    assert!(log.recover(&names[0], since, 9, RecoveryMode::Stream, &RULES, 0).is_recovered);
    publish(&mut log, 0);
    assert_eq!(log.streams_len(), 3);
    let epochs: Vec<_> =
        [2, 3, 0, 1].map(|channel| log.position(&names[channel], &RULES, 0).epoch).to_vec();
    assert_eq!(epochs[..3], [first[2], first[3], first[0]]);
    assert_ne!(epochs[3], first[1]);
    assert!(log.held_bytes() <= 40_000);
}

#[test]
fn a_stream_that_is_too_large_alone_loses_its_head() {
    let (mut log, name) = (Log::new(5000, 5), Arc::<str>::from("a"));
    for offset in 1..=9 {
        let entry = Publication { data: vec![0; 1000].into(), ..Publication::default() };
        let options = AppendOptions::default();
        let appended = log.append(&name, entry, &RULES, 0, options).expect("not sealed");
        assert_eq!(appended.offset, offset);
        assert!(log.held_bytes() <= 5000);
    }
    let mut recover = |offset| {
        let since = Position { offset, epoch: "" };
        log.recover(&name, since, 9, RecoveryMode::Stream, &RULES, 0).is_recovered
    };
    assert!(recover(9) && recover(7) && !recover(2));
}

#[test]
fn versions_are_compared_within_their_epoch() {
    let (mut log, name) = (Log::new(1 << 20, 5), Arc::<str>::from("a"));
    let mut publish = |version, version_epoch| {
        let options = AppendOptions { version, version_epoch, ..AppendOptions::default() };
        let entry = Publication::default();
        log.append(&name, entry, &RULES, 0, options).expect("not sealed").is_new()
    };
    assert!(publish(5, "x") && !publish(5, "x") && !publish(4, "x") && publish(6, "x"));
    assert!(publish(0, "") && publish(1, "y") && !publish(1, "y") && publish(2, "x"));
}

/// What is used or forgotten meanwhile changes neither what comes next nor that there is an end.
#[test]
fn a_log_is_told_whatever_is_read_of_it_meanwhile() {
    let mut log = Log::new(40_000, 5);
    let names: Vec<Arc<str>> = (0..9).map(|number| number.to_string().into()).collect();
    let publish = |log: &mut Log, channel: usize, bytes: usize| {
        let entry = Publication { data: vec![0; bytes].into(), ..Publication::default() };
        log.append(&names[channel], entry, &RULES, 0, AppendOptions::default())
    };
    for (channel, bytes) in [(0, 12_000), (1, 12_000), (2, 12_000), (3, 10)] {
        publish(&mut log, channel, bytes).expect("not sealed");
    }
    log.seal();
    assert!(publish(&mut log, 0, 1).is_err());
    let mut told = Vec::new();
    for number in 0.. {
        // The first is used, the one that comes next is forgotten, and others begin.
        log.position(&names[0], &RULES, 0);
        (4..=8).filter(|_| number == 1).for_each(|new| {
            log.position(&names[new], &RULES, 0);
        });
        if number == 1 {
            log.forget(log.places[&names[1]]);
        }
        let part = log.next_part(0, 0);
        told.extend(part.streams.into_iter().map(|it| it.channel.to_string()));
        if part.is_last {
            break;
        }
    }
    assert_eq!(told, ["0", "2", "3", "4", "5", "6", "7", "8"]);
    log.unseal();
    publish(&mut log, 0, 1).expect("not sealed any more");
    assert!(log.next_part(9999, 0) == Part { is_last: true, ..Part::default() });
}

#[test]
fn a_stream_that_was_taken_over_has_no_gap() {
    let publication = |offset| Arc::new(Publication { offset, ..Publication::default() });
    let record = |publications: &[u64], offset| StreamRecord {
        channel: "a".into(),
        head: Head { offset, epoch: Epoch::NONE },
        publications: publications.iter().map(|offset| publication(*offset)).collect(),
        list_left_ms: 100,
        left_ms: 100,
        version: 0,
        version_epoch: Box::default(),
        is_passed: false,
    };
    let kept = |publications: &[u64], offset| {
        let mut log = Log::new(1 << 20, 5);
        assert!(log.import(record(publications, offset), 0));
        assert!(!log.import(record(publications, offset), 0));
        let request = ReadRequest { since: None, limit: -1, is_reverse: false };
        let history = log.read(&"a".into(), request, 99, &RULES, 0).expect("nothing is wrong");
        history.publications.iter().map(|publication| publication.offset).collect::<Vec<_>>()
    };
    assert_eq!(kept(&[3, 4, 5], 5), [3, 4, 5]);
    assert_eq!(kept(&[2, 4, 5], 5), [4, 5]);
    assert!(kept(&[3, 4], 5).is_empty() && kept(&[0], 0).is_empty() && kept(&[], 7).is_empty());
}

const CHANNELS: usize = 3;
const READ_MAX: usize = 4;
const RULES: HistoryRules = HistoryRules { size: 5, ttl_ms: 500, meta_ttl_ms: 100_000 };
const NOTHING_KEPT: HistoryRules = HistoryRules { size: 0, ..RULES };
