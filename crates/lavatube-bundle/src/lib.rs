//! Floor 1: bundles, the letters of the standard's network: how other nodes' networks carry what our link carries.
//!
//! A thin room around `hardy-bpv7`: it makes and reads bundles of RFC 9171 with what we ask of them, and signs and seals
//! their payloads as RFC 9173 says. It is a room of its own and not a file of `lavatube-format`, because that crate
//! decrypts, and the vault's tree must not hold what decrypts (decision 0009). It must not know time, policy, where keys
//! come from, or what a payload means. (For sealing, the library asks the system for entropy by itself.)
//!
//! ```
//! use lavatube_bundle::{Bundle, Endpoint, Mac, PairKeys};
//!
//! let mut bundle = Bundle::new(Endpoint::ipn(1, 1), Endpoint::ipn(2, 1), b"a pack".to_vec());
//! bundle.sequence = 7;
//! bundle.age_ms = Some(0); // No clock is known, so the time of creation is 0 and the age counts.
//! let keys = PairKeys { mac: Mac::Sha256([1; 32]), cipher: [2; 32] };
//! let bytes = bundle.seal(&keys)?;
//! assert_eq!(Bundle::open(&bytes, &keys)?, bundle);
//! # Ok::<(), lavatube_bundle::BundleError>(())
//! ```
//!
//! | file | is |
//! |---|---|
//! | `bundle` | a bundle as a value, and plain bundles as bytes |
//! | `endpoint` | names of endpoints |
//! | `scan` | the first look at foreign bytes: shape and limits, before the library sees them |
//! | `security` | signed and sealed payloads |
//! | `echo` | what service 7 answers |

mod bundle;
mod echo;
mod endpoint;
mod error;
mod scan;
mod security;

pub use bundle::{Bundle, Flags, Hops};
pub use echo::{ECHO_SERVICE, echo};
pub use endpoint::Endpoint;
pub use error::BundleError;
pub use security::{Mac, PairKeys};
