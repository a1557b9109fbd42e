//! The names under which an instance is reached.

use url::{Host, Url};

use super::InvalidSetting;

/// Names of hosts, without ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNames(Vec<Host>);

impl HostNames {
    /// Reads a comma-separated list of host names and IP addresses.
    ///
    /// # Errors
    /// [`InvalidSetting`] for an entry that is none, or has a port, and for an empty list.
    pub fn parse(text: &str) -> Result<Self, InvalidSetting> {
        let entries = text.split(',').map(str::trim);
        let names = entries
            .filter(|entry| !entry.is_empty())
            .map(|entry| Host::parse(entry).ok().filter(|_| !entry.contains('*')))
            .collect::<Option<Vec<_>>>();
        names
            .filter(|names| !names.is_empty())
            .map(|names| Self(names.into_iter().map(without_root).collect()))
            .ok_or_else(|| {
                "must be host names such as kubeagents.example.com, without ports, with commas \
                 between them"
                    .into()
            })
    }

    /// Whether `host[:port]` names one of these.
    pub fn contains(&self, authority: &str) -> bool {
        host(authority).is_some_and(|host| self.0.contains(&host))
    }
}

/// Whether `host[:port]` names this machine itself: `localhost`, a name under it, or a loopback
/// address.
pub(crate) fn is_loopback_authority(authority: &str) -> bool {
    match host(authority) {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
        }
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// Whether `host[:port]` names an IP address, which no foreign DNS name can be.
pub(crate) fn is_ip_authority(authority: &str) -> bool {
    matches!(host(authority), Some(Host::Ipv4(_) | Host::Ipv6(_)))
}

/// Checks whether pages that `host[:port]` serves, by HTTP or HTTPS, have this origin.
pub(crate) fn is_origin_of(origin: &str, authority: &str) -> bool {
    let Some((scheme @ ("http" | "https"), _)) = origin.split_once("://") else {
        return false;
    };
    let own = host(authority).and_then(|_| Url::parse(&format!("{scheme}://{authority}")).ok());
    let origin = Url::parse(origin).ok();
    own.is_some() && own.map(|url| url.origin()) == origin.map(|url| url.origin())
}

/// Checks whether two URLs have one origin.
pub(crate) fn is_same_origin(one: &str, other: &str) -> bool {
    let origin = |url| Url::parse(url).ok().map(|url| url.origin());
    let one = origin(one).filter(url::Origin::is_tuple);
    one.is_some() && one == origin(other)
}

/// The host of `host[:port]`.
fn host(authority: &str) -> Option<Host> {
    // A user part would put the host elsewhere; nothing that asks here has one.
    if authority.contains(['/', '@', '?', '#', '\\']) {
        return None;
    }
    let url = Url::parse(&format!("http://{authority}/")).ok()?;
    Some(without_root(url.host()?.to_owned()))
}

/// The host without the dot that a full name may end with.
fn without_root(host: Host) -> Host {
    match host {
        Host::Domain(name) => Host::Domain(name.trim_end_matches('.').to_owned()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_recognised_by_name_and_address() {
        for authority in [
            "localhost",
            "localhost:8080",
            "LOCALHOST",
            "app.localhost:1",
            "localhost.",
            "127.0.0.1",
            "127.9.8.7:80",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback_authority(authority), "{authority}");
        }
        for authority in [
            "",
            "example.com",
            "localhost.example.com",
            "notlocalhost",
            "10.0.0.1",
            "[::2]",
            "127.0.0.1.example.com",
            "localhost@example.com",
            "example.com#localhost",
            ":80",
        ] {
            assert!(!is_loopback_authority(authority), "{authority}");
        }
    }

    #[test]
    fn origins_are_compared_with_their_ports_and_default_ones() {
        for (origin, authority, expected) in [
            ("http://a.example", "a.example", true),
            ("https://a.example", "A.example", true),
            ("https://a.example", "a.example:443", true),
            ("http://a.example", "a.example:80", true),
            ("http://a.example:8080", "a.example:8080", true),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("https://a.example", "a.example:80", false),
            ("http://a.example", "a.example:443", false),
            ("http://a.example", "a.example:8080", false),
            ("http://a.example:8080", "a.example", false),
            ("http://b.example", "a.example", false),
            ("ftp://a.example", "a.example", false),
            ("a.example", "a.example", false),
            ("null", "null", false),
            ("http://", "", false),
            ("http://b.example", "a.example@b.example", false),
        ] {
            assert_eq!(
                is_origin_of(origin, authority),
                expected,
                "{origin} {authority}"
            );
        }
    }

    #[test]
    fn names_are_compared_without_port_and_case() {
        let names = HostNames::parse("kube.example.com, Bücher.example,10.0.0.7,[::2]").unwrap();
        for authority in [
            "kube.example.com",
            "KUBE.example.com.:8080",
            "xn--bcher-kva.example",
            "10.0.0.7:1",
            "[::2]:443",
        ] {
            assert!(names.contains(authority), "{authority}");
        }
        for authority in [
            "",
            "example.com",
            "x.kube.example.com",
            "10.0.0.8",
            "kube.example.com@evil",
        ] {
            assert!(!names.contains(authority), "{authority}");
        }
        for text in [
            "",
            ",",
            "a.example:80",
            "https://a.example",
            "*.example.com",
            "a b",
        ] {
            assert!(HostNames::parse(text).is_err(), "{text}");
        }
    }
}
