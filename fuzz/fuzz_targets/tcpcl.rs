//! TCPCL: messages as they are read, and a session at whose other end is a stranger.
//!
//! How the bytes are cut on their way must not change what arrives. How it ends may: nonsense
//! after the end is heard or not.

use std::time::Duration;

use lavatube_base::Instant;
use lavatube_format::tcpcl::{Message, head_len};
use lavatube_fuzz::fuzz_target;
use lavatube_link::tcpcl::{Config, Event, Session};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(len)) = head_len(bytes)
        && let Some(head) = bytes.get(..len)
    {
        let _ = Message::decode(head);
    }
    let Some((&first, rest)) = bytes.split_first() else { return };
    let whole = live(rest, rest.len().max(1), first);
    let cut = live(rest, 1 + usize::from(first >> 1) % 7, first);
    assert_eq!(whole, cut);
});

/// What opens and arrives when it is fed so many bytes at a time.
fn live(bytes: &[u8], at_a_time: usize, first: u8) -> Vec<Event> {
    let now = Instant(0);
    let config = Config { node: "ipn:1.0".into(), active: first & 1 == 1, keepalive_s: 10 };
    let (mut session, mut events, mut out) = (Session::new(config, now), Vec::new(), Vec::new());
    let _ = session.submit(1, vec![7; 100]);
    let mut held = Vec::new();
    for mut piece in bytes.chunks(at_a_time) {
        while !piece.is_empty() {
            piece = &piece[session.handle_bytes(piece, now)..];
            while let Some(event) = session.poll_event() {
                if let Event::Received { transfer, .. } = &event {
                    held.push(*transfer);
                }
                if matches!(event, Event::Opened { .. } | Event::Received { .. }) {
                    events.push(event);
                }
            }
            if session.wants_input() || session.is_closed() {
                break;
            }
            // Only when it takes no more: what it holds decides what it thinks of a number that comes again.
            held.drain(..).for_each(|transfer| session.accepted(transfer));
            while session.poll_transmit(now, &mut out) && out.len() < 1 << 16 {}
            out.clear();
        }
    }
    while session.poll_transmit(now, &mut out) && out.len() < 1 << 16 {}
    session.handle_timeout(now + Duration::from_secs(3600));
    session.handle_closed();
    events
}
