//! The proxies that the environment names.

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use kubeagents_core::delivery::is_loopback;

use crate::config::ConfigError;

/// Proxies that notifications leave by, from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and
/// `NO_PROXY`. Receivers on this machine are never behind one.
#[derive(Debug, Clone)]
pub(crate) struct Proxies(std::sync::Arc<Matcher>);

impl Proxies {
    /// Reads the environment. Names in lower case count where those in upper case are not set.
    ///
    /// # Errors
    /// [`ConfigError`] for an address that is not that of an HTTP proxy. It may hold a password and is
    /// not shown.
    pub(crate) fn from_env() -> Result<Self, ConfigError> {
        Self::read(|name| std::env::var(name).ok())
    }

    fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text = |name: &str| {
            let texts = [name.to_owned(), name.to_ascii_lowercase()];
            let mut texts = texts.into_iter().filter_map(|name| {
                let text = lookup(&name)?;
                Some((name, text)).filter(|(_, text)| !text.is_empty())
            });
            texts.next()
        };
        let proxy = |name: &str| match text(name) {
            Some((_, text)) if is_http_proxy(&text) => Ok(text),
            Some((name, _)) => Err(ConfigError(format!(
                "{name} must be the address of an HTTP proxy such as http://proxy.example.com:3128"
            ))),
            None => Ok(String::new()),
        };
        let exceptions = text("NO_PROXY").unwrap_or_default().1;
        // `*.example.com` is meant where `.example.com` is understood.
        let exceptions: Vec<&str> = exceptions
            .split(',')
            .map(str::trim)
            .map(|entry| match entry.strip_prefix('*') {
                Some(rest) if rest.starts_with('.') => rest,
                _ => entry,
            })
            .collect();
        let matcher = Matcher::builder()
            .all(proxy("ALL_PROXY")?)
            .https(proxy("HTTPS_PROXY")?)
            .http(proxy("HTTP_PROXY")?)
            .no(exceptions.join(","))
            .build();
        Ok(Self(matcher.into()))
    }

    /// The proxy on the way to a receiver.
    pub(super) fn proxy(&self, receiver: &Uri) -> Option<Intercept> {
        match is_loopback(receiver) {
            true => None,
            false => self.0.intercept(receiver),
        }
    }

    /// Credentials for a proxy that reads the requests itself, as it does those by plain HTTP.
    pub(super) fn authorization(&self, receiver: &Uri) -> Option<HeaderValue> {
        let proxy = (receiver.scheme_str() == Some("http")).then(|| self.proxy(receiver))??;
        proxy.basic_auth().cloned()
    }
}

impl Default for Proxies {
    /// None.
    fn default() -> Self {
        Self(Matcher::builder().build().into())
    }
}

/// Returns whether a text is `[http://][user:password@]host[:port]`.
fn is_http_proxy(text: &str) -> bool {
    let url = match text.contains("://") {
        true => url::Url::parse(text),
        false => url::Url::parse(&format!("http://{text}")),
    };
    url.is_ok_and(|url| url.scheme() == "http" && url.has_host() && url.path() == "/")
        && text
            .parse::<Uri>()
            .is_ok_and(|uri| uri.authority().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Proxies, String> {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Proxies::read(lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn each_scheme_has_its_proxy_and_no_proxy_its_exceptions() {
        let proxies = read(&[
            ("HTTPS_PROXY", "http://us%40er:pass@secure:3128"),
            ("http_proxy", "plain:8080"),
            ("NO_PROXY", "a.example, *.b.example ,10.0.0.0/8,[::2]"),
        ])
        .unwrap();
        let proxy = |url: &str| {
            let proxy = proxies.proxy(&url.parse().unwrap());
            proxy.map(|proxy| proxy.uri().to_string())
        };
        for (url, expected) in [
            ("https://x.example/", Some("http://secure:3128/")),
            ("http://x.example/", Some("http://plain:8080/")),
            ("https://8.8.8.8/", Some("http://secure:3128/")),
            ("https://a.example/", None),
            ("https://x.a.example/", None),
            ("https://x.b.example:81/", None),
            ("https://10.1.2.3/", None),
            ("https://localhost/", None),
            ("http://127.0.0.1:1/", None),
            ("http://[::1]/", None),
        ] {
            assert_eq!(proxy(url).as_deref(), expected, "{url}");
        }
        let authorization = |url: &str| proxies.authorization(&url.parse().unwrap());
        assert_eq!(authorization("https://x.example/"), None);
        assert_eq!(authorization("http://x.example/"), None);
    }

    #[test]
    fn a_proxy_for_everything_gives_way_to_one_for_a_scheme() {
        let proxies = read(&[
            ("ALL_PROXY", "http://u:p@all"),
            ("HTTPS_PROXY", "http://secure"),
        ]);
        let proxies = proxies.unwrap();
        let proxy = |url: &str| {
            proxies
                .proxy(&url.parse().unwrap())
                .unwrap()
                .uri()
                .to_string()
        };
        assert_eq!(proxy("http://x.example/"), "http://all/");
        assert_eq!(proxy("https://x.example/"), "http://secure/");
        let authorization = proxies.authorization(&"http://x.example/".parse().unwrap());
        assert_eq!(authorization.unwrap(), "Basic dTpw");
    }

    #[test]
    fn what_is_no_http_proxy_is_refused_without_its_value() {
        for value in [
            "socks5://proxy:1080",
            "https://u:secret@proxy",
            "http://",
            "a b",
            "http://p/x",
        ] {
            for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy"] {
                let error = read(&[(name, value)]).unwrap_err();
                let start = format!("{name} must be the address of an HTTP proxy");
                assert!(error.starts_with(&start), "{error}");
                assert!(!error.contains("secret"), "{error}");
            }
        }
        assert!(read(&[("HTTPS_PROXY", ""), ("NO_PROXY", "")]).is_ok());
    }
}
