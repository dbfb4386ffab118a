use super::*;
use bendy::encoding::{SingleItemEncoder, ToBencode};
use proptest::prelude::*;

fn read(input: &[u8]) -> Result<Document<'_>, BencodeError> {
    parse(input, &Limits::default())
}

fn fails(input: &[u8]) -> (usize, BencodeErrorKind) {
    let error = read(input).expect_err("must not be accepted");
    (error.offset, error.kind)
}

#[test]
fn values_know_their_type_and_span() {
    let document = read(b"d1:ai-7e1:bl2:xyi0ee1:cd0:de1:\xffleee").unwrap();
    let root = document.root();
    assert_eq!(root.get(b"a").unwrap().as_int(), Some(-7));
    let list: Vec<_> = root.get(b"b").unwrap().as_list().unwrap().iter().map(Value::raw).collect();
    assert_eq!(list, [&b"2:xy"[..], b"i0e"]);
    let inner = root.get(b"c").unwrap();
    assert_eq!(inner.raw(), b"d0:de1:\xfflee");
    assert_eq!(inner.offset(), 23);
    let keys: Vec<_> = inner.as_dict().unwrap().iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [&b""[..], b"\xff"]);
    assert!(root.get(b"d").is_none());
    assert!(root.get(b"a").unwrap().get(b"a").is_none());
    assert_eq!(document.unsorted_at(), None);
}

#[test]
fn a_wrong_type_is_none() {
    let document = read(b"l1:x1:\xffi1elee").unwrap();
    let [text, binary, int, list] =
        document.root().as_list().unwrap().iter().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((text.as_str(), binary.as_str(), int.as_str()), (Some("x"), None, None));
    assert_eq!((text.as_int(), list.as_int()), (None, None));
    assert!(int.as_bytes().is_none() && int.as_list().is_none() && list.as_dict().is_none());
}

#[test]
fn integers_fill_64_bits_and_no_more() {
    for (text, value) in [("i9223372036854775807e", i64::MAX), ("i-9223372036854775808e", i64::MIN)] {
        assert_eq!(read(text.as_bytes()).unwrap().root().as_int(), Some(value));
    }
    for text in ["i9223372036854775808e", "i-9223372036854775809e", "i99999999999999999999e"] {
        assert_eq!(read(text.as_bytes()).unwrap_err().kind, BencodeErrorKind::NumberOutOfRange);
    }
}

#[test]
fn errors_say_where() {
    use BencodeErrorKind::*;
    assert_eq!(fails(b""), (0, UnexpectedEnd));
    assert_eq!(fails(b"e"), (0, UnexpectedByte(b'e')));
    assert_eq!(fails(b"li1e"), (4, UnexpectedEnd));
    assert_eq!(fails(b"l5:abce"), (1, UnexpectedEnd));
    assert_eq!(fails(b"i1ei2e"), (3, TrailingData));
    assert_eq!(fails(b"i-0e"), (2, LeadingZero));
    assert_eq!(fails(b"i-03e"), (3, LeadingZero));
    assert_eq!(fails(b"i03e"), (2, LeadingZero));
    assert_eq!(fails(b"03:abc"), (1, LeadingZero));
    assert_eq!(fails(b"ie"), (1, UnexpectedByte(b'e')));
    assert_eq!(fails(b"i-e"), (2, UnexpectedByte(b'e')));
    assert_eq!(fails(b"i+1e"), (1, UnexpectedByte(b'+')));
    assert_eq!(fails(b"-1:a"), (0, UnexpectedByte(b'-')));
    assert_eq!(fails(b"1 :a"), (1, UnexpectedByte(b' ')));
    assert_eq!(fails(b"18446744073709551616:a"), (19, NumberOutOfRange));
    assert_eq!(fails(b"18446744073709551615:a"), (0, UnexpectedEnd));
    assert_eq!(fails(b"di1e1:ae"), (1, KeyNotBytes));
    assert_eq!(fails(b"d1:ae"), (4, KeyWithoutValue));
    assert_eq!(fails(b"d1:a1:b1:ce"), (10, KeyWithoutValue));
    assert_eq!(read(b"d1:ae").unwrap_err().to_string(), "dictionary key without a value at byte 4");
}

#[test]
fn unsorted_keys_are_remembered_and_duplicates_refused() {
    let document = read(b"d1:b1:x1:a1:y1:c1:ze").unwrap();
    assert_eq!(document.unsorted_at(), Some(7));
    assert_eq!(document.root().get(b"a").unwrap().as_str(), Some("y"));
    assert_eq!(fails(b"d1:a1:x1:a1:ye"), (7, BencodeErrorKind::DuplicateKey));
    // The second one is not beside the first.
    assert_eq!(fails(b"d1:b1:x1:a1:y1:bdee"), (13, BencodeErrorKind::DuplicateKey));
}

#[test]
fn limits_hold() {
    let limits = Limits { depth_max: 2, tokens_max: 4, input_len_max: 12 };
    let kind = |input: &[u8]| parse(input, &limits).map(|_| ()).map_err(|e| e.kind);
    assert_eq!(kind(b"llee"), Ok(()));
    assert_eq!(kind(b"llleee"), Err(BencodeErrorKind::TooDeep));
    assert_eq!(kind(b"l0:0:0:e"), Ok(()));
    assert_eq!(kind(b"l0:0:0:0:e"), Err(BencodeErrorKind::TooManyTokens));
    assert_eq!(kind(b"9:abcdefghij"), Err(BencodeErrorKind::TrailingData));
    assert_eq!(kind(b"10:abcdefghij"), Err(BencodeErrorKind::TooLong));
}

#[test]
fn hostile_nesting_costs_nothing() {
    let deep = vec![b'l'; 1 << 20];
    assert_eq!(read(&deep).unwrap_err().kind, BencodeErrorKind::TooDeep);
    let mut wide = vec![b'l'];
    wide.extend(b"le".repeat(TOKENS_MAX + 1));
    assert_eq!(read(&wide).unwrap_err().kind, BencodeErrorKind::TooManyTokens);
}

#[test]
fn a_prefix_leaves_the_rest() {
    let input = b"d8:msg_typei1eerest";
    let (document, used) = parse_prefix(input, &Limits::default()).unwrap();
    assert_eq!((&input[used..], document.root().raw()), (&b"rest"[..], &input[..used]));
    // The limit is on the value, not on what follows it.
    let limits = Limits { input_len_max: 15, ..Limits::default() };
    assert_eq!(parse_prefix(input, &limits).unwrap().1, 15);
    let limits = Limits { input_len_max: 14, ..Limits::default() };
    assert_eq!(parse_prefix(input, &limits).unwrap_err().kind, BencodeErrorKind::TooLong);
}

/// Any value, encoded by `bendy`.
#[derive(Clone, Debug)]
enum Tree {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Dict(std::collections::BTreeMap<Vec<u8>, Tree>),
}

impl ToBencode for Tree {
    const MAX_DEPTH: usize = 8;
    fn encode(&self, encoder: SingleItemEncoder<'_>) -> Result<(), bendy::encoding::Error> {
        match self {
            Tree::Int(int) => encoder.emit_int(*int),
            Tree::Bytes(bytes) => encoder.emit_bytes(bytes),
            Tree::List(list) => encoder.emit_list(|e| list.iter().try_for_each(|item| e.emit(item))),
            Tree::Dict(dict) => {
                encoder.emit_dict(|mut e| dict.iter().try_for_each(|(key, value)| e.emit_pair(key, value)))
            }
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Tree::Int),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Tree::Bytes),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
            prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..4), inner, 0..6)
                .prop_map(Tree::Dict),
        ]
    })
}

fn assert_same(value: Value<'_>, tree: &Tree) {
    match tree {
        Tree::Int(int) => assert_eq!(value.as_int(), Some(*int)),
        Tree::Bytes(bytes) => assert_eq!(value.as_bytes(), Some(&bytes[..])),
        Tree::List(list) => {
            let values: Vec<_> = value.as_list().expect("a list").iter().collect();
            assert_eq!(values.len(), list.len());
            values.into_iter().zip(list).for_each(|(value, tree)| assert_same(value, tree));
        }
        Tree::Dict(dict) => {
            let pairs: Vec<_> = value.as_dict().expect("a dictionary").iter().collect();
            assert_eq!(pairs.len(), dict.len());
            for ((key, value), (expected, tree)) in pairs.into_iter().zip(dict) {
                assert_eq!(key, expected);
                assert_same(value, tree);
            }
        }
    }
}

proptest! {
    #[test]
    fn reads_what_bendy_writes(tree in tree()) {
        let bytes = tree.to_bencode().unwrap();
        let document = read(&bytes).unwrap();
        prop_assert_eq!(document.root().raw(), &bytes[..]);
        prop_assert_eq!(document.unsorted_at(), None);
        assert_same(document.root(), &tree);
    }

    #[test]
    fn cutting_or_extending_is_an_error(tree in tree(), cut in any::<prop::sample::Index>(), more in any::<u8>()) {
        let mut bytes = tree.to_bencode().unwrap();
        prop_assert!(read(&bytes[..cut.index(bytes.len())]).is_err());
        bytes.push(more);
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(prop::sample::select(&b"ilde0123-:ab"[..]), 0..40)) {
        if let Ok(document) = read(&bytes) {
            prop_assert_eq!(document.root().raw(), &bytes[..]);
            walk(document.root());
        }
    }
}

/// Touches everything.
fn walk(value: Value<'_>) {
    match value.kind() {
        Kind::Int(_) | Kind::Bytes(_) => {}
        Kind::List(list) => list.iter().for_each(walk),
        Kind::Dict(dict) => dict.iter().for_each(|(key, inner)| {
            assert_eq!(dict.get(key).unwrap().offset(), inner.offset());
            walk(inner);
        }),
    }
}
