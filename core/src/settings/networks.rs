//! Networks, by their addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use super::InvalidSetting;

/// Addresses and networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Reads a comma-separated list of IP addresses and networks.
    ///
    /// # Errors
    /// [`InvalidSetting`] for an entry that is neither, and for an empty list.
    pub fn parse(text: &str) -> Result<Self, InvalidSetting> {
        let network = |entry: &str| match entry.parse::<IpAddr>() {
            Ok(address) => Some(IpNet::from(address)),
            Err(_) => entry.parse().ok(),
        };
        let entries = text.split(',').map(str::trim);
        let networks = entries
            .filter(|entry| !entry.is_empty())
            .map(network)
            .collect::<Option<Vec<_>>>();
        networks
            .filter(|networks| !networks.is_empty())
            .map(Self)
            .ok_or_else(|| {
                "must be IP addresses or networks such as 10.0.0.0/8, with commas between them"
                    .into()
            })
    }

    /// Checks whether an address is one of these or in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_are_listed() {
        let networks = Networks::parse("127.0.0.1, 10.0.0.0/8,::1, fd00::/8 ,").unwrap();
        for (address, contained) in [
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("::1", true),
            ("fd12::1", true),
            ("fe80::1", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(networks.contains(address), contained, "{address}");
        }
        for text in [
            "",
            " , ",
            "proxy.example.com",
            "10.0.0.0/33",
            "*",
            "10.0.0.1:80",
        ] {
            assert!(Networks::parse(text).is_err(), "{text}");
        }
    }
}
