//! Whose request it is, by its address.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::header::{FORWARDED, VIA};
use http::{Extensions, HeaderMap, HeaderName};

use crate::settings::Networks;

/// The address that a request came from, in a request's extensions. A host that knows it puts it
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What proxies add to the requests that they pass on, one or the other.
static ADDED_BY_PROXIES: [HeaderName; 6] = [
    FORWARDED_FOR,
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];

/// The client of a request, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Client {
    /// Its address: the one that the request came from, or what trusted proxies say.
    pub(super) address: Option<IpAddr>,
    /// True if it is on this machine.
    pub(super) is_local: bool,
    /// True if the request has come through a proxy that is not trusted, so that its client is not
    /// known from that of others.
    pub(super) is_hidden: bool,
    /// True if a trusted proxy has passed the request on: what it says of how it came is believed.
    pub(super) is_proxied: bool,
}

impl Client {
    /// The client of a request. `X-Forwarded-For` is believed as far as trusted proxies wrote it: the
    /// last address that is not one of theirs.
    pub(super) fn of(
        extensions: &Extensions,
        headers: &HeaderMap,
        trusted: Option<&Networks>,
    ) -> Self {
        let peer = extensions.get::<Peer>();
        let peer = peer.map(|Peer(address)| address.to_canonical());
        let is_trusted = |address: IpAddr| trusted.is_some_and(|trusted| trusted.contains(address));
        let mut added = ADDED_BY_PROXIES.iter();
        let is_forwarded = added.any(|name| headers.contains_key(name));
        let mut address = peer;
        if peer.is_some_and(is_trusted) {
            for hop in forwarded_for(headers) {
                let Some(hop) = hop else { break };
                address = Some(hop);
                if !is_trusted(hop) {
                    break;
                }
            }
        }
        Self {
            address,
            is_local: !is_forwarded && address.is_some_and(|address| address.is_loopback()),
            is_hidden: is_forwarded && peer.is_some_and(|peer| !is_trusted(peer)),
            is_proxied: peer.is_some_and(is_trusted),
        }
    }

    /// What one client cannot have many of: its address, or under IPv6 its network.
    pub(super) fn key(self) -> Option<IpAddr> {
        self.address.map(network)
    }

    /// The network that has many of these, under IPv6: what one customer of a provider may have, at
    /// most, to change addresses in.
    pub(super) fn site(self) -> Option<IpAddr> {
        match self.address? {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(prefix(v6, 48)),
        }
    }
}

/// What an address counts as: itself, or under IPv6 its network.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => prefix(v6, 64),
    }
}

/// The network of an address, by so many of its first bits.
fn prefix(address: Ipv6Addr, bits: u32) -> IpAddr {
    let network = u128::from(address) & (u128::MAX << (128 - bits));
    Ipv6Addr::from(network).into()
}

/// The addresses in `X-Forwarded-For`, nearest first; `None` for what is no address.
fn forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let values = headers.get_all(FORWARDED_FOR).iter();
    let hops = values.flat_map(|value| value.to_str().unwrap_or("unreadable").split(','));
    let hops: Vec<Option<IpAddr>> = hops.map(|hop| address(hop.trim())).collect();
    hops.into_iter().rev()
}

/// An address as proxies write it, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse();
    let address = address.or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::USER_AGENT;

    use super::*;

    fn client(peer: Option<&str>, forwarded: &[&str], trusted: &str) -> Client {
        let mut request = Request::new(());
        if let Some(peer) = peer {
            request.extensions_mut().insert(Peer(peer.parse().unwrap()));
        }
        for value in forwarded {
            let value = value.parse().unwrap();
            request.headers_mut().append(FORWARDED_FOR, value);
        }
        let trusted = Networks::parse(trusted).ok();
        Client::of(request.extensions(), request.headers(), trusted.as_ref())
    }

    #[test]
    fn only_trusted_proxies_say_whose_a_request_is() {
        let trusted = "127.0.0.1, 10.0.0.0/8";
        for (peer, forwarded, trusted, address, is_local) in [
            ("203.0.113.9", &[][..], trusted, "203.0.113.9", false),
            ("127.0.0.1", &[], trusted, "127.0.0.1", true),
            ("::ffff:127.0.0.1", &[], "", "127.0.0.1", true),
            ("::1", &[], "", "::1", true),
            // Nobody is trusted.
            ("127.0.0.1", &["203.0.113.9"], "", "127.0.0.1", false),
            ("203.0.113.9", &["127.0.0.1"], trusted, "203.0.113.9", false),
            // What stands before the first stranger, anybody may have written.
            (
                "127.0.0.1",
                &["1.1.1.1, 203.0.113.9"],
                trusted,
                "203.0.113.9",
                false,
            ),
            (
                "127.0.0.1",
                &["203.0.113.9, 10.1.2.3"],
                trusted,
                "203.0.113.9",
                false,
            ),
            (
                "127.0.0.1",
                &["1.1.1.1", "203.0.113.9,10.1.2.3"],
                trusted,
                "203.0.113.9",
                false,
            ),
            ("127.0.0.1", &["10.1.2.3"], trusted, "10.1.2.3", false),
            ("127.0.0.1", &["127.0.0.1"], trusted, "127.0.0.1", false),
            (
                "127.0.0.1",
                &["203.0.113.9:4711"],
                trusted,
                "203.0.113.9",
                false,
            ),
            (
                "127.0.0.1",
                &["[2001:db8::1]:4711"],
                trusted,
                "2001:db8::1",
                false,
            ),
            (
                "127.0.0.1",
                &["[2001:db8::1]"],
                trusted,
                "2001:db8::1",
                false,
            ),
            (
                "127.0.0.1",
                &["unknown, 10.1.2.3"],
                trusted,
                "10.1.2.3",
                false,
            ),
            ("127.0.0.1", &[""], trusted, "127.0.0.1", false),
        ] {
            let found = client(Some(peer), forwarded, trusted);
            let expected = Some(address.parse().unwrap());
            assert_eq!(found.address, expected, "{peer} {forwarded:?}");
            assert_eq!(found.is_local, is_local, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn what_any_proxy_has_passed_on_is_not_from_this_machine() {
        let is_local = |header: Option<HeaderName>| {
            let mut request = Request::new(());
            let peer = Peer("127.0.0.1".parse().unwrap());
            request.extensions_mut().insert(peer);
            if let Some(header) = header {
                request
                    .headers_mut()
                    .insert(header, "127.0.0.1".parse().unwrap());
            }
            Client::of(request.extensions(), request.headers(), None).is_local
        };
        assert!(is_local(None) && is_local(Some(USER_AGENT)));
        for header in &ADDED_BY_PROXIES {
            assert!(!is_local(Some(header.clone())), "{header}");
        }
    }

    #[test]
    fn where_the_platform_gives_no_address_there_is_none() {
        let found = client(None, &["127.0.0.1"], "127.0.0.1");
        assert_eq!(
            (found.address, found.is_local, found.is_hidden),
            (None, false, false)
        );
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_client() {
        let key = |peer| client(Some(peer), &[], "").key();
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:0:0:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        let site = |peer| client(Some(peer), &[], "").site();
        assert_eq!(site("2001:db8::1"), site("2001:db8:0:ffff::1"));
        assert_ne!(site("2001:db8::1"), site("2001:db8:1::1"));
        assert_eq!(site("192.0.2.1"), None);
        assert_eq!(site("::ffff:192.0.2.1"), None);
    }
}
