//! Names of endpoints: `ipn:2.1`, `dtn://node/service`, `dtn:none`.
//!
//! The schemes of RFC 9171 and RFC 9758, and no others: what we cannot name we could not answer either.

use std::fmt;
use std::str::FromStr;

use hardy_bpv7::eid::{Eid, IpnNodeId};

use crate::BundleError;

/// The name of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(Eid);

impl Endpoint {
    /// Nobody: `dtn:none`.
    pub const NONE: Self = Self(Eid::Null);

    /// `ipn:node.service`; node 0 is nobody, and the highest one is whoever reads it (RFC 9758).
    pub fn ipn(node: u32, service: u32) -> Self {
        let fqnn = IpnNodeId { allocator_id: 0, node_number: node };
        match node {
            0 => Self::NONE,
            u32::MAX => Self(Eid::LocalNode(service)),
            _ => Self(Eid::Ipn { fqnn, service_number: service }),
        }
    }

    /// Node and service of `ipn:node.service`.
    pub fn ipn_numbers(&self) -> Option<(u32, u32)> {
        match &self.0 {
            Eid::Ipn { fqnn, service_number } if fqnn.allocator_id == 0 => Some((fqnn.node_number, *service_number)),
            _ => None,
        }
    }

    /// Whether this is nobody.
    pub fn is_none(&self) -> bool {
        self.0.is_null()
    }

    pub(crate) fn eid(&self) -> &Eid {
        &self.0
    }
}

impl TryFrom<Eid> for Endpoint {
    type Error = BundleError;
    fn try_from(eid: Eid) -> Result<Self, BundleError> {
        match eid {
            Eid::Unknown { scheme, .. } => Err(BundleError::Endpoint(format!("scheme {scheme}"))),
            //= rfc9171#4.2.5.1.1 the name of a node is not empty
            Eid::Dtn { node_name, .. } if node_name.node_name.is_empty() => {
                Err(BundleError::Endpoint("dtn:///".into()))
            }
            known => Ok(Self(known)),
        }
    }
}

impl FromStr for Endpoint {
    type Err = BundleError;
    fn from_str(text: &str) -> Result<Self, BundleError> {
        let eid: Eid = text.parse().map_err(|_| BundleError::Endpoint(text.to_owned()))?;
        Self::try_from(eid).map_err(|_| BundleError::Endpoint(text.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in
            ["ipn:2.1", "ipn:4294967294.0", "ipn:!.3", "ipn:7.2.1", "dtn://moon/vault", "dtn://moon/", "dtn:none"]
        {
            assert_eq!(name.parse::<Endpoint>().unwrap().to_string(), name);
        }
        assert_eq!("ipn:2.1".parse(), Ok(Endpoint::ipn(2, 1)));
        assert_eq!("ipn:!.3".parse(), Ok(Endpoint::ipn(u32::MAX, 3)));
        assert_eq!("dtn:none".parse(), Ok(Endpoint::NONE));
        for bad in ["", "moon", "ipn:", "ipn:2", "ipn:-1.2", "ipn:1.4294967296", "http://moon/", "dtn:moon", "dtn:///a"]
        {
            assert!(matches!(bad.parse::<Endpoint>(), Err(BundleError::Endpoint(_))), "{bad}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_name() {
        assert_eq!(Endpoint::ipn(2, 7).ipn_numbers(), Some((2, 7)));
        assert_eq!("ipn:9.2.7".parse::<Endpoint>().unwrap().ipn_numbers(), None);
        assert_eq!("dtn://moon/7".parse::<Endpoint>().unwrap().ipn_numbers(), None);
        assert!(Endpoint::ipn(0, 0).is_none() && Endpoint::NONE.is_none() && !Endpoint::ipn(1, 0).is_none());
    }
}
