//! What a person may set of a link: `link.toml`.
//!
//! It must not know what its values do. FORMAT section 13.

use std::path::PathBuf;

use lavatube_link::LOSS_MAX;
use serde::{Deserialize, Serialize};

/// What a person may set of a link: `link.toml`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkFile {
    /// The other end's line.
    pub peer: String,
    /// The public key of this end, in hex: it tells a damaged key from the right one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<String>,
    /// Where the other end listens: host:port. Learned from what comes in when it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `auto`: how fast to send is found out, and `rate_up_bit_s` is the most, if it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateFile>,
    /// Bits a second that may leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_up_bit_s: Option<u64>,
    /// Bits a second that may come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_down_bit_s: Option<u64>,
    /// A file of contacts, relative to this one; without it the link is always up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PathBuf>,
    /// What its times count from, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_origin_unix_s: Option<u64>,
    /// What a minute of a contact costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_minute: Option<f64>,
    /// What 10^9 bytes that leave cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_gb: Option<f64>,
    /// In what these costs are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Whether anything can come back from the vault; without it, yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_path: Option<bool>,
    /// Where nothing can: what is provided for. A table; it stands last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_way: Option<OneWayFile>,
    /// Bundles carry what crosses, instead of the native link. A table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtn: Option<DtnFile>,
}

/// How bundles carry what crosses: `[dtn]` of `link.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DtnFile {
    /// What the bundles cross.
    pub carrier: CarrierFile,
    /// This end's node number; without it, 1 at the depositor's and 2 at the vault's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
    /// The other end's; without it, 2 at the depositor's and 1 at the vault's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_node: Option<u32>,
    /// This end's LTP engine; without it, the number of its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<u64>,
    /// The other end's, or that of the node next to this one; without it, the number of the other end's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_engine: Option<u64>,
    /// Where other nodes may connect, or LTP is heard: host:port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Which node to connect to, or where the other LTP engine hears: host:port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<String>,
    /// How long a bundle is of use, in seconds.
    #[serde(default = "lifetime_s")]
    pub lifetime_s: u64,
    /// How long an answer may take before one asks again, in seconds.
    #[serde(default = "patience_s")]
    pub patience_s: u64,
}

/// What bundles cross: `carrier` of `[dtn]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CarrierFile {
    /// TCPCLv4 (RFC 9174).
    Tcpcl,
    /// LTP (RFC 5326) over UDP.
    Ltp,
}

fn lifetime_s() -> u64 {
    30 * 24 * 60 * 60
}

fn patience_s() -> u64 {
    60
}

impl DtnFile {
    /// The LTP engine of this end, which is the node `node`.
    pub(crate) fn engine_of(&self, node: u32) -> u64 {
        self.engine.unwrap_or(node.into())
    }

    /// The LTP engine beside it; the other end is the node `node`.
    pub(crate) fn peer_engine_of(&self, node: u32) -> u64 {
        self.peer_engine.unwrap_or(node.into())
    }

    pub(super) fn check(self) -> Result<Self, &'static str> {
        match &self {
            Self { node: Some(0 | u32::MAX), .. } | Self { peer_node: Some(0 | u32::MAX), .. } => {
                Err("dtn.node and dtn.peer_node are numbers of nodes, from 1")
            }
            Self { lifetime_s: 0, .. } | Self { patience_s: 0, .. } => {
                Err("dtn.lifetime_s and dtn.patience_s are seconds, from 1")
            }
            Self { lifetime_s, patience_s, .. } if (*lifetime_s).max(*patience_s) > SPAN_MAX_S => {
                Err("dtn.lifetime_s and dtn.patience_s are at most a hundred years")
            }
            Self { carrier: CarrierFile::Tcpcl, engine, peer_engine, .. } if engine.or(*peer_engine).is_some() => {
                Err("dtn.engine and dtn.peer_engine are for carrier = \"ltp\"")
            }
            Self { engine: Some(0), .. } | Self { peer_engine: Some(0), .. } => {
                Err("dtn.engine and dtn.peer_engine are numbers of engines, from 1")
            }
            _ => Ok(self),
        }
    }
}

const SPAN_MAX_S: u64 = 100 * 366 * 24 * 60 * 60;

/// How the rate is set: `rate` of `link.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateFile {
    /// By what reports tell of delay and of what arrives.
    Auto,
}

/// How objects are sent where no word comes back: `[one_way]` of `link.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OneWayFile {
    /// Share of datagrams lost that is provided for.
    pub loss: f64,
    /// How many are lost at a time, on average.
    pub burst: f64,
    /// How probable it may be that one sending of an object does not arrive.
    pub failure: f64,
    /// In how many later contacts each object is sent once more.
    pub repeats: u32,
}

impl Default for OneWayFile {
    fn default() -> Self {
        Self { loss: 0.05, burst: 1.0, failure: 1e-6, repeats: 1 }
    }
}

impl OneWayFile {
    pub(super) fn check(self) -> Result<Self, &'static str> {
        match self {
            Self { loss, .. } if !(0.0..=LOSS_MAX).contains(&loss) => Err("one_way.loss is a share from 0 to 0.6"),
            Self { burst, .. } if !(1.0..=1e6).contains(&burst) => Err("one_way.burst is a number of datagrams from 1"),
            Self { failure, .. } if !(1e-30..=0.5).contains(&failure) => Err("one_way.failure is from 1e-30 to 0.5"),
            ok => Ok(ok),
        }
    }
}
