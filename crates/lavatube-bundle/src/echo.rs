//! What service 7 answers: the same payload back to where it came from, so that any operator of a network can test us.
//!
//! A pure function: who receives and sends is the daemon's business. It must not answer what could answer it.

use crate::{Bundle, Endpoint, Flags};

/// The answer of service 7 at `node` to `asked`, or `None` when it deserves none: it is for another endpoint, comes from
/// nobody, is a record of the network, or from an echo service itself, which would answer for ever. Time, sequence, age and
/// hops of the answer are for its sender to set.
pub fn echo(asked: &Bundle, node: u32) -> Option<Bundle> {
    let own = Endpoint::ipn(node, ECHO_SERVICE);
    let looping = asked.source.ipn_numbers().is_some_and(|(_, service)| service == ECHO_SERVICE);
    if asked.destination != own || asked.source.is_none() || looping || asked.flags.has(Flags::ADMIN) {
        return None;
    }
    let mut answer = Bundle::new(own, asked.source.clone(), asked.payload.clone());
    answer.lifetime_ms = asked.lifetime_ms;
    Some(answer)
}

/// The service that answers with what it is sent.
pub const ECHO_SERVICE: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(source: Endpoint, destination: Endpoint) -> Bundle {
        let mut bundle = Bundle::new(source, destination, b"are you there?".to_vec());
        bundle.age_ms = Some(3);
        bundle.lifetime_ms = 9000;
        bundle
    }

    #[test]
    fn what_was_asked_comes_back() {
        let answer = echo(&asked(Endpoint::ipn(9, 1), Endpoint::ipn(2, 7)), 2).unwrap();
        assert_eq!((&answer.source, &answer.destination), (&Endpoint::ipn(2, 7), &Endpoint::ipn(9, 1)));
        assert_eq!((answer.payload.as_slice(), answer.lifetime_ms), (b"are you there?".as_slice(), 9000));
        assert!(echo(&answer, 9).is_none(), "no answer to an answer");
        let dtn: Endpoint = "dtn://earth/ping".parse().unwrap();
        assert_eq!(echo(&asked(dtn.clone(), Endpoint::ipn(2, 7)), 2).unwrap().destination, dtn);
    }

    #[test]
    fn nothing_else_is_answered() {
        let pairs = [
            (Endpoint::ipn(9, 1), Endpoint::ipn(2, 8)),
            (Endpoint::ipn(9, 1), Endpoint::ipn(3, 7)),
            (Endpoint::ipn(9, 7), Endpoint::ipn(2, 7)),
            (Endpoint::NONE, Endpoint::ipn(2, 7)),
        ];
        for (source, destination) in pairs {
            assert_eq!(echo(&asked(source, destination), 2), None);
        }
        let mut record = asked(Endpoint::ipn(9, 1), Endpoint::ipn(2, 7));
        record.flags = record.flags.with(Flags::ADMIN);
        assert_eq!(echo(&record, 2), None);
    }
}
