//! Which addresses notifications may go to. Their receivers are set by users, and what a host can
//! reach a user often cannot.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// What connecting to an address would mean, from the harmless to the dangerous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Somebody on the internet.
    Public,
    /// This machine, its own network, or nobody for certain: only when the operator allows it.
    Private,
    /// Link-local, a cloud's metadata service, or no single machine: never.
    Forbidden,
}

impl Reach {
    /// Why nothing is sent there; completes a sentence about an address.
    pub fn refusal(self) -> &'static str {
        match self {
            Self::Public => "it is not among the allowed ones",
            Self::Private => {
                "it is private or loopback, and NOTIFICATION_ALLOW_PRIVATE_ADDRESSES is not true"
            }
            Self::Forbidden => "it is link-local, a metadata service or no single machine's",
        }
    }
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

/// Networks of IANA's registry of special-purpose IPv4 addresses that are not on the internet, by
/// their first address and the length of their prefix.
const PRIVATE_V4: [(Ipv4Addr, u32); 11] = [
    // Private use
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // Carriers' NAT
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    // Loopback
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Protocol assignments
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    // Documentation
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // The nearest relay for 6to4, whosever it is
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    // Benchmarks
    (Ipv4Addr::new(198, 18, 0, 0), 15),
];

/// The networks within the IPv6 internet ([`INTERNET_V6`]) that are not on it.
const PRIVATE_V6: [(Ipv6Addr, u32); 3] = [
    // Protocol assignments, among them Teredo, benchmarks and identifiers without a place
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // Documentation
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// All that IANA gives out for the internet. The rest is for special purposes or for none.
const INTERNET_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What connecting to this address would mean. An IPv6 address that carries an IPv4 address is
/// judged by that too, since whoever translates connects to it.
pub fn reach(address: IpAddr) -> Reach {
    if METADATA.contains(&address) {
        return Reach::Forbidden;
    }
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => match carried(address) {
            Some((own, address)) => own.max(reach(IpAddr::V4(address))),
            None => reach_v6(address),
        },
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let first = address.octets()[0];
    if first == 0 || first >= 224 || address.is_link_local() {
        Reach::Forbidden
    } else if PRIVATE_V4
        .iter()
        .any(|&network| is_within_v4(address, network))
    {
        Reach::Private
    } else {
        Reach::Public
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    if address.is_unspecified() || address.is_multicast() || address.is_unicast_link_local() {
        Reach::Forbidden
    } else if !is_within_v6(address, INTERNET_V6)
        || PRIVATE_V6
            .iter()
            .any(|&network| is_within_v6(address, network))
    {
        Reach::Private
    } else {
        Reach::Public
    }
}

fn is_within_v4(address: Ipv4Addr, (network, bits): (Ipv4Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()).leading_zeros() >= bits
}

fn is_within_v6(address: Ipv6Addr, (network, bits): (Ipv6Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()).leading_zeros() >= bits
}

/// The IPv4 address that an IPv6 address carries, and what the way to it means by itself.
fn carried(address: Ipv6Addr) -> Option<(Reach, Ipv4Addr)> {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = address.segments();
    let from = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let (own, address) = match [s0, s1, s2, s3, s4, s5] {
        // Mapped, translated (RFC 2765) and, by everybody's translator, NAT64
        [0, 0, 0, 0, 0, 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => {
            (Reach::Public, from(s6, s7))
        }
        // Compatible
        [0, 0, 0, 0, 0, 0] if s6 != 0 => (Reach::Public, from(s6, s7)),
        // NAT64 by the network's own translator. Where it puts the IPv4 address elsewhere (RFC 6052),
        // what ends the address is mostly zero, which is refused.
        [0x64, 0xff9b, 1, ..] => (Reach::Private, from(s6, s7)),
        // 6to4
        [0x2002, ..] => (Reach::Public, from(s1, s2)),
        // Teredo
        [0x2001, 0, ..] => (Reach::Private, from(!s6, !s7)),
        _ => return None,
    };
    Some((own, address))
}

/// What connecting to the host of a URL would mean, as far as its text tells: the address that it
/// is, this machine for `localhost` and the names under it, or [`Reach::Public`] for another name.
pub fn reach_by_name(uri: &Uri) -> Reach {
    let host = uri.host().unwrap_or_default();
    match host.trim_matches(['[', ']']).parse() {
        Ok(address) => reach(address),
        Err(_) if is_localhost(host) => Reach::Private,
        Err(_) => Reach::Public,
    }
}

/// Whether the host of a URL is this machine: a loopback address, `localhost` or a name under it.
pub fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
    literal.map_or_else(
        |_| is_localhost(host),
        |address| address.to_canonical().is_loopback(),
    )
}

fn is_localhost(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_judged_by_whom_they_reach() {
        for (addresses, expected) in [
            (
                "8.8.8.8 1.1.1.1 100.63.255.255 100.128.0.0 172.32.0.1 169.253.0.1 223.255.255.255 \
                 192.0.1.255 192.0.3.0 192.88.98.255 198.17.255.255 198.20.0.0 198.51.99.255 \
                 203.0.114.0 \
                 2606:4700:4700::1111 2001:200::1 2001:db7::1 2001:db9::1 2400::1 3ffe::1 \
                 3fff:1000::1 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8 64:ff9b::808:808 2002:808:808::1",
                Reach::Public,
            ),
            (
                "127.0.0.1 127.255.255.254 10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 \
                 100.64.0.1 100.127.255.255 192.0.0.1 198.18.0.1 198.19.255.255 \
                 192.0.2.0 192.0.2.255 198.51.100.1 203.0.113.255 192.88.99.1 \
                 ::1 fc00::1 fdff::1 fec0::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 \
                 ::ffff:0:10.0.0.1 ::ffff:192.0.2.1 64:ff9b::7f00:1 64:ff9b::c000:201 \
                 2002:7f00:1::1 64:ff9b:1::808:808 64:ff9b:1:ffff::a00:1 64:ff9b:2::1 100::1 \
                 100:0:0:1::1 2001::f7f7:f7f7 2001:2::1 2001:10::1 2001:20::1 2001:1ff:ffff::1 \
                 2001:db8::1 2001:db8:ffff::1 3fff::1 3fff:fff::1 4000::1 5f00::1 1fff::1",
                Reach::Private,
            ),
            (
                "0.0.0.0 0.1.2.3 169.254.0.1 169.254.169.254 224.0.0.1 240.0.0.1 255.255.255.255 \
                 100.100.100.200 192.0.0.192 168.63.129.16 :: fe80::1 febf::1 ff02::1 \
                 fd00:ec2::254 fd20:ce::254 ::ffff:169.254.169.254 ::169.254.169.254 \
                 ::ffff:0.0.0.0 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::1 ::ffff:100.100.100.200 \
                 ::ffff:0:169.254.169.254 64:ff9b:1::a9fe:a9fe 64:ff9b:1:a9fe:a9:fe00:: \
                 2001::5601:5601 233.252.0.1",
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
            ("http://localhost:1/", Reach::Private),
            ("http://a.LocalHost./", Reach::Private),
            ("https://notlocalhost/", Reach::Public),
            ("https://localhost.example.com/", Reach::Public),
        ] {
            assert_eq!(reach_by_name(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
