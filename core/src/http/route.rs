//! The route table.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

use super::ApiError;
use crate::Scope;
use crate::validation::{Rule, storable};

/// A path that exists, with its parameters still encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'p> {
    Health,
    Ready,
    Report,
    Agents,
    Agent(&'p str),
    Sessions(&'p str),
    Session(&'p str, &'p str),
    History(&'p str),
    LatestStatus(&'p str),
    Register,
    Verify,
    ResendVerify,
    Login,
    Refresh,
    Logout,
    Me,
    ApiKeys,
    ApiKey(&'p str),
    Mcp,
}

/// What a method does on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Health,
    Ready,
    Report,
    ListAgents,
    GetAgent,
    ListSessions,
    GetSession,
    History,
    LatestStatus,
    Register,
    Verify,
    ResendVerify,
    Login,
    Refresh,
    Logout,
    GetMe,
    PutMe,
    CreateApiKey,
    ListApiKeys,
    RevokeApiKey,
    Mcp,
}

/// Who may use an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone; credentials are not looked at.
    Public,
    /// Whoever works in a workspace and has this scope.
    Scope(Scope),
    /// Whoever works in a workspace; what they do there takes scopes.
    Workspace,
    /// The owner of an account, by access token.
    Account,
}

impl<'p> Route<'p> {
    /// The route of a path. Segments are told apart before they are decoded, so that an encoded
    /// slash is a part of a name.
    pub(super) fn find(path: &'p str) -> Option<Self> {
        let path = match path {
            "/api/agents/" | "/api/apikeys/" => path.trim_end_matches('/'),
            _ => path,
        };
        let mut segments = [""; 6];
        let mut count = 0;
        for segment in path.strip_prefix('/')?.split('/') {
            *segments.get_mut(count)? = segment;
            count += 1;
        }
        if segments[..count].contains(&"") {
            return None;
        }
        Some(match segments[..count] {
            ["health"] => Self::Health,
            ["ready"] => Self::Ready,
            ["webhook", "status"] => Self::Report,
            ["api", "agents"] => Self::Agents,
            ["api", "agents", agent] => Self::Agent(agent),
            ["api", "agents", agent, "sessions"] => Self::Sessions(agent),
            ["api", "agents", agent, "sessions", topic] => Self::Session(agent, topic),
            ["api", "agents", agent, "history"] => Self::History(agent),
            ["api", "agents", agent, "status"] => Self::LatestStatus(agent),
            ["api", "auth", "register"] => Self::Register,
            ["api", "auth", "verify"] => Self::Verify,
            ["api", "auth", "resend-verify"] => Self::ResendVerify,
            ["api", "auth", "login"] => Self::Login,
            ["api", "auth", "refresh"] => Self::Refresh,
            ["api", "auth", "logout"] => Self::Logout,
            ["api", "auth", "me"] => Self::Me,
            ["api", "apikeys"] => Self::ApiKeys,
            ["api", "apikeys", id] => Self::ApiKey(id),
            ["mcp"] => Self::Mcp,
            _ => return None,
        })
    }

    /// What a method does here. `HEAD` does what `GET` does, except where that would spend a token.
    pub(super) fn endpoint(&self, method: &Method) -> Option<Endpoint> {
        let method = match (method, self) {
            (&Method::HEAD, Self::Verify) => return None,
            (&Method::HEAD, _) => &Method::GET,
            (method, _) => method,
        };
        Some(match (self, method) {
            (Self::Health, &Method::GET) => Endpoint::Health,
            (Self::Ready, &Method::GET) => Endpoint::Ready,
            (Self::Report, &Method::POST) => Endpoint::Report,
            (Self::Agents, &Method::GET) => Endpoint::ListAgents,
            (Self::Agent(_), &Method::GET) => Endpoint::GetAgent,
            (Self::Sessions(_), &Method::GET) => Endpoint::ListSessions,
            (Self::Session(..), &Method::GET) => Endpoint::GetSession,
            (Self::History(_), &Method::GET) => Endpoint::History,
            (Self::LatestStatus(_), &Method::GET) => Endpoint::LatestStatus,
            (Self::Register, &Method::POST) => Endpoint::Register,
            (Self::Verify, &Method::GET) => Endpoint::Verify,
            (Self::ResendVerify, &Method::POST) => Endpoint::ResendVerify,
            (Self::Login, &Method::POST) => Endpoint::Login,
            (Self::Refresh, &Method::POST) => Endpoint::Refresh,
            (Self::Logout, &Method::POST) => Endpoint::Logout,
            (Self::Me, &Method::GET) => Endpoint::GetMe,
            (Self::Me, &Method::PUT) => Endpoint::PutMe,
            (Self::ApiKeys, &Method::POST) => Endpoint::CreateApiKey,
            (Self::ApiKeys, &Method::GET) => Endpoint::ListApiKeys,
            (Self::ApiKey(_), &Method::DELETE) => Endpoint::RevokeApiKey,
            (Self::Mcp, &Method::POST) => Endpoint::Mcp,
            _ => return None,
        })
    }

    /// The value of `Allow`.
    pub(super) fn allow(&self) -> &'static str {
        match self {
            Self::Verify => "GET, OPTIONS",
            Self::Me => "GET, HEAD, PUT, OPTIONS",
            Self::ApiKeys => "GET, HEAD, POST, OPTIONS",
            Self::ApiKey(_) => "DELETE, OPTIONS",
            Self::Report
            | Self::Register
            | Self::ResendVerify
            | Self::Login
            | Self::Refresh
            | Self::Logout
            | Self::Mcp => "POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    /// The agent that the path names.
    pub(super) fn agent_id(&self) -> Result<String, ApiError> {
        match self {
            Self::Agent(agent)
            | Self::Sessions(agent)
            | Self::Session(agent, _)
            | Self::History(agent)
            | Self::LatestStatus(agent) => decode("agent_id", agent),
            _ => Err(ApiError::unknown_route()),
        }
    }

    /// The session that the path names.
    pub(super) fn session_topic(&self) -> Result<String, ApiError> {
        match self {
            Self::Session(_, topic) => decode("session_topic", topic),
            _ => Err(ApiError::unknown_route()),
        }
    }

    /// The API key that the path names.
    pub(super) fn api_key_id(&self) -> Result<String, ApiError> {
        match self {
            Self::ApiKey(id) => decode("id", id),
            _ => Err(ApiError::unknown_route()),
        }
    }
}

/// The name that a path segment stands for.
fn decode(field: &'static str, segment: &str) -> Result<String, ApiError> {
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let is_hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
        if byte == b'%' && !(is_hex(bytes.next()) && is_hex(bytes.next())) {
            return Err(Rule::PercentEncoding.broken_by(field).into());
        }
    }
    let name = percent_decode_str(segment)
        .decode_utf8()
        .map(Cow::into_owned)
        .map_err(|_| Rule::Utf8.broken_by(field))?;
    storable(field, &name)?;
    Ok(name)
}

impl Endpoint {
    /// Who may use it.
    pub(super) fn access(self) -> Access {
        match self {
            Self::Health
            | Self::Ready
            | Self::Register
            | Self::Verify
            | Self::ResendVerify
            | Self::Login
            | Self::Refresh => Access::Public,
            Self::Report => Access::Scope(Scope::Report),
            Self::ListAgents
            | Self::GetAgent
            | Self::ListSessions
            | Self::GetSession
            | Self::History
            | Self::LatestStatus => Access::Scope(Scope::Read),
            Self::Mcp => Access::Workspace,
            Self::Logout
            | Self::GetMe
            | Self::PutMe
            | Self::CreateApiKey
            | Self::ListApiKeys
            | Self::RevokeApiKey => Access::Account,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_before_they_are_decoded() {
        for (path, agent) in [
            ("/api/agents/a%2Fb", "a/b"),
            ("/api/agents/%E4%B8%AD", "中"),
            ("/api/agents/50%25", "50%"),
            ("/api/agents/a%26b", "a&b"),
            ("/api/agents/a+b", "a+b"),
            ("/api/agents/..", ".."),
            ("/api/agents/%2e%2e", ".."),
        ] {
            let route = Route::find(path).unwrap();
            assert_eq!(route.agent_id().unwrap(), agent, "{path}");
        }
        let session = Route::find("/api/agents/a/sessions/b%2Fsessions%2Fc").unwrap();
        assert_eq!(session.session_topic().unwrap(), "b/sessions/c");
    }

    #[test]
    fn names_that_cannot_be_decoded_are_bad_requests() {
        for path in [
            "/api/agents/%",
            "/api/agents/%2",
            "/api/agents/%zz",
            "/api/agents/%ff",
            "/api/agents/%00",
            "/api/agents/%%41",
        ] {
            let route = Route::find(path).unwrap();
            assert!(
                route.agent_id().unwrap_err().message.contains("agent_id"),
                "{path}"
            );
        }
    }

    #[test]
    fn only_the_two_lists_may_end_in_a_slash() {
        assert_eq!(Route::find("/api/agents/"), Some(Route::Agents));
        assert_eq!(Route::find("/api/apikeys/"), Some(Route::ApiKeys));
        for path in [
            "/health/",
            "/api/agents//",
            "/api/agents/a/",
            "//health",
            "",
            "/",
            "/api/agents/a/sessions/",
            "/api/agents/a/sessions/t/x",
            "/a/b/c/d/e/f/g",
        ] {
            assert_eq!(Route::find(path), None, "{path}");
        }
    }
}
