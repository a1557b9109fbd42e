//! Which addresses notifications may go to. Their receivers are set by users, and what a host can
//! reach a user often cannot.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// What connecting to an address would mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Somebody on the internet.
    Public,
    /// This machine or its own network: only when the operator allows it.
    Private,
    /// Link-local, a cloud's metadata service, or no single machine: never.
    Forbidden,
}

/// Metadata services that are not link-local: they hand out the machine's credentials.
const METADATA: [IpAddr; 5] = [
    // Amazon EC2
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    // Google Cloud
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Alibaba Cloud
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Oracle Cloud
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // Azure
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// What connecting to this address would mean. An IPv6 address that only carries an IPv4 address is
/// judged by that.
pub fn reach(address: IpAddr) -> Reach {
    if METADATA.contains(&address) {
        return Reach::Forbidden;
    }
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => match carried(address) {
            Some(address) => reach(IpAddr::V4(address)),
            None => reach_v6(address),
        },
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, _] = address.octets();
    if a == 0 || a >= 224 || address.is_link_local() {
        Reach::Forbidden
    } else if address.is_loopback()
        || address.is_private()
        // Carriers' NAT (RFC 6598), protocol assignments (RFC 6890), benchmarks (RFC 2544).
        || a == 100 && b & 0xc0 == 64
        || (a, b, c) == (192, 0, 0)
        || a == 198 && b & 0xfe == 18
    {
        Reach::Private
    } else {
        Reach::Public
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    if address.is_unspecified() || address.is_multicast() || address.is_unicast_link_local() {
        Reach::Forbidden
    } else if address.is_loopback()
        || address.is_unique_local()
        // Site-local, once unique-local's place (RFC 3879).
        || address.segments()[0] & 0xffc0 == 0xfec0
    {
        Reach::Private
    } else {
        Reach::Public
    }
}

/// The IPv4 address in a mapped (`::ffff:0:0/96`), compatible (`::/96`), NAT64 (`64:ff9b::/96`) or
/// 6to4 (`2002::/16`) address.
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = address.segments();
    let from = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match [s0, s1, s2, s3, s4, s5] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(from(s6, s7)),
        [0, 0, 0, 0, 0, 0] if s6 != 0 => Some(from(s6, s7)),
        [0x2002, ..] => Some(from(s1, s2)),
        _ => None,
    }
}

/// What connecting to the host of a URL would mean, as far as its text tells: the address that it
/// is, or [`Reach::Public`] for a name.
pub fn reach_by_name(uri: &Uri) -> Reach {
    let host = uri.host().unwrap_or_default();
    let literal = host.trim_matches(['[', ']']).parse();
    literal.map_or(Reach::Public, reach)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_judged_by_whom_they_reach() {
        for (addresses, expected) in [
            (
                "8.8.8.8 1.1.1.1 100.63.255.255 100.128.0.0 172.32.0.1 169.253.0.1 223.255.255.255 \
                 2606:4700:4700::1111 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1",
                Reach::Public,
            ),
            (
                "127.0.0.1 127.255.255.254 10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 \
                 100.64.0.1 100.127.255.255 192.0.0.1 198.18.0.1 198.19.255.255 \
                 ::1 fc00::1 fdff::1 fec0::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 \
                 64:ff9b::7f00:1 2002:7f00:1::1",
                Reach::Private,
            ),
            (
                "0.0.0.0 0.1.2.3 169.254.0.1 169.254.169.254 224.0.0.1 240.0.0.1 255.255.255.255 \
                 100.100.100.200 192.0.0.192 168.63.129.16 :: fe80::1 febf::1 ff02::1 \
                 fd00:ec2::254 fd20:ce::254 ::ffff:169.254.169.254 ::169.254.169.254 \
                 ::ffff:0.0.0.0 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::1 ::ffff:100.100.100.200",
                Reach::Forbidden,
            ),
        ] {
            for address in addresses.split_whitespace() {
                assert_eq!(reach(address.parse().unwrap()), expected, "{address}");
            }
        }
    }
    #[test]
    fn an_address_in_a_url_is_judged_without_asking_anyone() {
        for (url, expected) in [
            ("http://169.254.169.254/latest", Reach::Forbidden),
            ("http://[fe80::1]:8080/", Reach::Forbidden),
            ("http://127.0.0.1:1/", Reach::Private),
            ("https://8.8.8.8/", Reach::Public),
            ("https://example.com/", Reach::Public),
        ] {
            assert_eq!(reach_by_name(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
