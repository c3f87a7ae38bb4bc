//! Whose fault it is, as data: what decides exit statuses and hints, and what programs may rely on.
//!
//! The words beside it are for people and may change. Every error of fetching and of the target is one of a few faults;
//! the table is here, so that no one above has to read words. Step 21 of the walk. It must not know what anybody does
//! about a fault.

use lavatube_seal::SealError;

use crate::far::FarError;
use crate::fetch::FetchCause;
use crate::layers::TreeError;
use crate::sink::SinkError;

/// Why something was not had, or not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The vault has it no more, or not as it was stored.
    Lost,
    /// The vault is not to be reached now.
    Away,
    /// The read key is not the one it was sealed for.
    Key,
    /// This machine failed: its catalog, say, which can be made again.
    Here,
    /// The target is full, or this machine, which has to put down what a distant vault sends.
    Full,
    /// Something else is there, and was left alone.
    Taken,
    /// The target does not take it: a name, a right, or its medium.
    Target,
}

impl FetchCause {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Far(FarError::Away(_)) => Fault::Away,
            Self::Far(FarError::NoRoom(_)) => Fault::Full,
            Self::Seal(SealError::WrongKey(_)) => Fault::Key,
            Self::Catalog(_) | Self::Seal(SealError::Library(_) | SealError::Misuse(_) | SealError::Refused(_)) => {
                Fault::Here
            }
            // What no index names is in a pack whose index is lost.
            Self::Unknown | Self::NotListed | Self::Damaged(_) | Self::WrongContent => Fault::Lost,
            Self::Far(FarError::Absent(_) | FarError::Lost { .. } | FarError::Refused { .. }) | Self::Seal(_) => {
                Fault::Lost
            }
        }
    }
}

impl TreeError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Fetch(e) => e.cause.fault(),
            Self::Malformed { .. } => Fault::Lost,
        }
    }
}

impl SinkError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Exists => Fault::Taken,
            Self::Full => Fault::Full,
            Self::Io(_) => Fault::Target,
        }
    }
}
