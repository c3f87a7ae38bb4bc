//! Native datagrams and the messages in them: as they come, before any tag is looked at, and as they are once it fits.
//!
//! What is read must come out the same when it is written and read again.

use lavatube_format::btpu::{Message, Messages, put_announce, put_cancel, put_echo, put_probe, put_report, put_symbol};
use lavatube_format::datagram::Datagram;
use lavatube_fuzz::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Datagram::decode(bytes);
    for message in Messages::new(bytes).flatten() {
        let mut out = Vec::new();
        match &message {
            Message::Symbol(symbol) => put_symbol(&mut out, *symbol),
            Message::Announce(announce) => put_announce(&mut out, announce),
            Message::Report(report) => put_report(&mut out, &report.tally, report.entries()),
            Message::Probe(transfers) => put_probe(&mut out, transfers.iter()),
            Message::Cancel { transfer } => put_cancel(&mut out, *transfer),
            Message::EchoRequest(nonce) => put_echo(&mut out, false, *nonce),
            Message::EchoReply(nonce) => put_echo(&mut out, true, *nonce),
            Message::Padding | Message::Foreign => continue,
        }
        let again = Messages::new(&out).next().expect("one was written").expect("it was read before");
        match (&message, &again) {
            // Entries that make no sense are left out.
            (Message::Report(one), Message::Report(other)) => {
                assert_eq!(one.tally, other.tally);
                assert!(one.entries().eq(other.entries()));
            }
            _ => assert_eq!(message, again),
        }
    }
});
