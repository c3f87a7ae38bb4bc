//! Messages between client and vault, which cross as blocks: opened by whoever has the link's key, so not by strangers, but by
//! a peer that may have become one.
//!
//! What is read must come out the same when it is written and read again.

use lavatube_format::agent;
use lavatube_format::message::Message;
use lavatube_format::pair_line::read_answer;
use lavatube_fuzz::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let turn = Message::turn(bytes);
    if let Ok(message) = Message::decode(bytes) {
        let written = message.encode(turn);
        assert_eq!(Message::decode(&written).as_ref(), Ok(&message));
    }
    let _ = read_answer(bytes);
    let _ = (agent::Request::decode(bytes), agent::Reply::decode(bytes));
});
