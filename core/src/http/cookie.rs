//! The cookie that holds a page's refresh token, where no script can read it.

use bytes::Bytes;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Response};

use super::{Admitted, ApiError, App, origin};
use crate::ports::Ports;
use crate::sha256_hex;

/// The paths that browsers send it to.
const PATH: &str = "/api/auth";

const FOREIGN_PAGE: &str = "only the server's own page may use the cookie: Sec-Fetch-Site must be \
                            same-origin, or Origin the request's Host or the address that the \
                            setting APP_BASE_URL names";

/// The cookie's names on an instance. Browsers keep cookies by host name, whatever the port: the
/// signing secret makes names that no other instance has, unless it takes the same tokens.
#[derive(Debug)]
pub(super) struct CookieNames {
    /// By HTTP.
    plain: String,
    /// By HTTPS. The prefix keeps pages that came by HTTP from setting it. (`__Host-` would have it
    /// sent to every path.)
    secure: String,
}

impl CookieNames {
    pub(super) fn new(jwt_secret: &str) -> Self {
        let hash = sha256_hex(format!("the name of the cookie {jwt_secret}"));
        let plain = format!("kubeagents-{}", &hash[..12]);
        Self {
            secure: format!("__Secure-{plain}"),
            plain,
        }
    }
}

/// The cookie, as the client of a request keeps it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cookie<'a> {
    name: &'a str,
    is_secure: bool,
}

impl Cookie<'_> {
    /// Its value; `None` without it, and where there are several: all but one are somebody else's.
    pub(super) fn value(self, headers: &HeaderMap) -> Option<&str> {
        let headers = headers.get_all(COOKIE).iter();
        let pairs = headers.flat_map(|value| value.to_str().unwrap_or_default().split(';'));
        let mut values = pairs.filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == self.name).then_some(value)
        });
        values.next().filter(|_| values.next().is_none())
    }

    /// Has the client keep it.
    pub(super) fn set(self, response: &mut Response<Bytes>, value: &str, max_age_seconds: i64) {
        let Self { name, is_secure } = self;
        let secure = if is_secure { "; Secure" } else { "" };
        let cookie = format!(
            "{name}={value}; Path={PATH}; Max-Age={max_age_seconds}; HttpOnly; SameSite=Strict{secure}"
        );
        // Tokens are base64 with dots between.
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }

    /// Has the client forget it.
    pub(super) fn clear(self, response: &mut Response<Bytes>) {
        self.set(response, "", 0);
    }
}

impl<P: Ports> App<P> {
    /// The cookie, as the client of this request keeps it.
    pub(super) fn cookie(&self, request: &Admitted<'_>) -> Cookie<'_> {
        let is_secure = origin::is_secure(request.parts, request.client);
        let CookieNames { plain, secure } = &self.cookie_names;
        Cookie {
            name: if is_secure { secure } else { plain },
            is_secure,
        }
    }

    /// The cookie, if the body asks for it.
    ///
    /// # Errors
    /// 403 where it is not the server's own page that asks: another one could log its visitor in as
    /// somebody else.
    pub(super) fn wanted_cookie(
        &self,
        request: &Admitted<'_>,
        wanted: Option<bool>,
    ) -> Result<Option<Cookie<'_>>, ApiError> {
        let dashboard = self.settings.values.app_base_url.as_deref();
        match wanted == Some(true) {
            false => Ok(None),
            true if origin::is_own(request.parts, request.client, dashboard) => {
                Ok(Some(self.cookie(request)))
            }
            true => Err(ApiError::forbidden(FOREIGN_PAGE)),
        }
    }
}
