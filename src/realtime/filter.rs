//! Which publications of a channel a subscriber wants, by their tags.
//!
//! A filter decides about a message, and never changes it: those who get it share its bytes.

mod decimal;

use std::collections::BTreeMap;

use self::decimal::Decimal;
use super::protocol::{self, FilterNode, Malformed};

/// A filter that means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    node: Node,
    text: Box<str>,
}

/// What the application says of a publication, by names.
pub type Tags = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Tag { key: Box<str>, test: Test },
    All(Box<[Node]>),
    Any(Box<[Node]>),
    Not(Box<Node>),
}

/// What must hold for the value of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Equals(Box<str>),
    /// One of these. A tag that is not there counts as empty.
    In(Box<[Box<str>]>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    Greater(Box<str>),
    GreaterOrEqual(Box<str>),
    Less(Box<str>),
    LessOrEqual(Box<str>),
}

impl Filter {
    /// Checks the filter of a client: each node must have what its operator needs and nothing that
    /// this operator ignores, and there may be [`NODES_MAX`] of [`TEXT_BYTES_MAX`] as JSON.
    ///
    /// # Errors
    /// [`Malformed::Filter`], which says what is wrong.
    pub fn new(node: &FilterNode) -> Result<Self, Malformed> {
        let mut left = NODES_MAX;
        let text = protocol::filter_text(node);
        if text.len() > TEXT_BYTES_MAX {
            return Err(Malformed::Filter("it is too long"));
        }
        let node = read(node, &mut left).map_err(Malformed::Filter)?;
        Ok(Self { node, text: text.into() })
    }

    /// Reads what another one [says](Self::text); nothing of anything else.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().and_then(|node| Self::new(&node).ok())
    }

    /// What it says, as JSON. Filters that say the same are equal; they may be it as well that do
    /// not.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a publication with these tags is wanted.
    pub fn matches(&self, tags: &Tags) -> bool {
        self.node.matches(tags)
    }
}

impl Node {
    fn matches(&self, tags: &Tags) -> bool {
        match self {
            Self::Tag { key, test } => test.holds(tags.get(&**key).map(String::as_str)),
            Self::All(nodes) => nodes.iter().all(|node| node.matches(tags)),
            Self::Any(nodes) => nodes.iter().any(|node| node.matches(tags)),
            Self::Not(node) => !node.matches(tags),
        }
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        if let Self::In(wanted) = self {
            return wanted.iter().any(|wanted| **wanted == *value.unwrap_or_default());
        }
        let Some(value) = value else { return false };
        // What is no number is neither less nor greater.
        let order = |wanted| Decimal::parse(value)?.partial_cmp(&Decimal::parse(wanted)?);
        match self {
            Self::Exists | Self::In(_) => true,
            Self::Equals(wanted) => *value == **wanted,
            Self::StartsWith(wanted) => value.starts_with(&**wanted),
            Self::EndsWith(wanted) => value.ends_with(&**wanted),
            Self::Contains(wanted) => value.contains(&**wanted),
            Self::Greater(wanted) => order(wanted).is_some_and(|order| order.is_gt()),
            Self::GreaterOrEqual(wanted) => order(wanted).is_some_and(|order| order.is_ge()),
            Self::Less(wanted) => order(wanted).is_some_and(|order| order.is_lt()),
            Self::LessOrEqual(wanted) => order(wanted).is_some_and(|order| order.is_le()),
        }
    }
}

/// A node and those below it, of which there may be `left`.
fn read(node: &FilterNode, left: &mut usize) -> Result<Node, &'static str> {
    *left = left.checked_sub(1).ok_or("it has too many nodes")?;
    let mut below = || node.nodes.iter().map(|node| read(node, left)).collect::<Result<_, _>>();
    match &*node.op {
        "" => read_comparison(node),
        "and" | "or" if node.nodes.is_empty() => Err("and, or need at least one node"),
        "and" => Ok(Node::All(below()?)),
        "or" => Ok(Node::Any(below()?)),
        "not" => match &node.nodes[..] {
            [node] => Ok(Node::Not(Box::new(read(node, left)?))),
            _ => Err("not needs one node"),
        },
        _ => Err("op must be and, or, not, or empty"),
    }
}

fn read_comparison(node: &FilterNode) -> Result<Node, &'static str> {
    let with_value = |test: fn(Box<str>) -> Test| match (&*node.val, &node.vals[..]) {
        ("", _) => Err("this comparison needs val"),
        (value, []) => Ok(test(value.into())),
        _ => Err("this comparison has no vals"),
    };
    let with_values = || match (&*node.val, &node.vals[..]) {
        (_, []) => Err("this comparison needs vals"),
        ("", values) => Ok(Test::In(values.iter().map(|value| value.as_str().into()).collect())),
        _ => Err("this comparison has no val"),
    };
    let without_value = || match (&*node.val, &node.vals[..]) {
        ("", []) => Ok(Test::Exists),
        _ => Err("this comparison has neither val nor vals"),
    };
    let test = match &*node.cmp {
        "eq" | "neq" => with_value(Test::Equals),
        "sw" => with_value(Test::StartsWith),
        "ew" => with_value(Test::EndsWith),
        "ct" => with_value(Test::Contains),
        "gt" => with_value(Test::Greater),
        "gte" => with_value(Test::GreaterOrEqual),
        "lt" => with_value(Test::Less),
        "lte" => with_value(Test::LessOrEqual),
        "in" | "nin" => with_values(),
        "ex" | "nex" => without_value(),
        _ => Err("cmp must be eq, neq, in, nin, ex, nex, sw, ew, ct, gt, gte, lt or lte"),
    }?;
    if node.key.is_empty() && test != Test::Exists {
        return Err("this comparison needs key");
    }
    let comparison = Node::Tag { key: node.key.as_str().into(), test };
    let is_negated = matches!(&*node.cmp, "neq" | "nin" | "nex");
    Ok(if is_negated { Node::Not(Box::new(comparison)) } else { comparison })
}

/// The most nodes that a filter may have: each publication pays for them, for each such filter.
pub const NODES_MAX: usize = 64;
/// Bytes that it may take as JSON, for the same reason, and as a shard keeps them.
pub const TEXT_BYTES_MAX: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(json: &str) -> FilterNode {
        serde_json::from_str(json).expect("a node")
    }

    fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn comparisons_hold_as_the_protocol_says() {
        let given = tags(&[("a", "apple"), ("n", "10"), ("empty", "")]);
        for (comparison, expected) in [
            (r#""key":"a","cmp":"eq","val":"apple""#, true),
            (r#""key":"a","cmp":"eq","val":"Apple""#, false),
            (r#""key":"b","cmp":"eq","val":"apple""#, false),
            (r#""key":"a","cmp":"neq","val":"apple""#, false),
            (r#""key":"b","cmp":"neq","val":"apple""#, true),
            (r#""key":"a","cmp":"in","vals":["pear","apple"]"#, true),
            (r#""key":"a","cmp":"in","vals":["pear"]"#, false),
            (r#""key":"b","cmp":"in","vals":["pear"]"#, false),
            (r#""key":"b","cmp":"in","vals":[""]"#, true),
            (r#""key":"a","cmp":"nin","vals":["pear"]"#, true),
            (r#""key":"b","cmp":"nin","vals":["pear"]"#, true),
            (r#""key":"a","cmp":"ex""#, true),
            (r#""key":"empty","cmp":"ex""#, true),
            (r#""key":"b","cmp":"ex""#, false),
            (r#""key":"a","cmp":"nex""#, false),
            (r#""key":"b","cmp":"nex""#, true),
            (r#""cmp":"nex""#, true),
            (r#""key":"a","cmp":"sw","val":"app""#, true),
            (r#""key":"a","cmp":"sw","val":"le""#, false),
            (r#""key":"a","cmp":"ew","val":"le""#, true),
            (r#""key":"b","cmp":"ew","val":"le""#, false),
            (r#""key":"a","cmp":"ct","val":"ppl""#, true),
            (r#""key":"a","cmp":"ct","val":"x""#, false),
            (r#""key":"n","cmp":"gt","val":"9.5""#, true),
            (r#""key":"n","cmp":"gt","val":"10""#, false),
            (r#""key":"n","cmp":"gte","val":"10.0""#, true),
            (r#""key":"n","cmp":"lt","val":"9""#, false),
            (r#""key":"n","cmp":"lt","val":"11""#, true),
            (r#""key":"n","cmp":"lte","val":"10""#, true),
            (r#""key":"n","cmp":"lte","val":"ten""#, false),
            (r#""key":"a","cmp":"lt","val":"1""#, false),
            (r#""key":"b","cmp":"gt","val":"1""#, false),
        ] {
            let filter = Filter::new(&node(&format!("{{{comparison}}}"))).expect("a filter");
            assert_eq!(filter.matches(&given), expected, "{comparison}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for json in [
            r#"{}"#,
            r#"{"op":"xor","nodes":[{"key":"a","cmp":"ex"}]}"#,
            r#"{"op":"AND","nodes":[{"key":"a","cmp":"ex"}]}"#,
            r#"{"op":"and"}"#,
            r#"{"op":"or","nodes":[]}"#,
            r#"{"op":"not"}"#,
            r#"{"op":"not","nodes":[{"key":"a","cmp":"ex"},{"key":"a","cmp":"ex"}]}"#,
            r#"{"op":"and","nodes":[{}]}"#,
            r#"{"key":"a"}"#,
            r#"{"key":"a","cmp":"like","val":"x"}"#,
            r#"{"cmp":"eq","val":"x"}"#,
            r#"{"cmp":"in","vals":["x"]}"#,
            r#"{"key":"a","cmp":"eq"}"#,
            r#"{"key":"a","cmp":"eq","val":"x","vals":["y"]}"#,
            r#"{"key":"a","cmp":"in"}"#,
            r#"{"key":"a","cmp":"in","val":"x","vals":["y"]}"#,
            r#"{"key":"a","cmp":"nin","val":"x"}"#,
            r#"{"key":"a","cmp":"ex","val":"x"}"#,
            r#"{"key":"a","cmp":"nex","vals":["x"]}"#,
        ] {
            let result = Filter::new(&node(json));
            assert!(matches!(result, Err(Malformed::Filter(_))), "{json}");
        }
    }

    #[test]
    fn nodes_are_counted_wide_and_deep() {
        let leaf = FilterNode { key: "a".into(), cmp: "ex".into(), ..FilterNode::default() };
        let all = |nodes| FilterNode { op: "and".into(), nodes, ..FilterNode::default() };
        let not = |node| FilterNode { op: "not".into(), nodes: vec![node], ..Default::default() };
        let deep = |nots| (0..nots).fold(leaf.clone(), |node, _| not(node));
        assert!(Filter::new(&all(vec![leaf.clone(); NODES_MAX - 1])).is_ok());
        assert!(Filter::new(&all(vec![leaf.clone(); NODES_MAX])).is_err());
        assert!(Filter::new(&all(vec![all(vec![leaf.clone(); 32]); 2])).is_err());
        let filter = Filter::new(&deep(NODES_MAX - 1)).expect("as deep as may be");
        assert!(!filter.matches(&tags(&[("a", "")])) && filter.matches(&tags(&[])));
        assert!(Filter::new(&deep(NODES_MAX)).is_err());
        assert!(Filter::new(&deep(90)).is_err());
    }

    #[test]
    fn a_filter_is_what_it_says() {
        let text = r#"{"op":"or","nodes":[{"key":"a\u0001","cmp":"ex"},
            {"key":"b","cmp":"nin","vals":["\"","\u00e9"]}]}"#;
        let filter = Filter::new(&node(text)).expect("a filter");
        assert_eq!(Filter::read(filter.text()), Some(filter.clone()));
        assert!(!filter.text().contains(char::is_control));
        assert_eq!(Filter::read("{}"), None);
        let long =
            FilterNode { val: "x".repeat(TEXT_BYTES_MAX), ..node(r#"{"key":"a","cmp":"eq"}"#) };
        assert!(Filter::new(&long).is_err());
    }

    /// Filters over two tags, and what they are to say by the letter of the protocol.
    fn any_node() -> impl Strategy<Value = FilterNode> {
        let leaf = ("[ab]", "[xy]", prop::sample::select(vec!["eq", "neq", "ex", "nex"]));
        let leaf = leaf.prop_map(|(key, value, cmp)| {
            let val = if cmp.ends_with("eq") { value } else { String::new() };
            FilterNode { key, cmp: cmp.to_owned(), val, ..FilterNode::default() }
        });
        leaf.prop_recursive(4, 24, 3, |node| {
            let joined = ("and|or", prop::collection::vec(node.clone(), 1..3));
            let joined =
                joined.prop_map(|(op, nodes)| FilterNode { op, nodes, ..FilterNode::default() });
            let negated = node.prop_map(|node| FilterNode {
                op: "not".to_owned(),
                nodes: vec![node],
                ..FilterNode::default()
            });
            prop_oneof![joined, negated]
        })
    }

    fn expect(node: &FilterNode, tags: &BTreeMap<String, String>) -> bool {
        let mut below = node.nodes.iter().map(|node| expect(node, tags));
        match (&*node.op, &*node.cmp) {
            ("and", _) => below.all(|holds| holds),
            ("or", _) => below.any(|holds| holds),
            ("not", _) => below.all(|holds| !holds),
            (_, "eq") => tags.get(&node.key) == Some(&node.val),
            (_, "neq") => tags.get(&node.key) != Some(&node.val),
            (_, "ex") => tags.contains_key(&node.key),
            (_, _) => !tags.contains_key(&node.key),
        }
    }

    proptest! {
        #[test]
        fn filters_say_what_their_nodes_say(
            node in any_node(),
            tags in prop::collection::btree_map("[abc]", "[xy]", 0..3),
        ) {
            let filter = Filter::new(&node).expect("few nodes that mean something");
            prop_assert_eq!(filter.matches(&tags), expect(&node, &tags));
        }
    }
}
