//! Messages of TCPCLv4: as RFC 9174 draws them, back as values, and from any bytes without a panic.

use super::*;
use proptest::prelude::*;

/// Reads the one message in `bytes`.
fn read(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let len = head_len(bytes)?.expect("whole");
    assert_eq!(len, bytes.len());
    Message::decode(bytes)
}

fn made(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out);
    out
}

#[test]
fn messages_are_those_of_the_rfc() {
    assert_eq!(made(put_contact), *b"dtn!\x04\x00");
    let init =
        Init { keepalive_s: 60, segment_mru: 0x1_0000, transfer_mru: 0x400_0000, node: "ipn:2.0", strange: false };
    let expected = b"\x07\x00\x3c\0\0\0\0\0\x01\0\0\0\0\0\0\x04\0\0\0\x00\x07ipn:2.0\0\0\0\0";
    assert_eq!(made(|out| put_init(out, &init)), expected);
    let first = b"\x01\x03\0\0\0\0\0\0\0\x05\0\0\0\x0d\0\0\x01\0\x08\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x02ab";
    assert_eq!(made(|out| put_segment(out, 5, Some(2), true, b"ab")), first);
    assert_eq!(made(|out| put_segment(out, 5, None, false, b"a")), *b"\x01\x00\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x01a");
    assert_eq!(made(|out| put_ack(out, true, false, 5, 9)), *b"\x02\x02\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x09");
    assert_eq!(made(|out| put_refuse(out, 5, Refusal::NoResources)), *b"\x03\x02\0\0\0\0\0\0\0\x05");
    assert_eq!(made(put_keepalive), *b"\x04");
    assert_eq!(made(|out| put_end(out, true, EndReason::Contact)), *b"\x05\x01\x04");
    assert_eq!(made(|out| put_reject(out, REJECT_UNEXPECTED, 1)), *b"\x06\x03\x01");
}

#[test]
fn an_extension_that_must_be_understood_is_told() {
    let with = |flags: u8, kind: u8, len: u8| {
        let mut bytes = vec![1, 2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 5 + len, flags, 0, kind, 0, len];
        bytes.resize(bytes.len() + usize::from(len), 0);
        bytes.extend_from_slice(&[0; 8]);
        match read(&bytes).unwrap() {
            Message::Segment(segment) => (segment.whole, segment.strange),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(with(1, 1, 8), (Some(0), false));
    assert_eq!(with(1, 1, 7), (None, true));
    assert_eq!(with(1, 9, 3), (None, true));
    assert_eq!(with(0, 9, 3), (None, false));
}

#[test]
fn tcpcl_node_len_max_and_tcpcl_extensions_len_max() {
    let init = |node: usize, list: usize| {
        let mut bytes = vec![7; 19];
        bytes.extend_from_slice(&u16::try_from(node).unwrap().to_be_bytes());
        bytes.resize(bytes.len() + node, b'a');
        bytes.extend_from_slice(&u32::try_from(list).unwrap().to_be_bytes());
        head_len(&bytes)
    };
    assert_eq!(init(TCPCL_NODE_LEN_MAX, TCPCL_EXTENSIONS_LEN_MAX), Ok(Some(TCPCL_HEAD_LEN_MAX)));
    assert!(init(TCPCL_NODE_LEN_MAX + 1, 0).is_err());
    assert!(init(0, TCPCL_EXTENSIONS_LEN_MAX + 1).is_err());
    let segment = |list: usize| {
        let mut bytes = vec![1, 2, 0, 0, 0, 0, 0, 0, 0, 5];
        bytes.extend_from_slice(&u32::try_from(list).unwrap().to_be_bytes());
        head_len(&bytes)
    };
    assert!(segment(TCPCL_EXTENSIONS_LEN_MAX).is_ok() && segment(TCPCL_EXTENSIONS_LEN_MAX + 1).is_err());
}

#[test]
fn a_greeting_is_known_by_its_magic() {
    assert_eq!(Contact::decode(b"dtn!\x04\x01"), Ok(Contact { version: 4, can_tls: true }));
    assert_eq!(Contact::decode(b"dtn!\x03\x00"), Ok(Contact { version: 3, can_tls: false }));
    assert!(Contact::decode(b"GET / ").is_err());
}

proptest! {
    #[test]
    fn nothing_panics_and_a_head_is_told_as_soon_as_it_can_be(mut bytes in prop::collection::vec(any::<u8>(), 0..80), kind in 0..9u8) {
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        let told = head_len(&bytes);
        if let Ok(Some(len)) = told {
            prop_assert!(len <= TCPCL_HEAD_LEN_MAX);
            // More bytes do not change what was told.
            bytes.extend_from_slice(&[9; 9]);
            prop_assert_eq!(head_len(&bytes), Ok(Some(len)));
            if let Some(head) = bytes.get(..len) {
                let _ = Message::decode(head);
            }
        }
    }

    #[test]
    fn what_is_written_is_read(transfer: u64, len: u64, flags in any::<[bool; 2]>(), code: u8, node in "[ -~]{0,40}", n in any::<(u16, u64, u64)>()) {
        let [start, end] = flags;
        let bytes = made(|out| put_ack(out, start, end, transfer, len));
        prop_assert_eq!(read(&bytes).unwrap(), Message::Ack { start, end, transfer, len });
        let bytes = made(|out| put_refuse(out, transfer, Refusal::of(code)));
        prop_assert_eq!(read(&bytes).unwrap(), Message::Refuse { reason: Refusal::of(code), transfer });
        prop_assert_eq!((Refusal::of(code).code(), EndReason::of(code).code()), (code, code));
        let bytes = made(|out| put_end(out, start, EndReason::of(code)));
        prop_assert_eq!(read(&bytes).unwrap(), Message::End { reply: start, reason: EndReason::of(code) });
        let init = Init { keepalive_s: n.0, segment_mru: n.1, transfer_mru: n.2, node: &node, strange: false };
        let bytes = made(|out| put_init(out, &init));
        prop_assert_eq!(read(&bytes).unwrap(), Message::Init(init));
        let bytes = made(|out| put_segment(out, transfer, start.then_some(len), end, b""));
        let segment = Segment { start, end, transfer, whole: start.then_some(len), strange: false, len: 0 };
        prop_assert_eq!(read(&bytes).unwrap(), Message::Segment(segment));
    }
}
