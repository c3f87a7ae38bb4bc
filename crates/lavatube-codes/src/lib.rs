//! Erasure codes: `m` extra shards that let any `k` of `k + m` stand for all of them. And the sums that prove that data are there.
//!
//! Why it exists: drives die and rot in the dark with nobody to replace them, so a stripe must
//! outlive any `m` of its shards, and a row whose blocks each lost a byte must still be mendable.
//! Step 14 (write), 18 (repair) and 20 (read) of the walk.
//! What it must not know: what a pack, a drive or a packet is. It is arithmetic on byte slices of
//! equal length; there are no files, no hashes, no clock and no policy here.
//!
//! # The code, exactly
//!
//! The field is GF(2^8) with the polynomial `x^8 + x^4 + x^3 + x^2 + 1` (`0x11d`); addition is XOR.
//! Shards `0..k` are the data as it is; shard `k + i` is parity row `i`, byte for byte
//!
//! ```text
//! parity[i][b] = XOR over j of  c(i, j) * data[j][b]      0 <= i < m, 0 <= j < k
//! c(i, j)      = (k XOR j) * inverse((k + i) XOR j)       k >= 1, m >= 0, k + m <= 255
//! ```
//!
//! That is the Cauchy matrix `inverse(x_i XOR y_j)` with `x_i = k + i`, `y_j = j`, each column
//! divided by its first entry, so that parity row 0 is the plain XOR of the data (`c(0, j) = 1`).
//! All `x` and `y` differ, so every square part of a Cauchy matrix can be inverted; scaling a column
//! by a number other than zero keeps that true; hence *any* `k` shards determine the rest. Note that
//! the coefficients depend on `k` but not on `m`: dropping the last parity rows leaves the others
//! valid, and adding rows later does not change those already stored.
//!
//! In Python, the whole of it:
//!
//! ```text
//! def mul(a, b):
//!     p = 0
//!     while b:
//!         if b & 1: p ^= a
//!         a = (a << 1) ^ (0x11d if a & 0x80 else 0)
//!         b >>= 1
//!     return p
//! inv = lambda a: next(b for b in range(1, 256) if mul(a, b) == 1)
//! c = lambda k, i, j: mul(k ^ j, inv((k + i) ^ j))
//! ```
//!
//! # The map
//!
//! | file | is |
//! |---|---|
//! | `code` | [`Code`]: shapes, [`Code::encode`], [`Code::rebuild`] |
//! | `mend` | [`Code::mend`]: wrong bytes at unknown places, column by column |
//! | `matrix` | the coefficients, and which of them express one set of shards by another |
//! | `kernel` | the one hot loop, "rows of coefficients times shards", cut into cache-sized tiles |
//! | [`lanes`] | transforms over GF(2^16), for the link's packet code |
//! | [`field`] | GF(2^128), the field of POLYVAL, for audits |
//! | `sums` | [`Sums`] of many blocks and [`Polyval`] of one: what proofs and tags are made of |
//! | `simd` | the hot loops again in AVX2, GFNI and PCLMULQDQ; the only `unsafe` of lavatube |
//! | `gf` | the field and its tables |
//! | [`naive`] | the same code for reading rather than for speed: the oracle of the tests |

mod code;
pub mod field;
mod gf;
mod kernel;
pub mod lanes;
mod matrix;
mod mend;
pub mod naive;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector loads, stores and calls into code for a CPU feature that was detected")]
mod simd;
mod sums;

pub use code::{Code, CodeError};
pub use kernel::engine_name;
pub use mend::{Block, Mended};
pub use sums::{Polyval, Sums, inner_product, sums_engine_name};
