//! The one table of endpoints. Routing, `Allow`, access, dispatch and the OpenAPI document come from
//! it.

use std::borrow::Cow;

use http::{HeaderValue, Method, Response};
use percent_encoding::percent_decode_str;

use schemars::{Schema, SchemaGenerator};

use super::accounts::{
    DeleteRequest, LoginRequest, RefreshRequest, RegisterRequest, Registered, ResendRequest,
    Tokens, UpdateRequest, VerifyRequest,
};
use super::agents::{AgentList, Paged, SessionDetail, SessionList, StatusList};
use super::api_keys::{CreateRequest, Created, KeyList};
use super::audit::AuditList;
use super::channels::{ChannelList, ChannelRequest, DeliveryList, Tested};
use super::error::ErrorBody;
use super::events::EventText;
use super::hooks::{HookAnswer, HookPayload};
use super::mcp::JsonRpc;
use super::openapi::{
    AFTER, CURSOR, EXPIRED, HOOK, LIMIT, OpenApi, Parameter, SEARCH, SESSION_SEARCH,
    SESSION_STATUS, STATE, STATUS, TOKEN,
};
use super::operations::Health;
use super::passwords::{ForgotRequest, PasswordRequest, ResetRequest};
use super::reports::Reported;
use super::response::Confirmation;
use super::{Admitted, ApiError, App, FeedOf, Reply};
use crate::account::UserView;
use crate::channel::ChannelView;
use crate::ports::Ports;
use crate::report::RawReport;
use crate::validation::{Rule, storable};
use crate::{Agent, Scope, Status};

/// Who may use an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone; credentials are not looked at.
    Public,
    /// Whoever works in a workspace and has this scope.
    Scope(Scope),
    /// Whoever works in a workspace; what they do there takes scopes.
    Workspace,
    /// Whoever may manage a workspace: the owner of an account by access token, and whoever works in
    /// the shared workspace otherwise than by API key.
    Management,
    /// The owner of an account, by access token.
    Account,
    /// The same, in the workspace that they ask for: their own or the shared one.
    Owner,
}

/// A row of the table.
pub(super) struct Row {
    pub(super) endpoint: Endpoint,
    pub(super) method: Method,
    /// The path. A segment in braces is a parameter.
    pub(super) path: &'static str,
    pub(super) access: Access,
}

/// An endpoint as the OpenAPI document describes it, but for what its access implies.
pub(super) struct Operation {
    pub(super) summary: &'static str,
    pub(super) query: &'static [Parameter],
    pub(super) takes: Option<SchemaOf>,
    pub(super) status: u16,
    pub(super) answers: SchemaOf,
    /// The statuses of errors that not every endpoint has.
    pub(super) fails: &'static [u16],
}

/// The schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// Makes of the table what a row costs nobody else: the enumeration, the rows and the dispatch.
macro_rules! endpoints {
    ($(
        $name:ident: $method:ident $path:literal, $access:expr => $handler:ident,
            $summary:literal
            $(, query $query:expr)?
            $(, takes $takes:ty)?
            , answers $status:literal $answers:ty
            $(, fails $fails:expr)?;
    )*) => {
        /// What a method does on a path.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Endpoint {
            $($name,)*
        }

        pub(super) static TABLE: &[Row] = &[
            $(Row {
                endpoint: Endpoint::$name,
                method: Method::$method,
                path: $path,
                access: $access,
            },)*
        ];

        impl Endpoint {
            /// Its name.
            pub(super) const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($handler),)*
                }
            }

            /// What the OpenAPI document says of it.
            pub(super) fn operation(self) -> Operation {
                match self {
                    $(Self::$name => Operation {
                        summary: $summary,
                        query: optional!(&[] $(, &$query)?),
                        takes: optional!(None $(, Some(SchemaGenerator::subschema_for::<$takes>))?),
                        status: $status,
                        answers: SchemaGenerator::subschema_for::<$answers>,
                        fails: optional!(&[] $(, &$fails)?),
                    },)*
                }
            }
        }

        impl<P: Ports> App<P> {
            /// Answers a request that every gate has let through.
            pub(super) async fn dispatch(
                &self,
                endpoint: Endpoint,
                request: Admitted<'_>,
            ) -> Result<Response<Reply<FeedOf<P>>>, ApiError> {
                // On the heap: the largest future would make every request's as large, and hosts move those.
                match endpoint {
                    $(Endpoint::$name => {
                        let answer = Box::pin(self.$handler(request)).await;
                        answer.map(|response| response.map(Into::into))
                    })*
                }
            }
        }
    };
}

/// What a row gives, or what holds where it gives nothing.
macro_rules! optional {
    ($default:expr) => {
        $default
    };
    ($default:expr, $given:expr) => {
        $given
    };
}

const REPORT: Access = Access::Scope(Scope::Report);
const READ: Access = Access::Scope(Scope::Read);

endpoints! {
    Report: POST "/webhook/status", REPORT => report,
        "Reports the status of a session",
        takes RawReport, answers 200 Reported, fails [409, 429];
    Hook: POST "/hooks/{tool}", REPORT => report_hook,
        "Takes what a coding agent hands to its hooks, and reports what it means",
        query HOOK, takes HookPayload, answers 200 HookAnswer, fails [404, 409, 429];
    Mcp: POST "/mcp", Access::Workspace => mcp,
        "Serves the Model Context Protocol (Streamable HTTP)",
        takes JsonRpc, answers 200 JsonRpc;
    RegisterClient: POST "/register", Access::Public => register_client,
        "Refuses OAuth clients in words that they show: an API key is needed",
        answers 403 ErrorBody<'static>;

    ListAgents: GET "/api/agents", READ => list_agents,
        "Lists agents, last seen first",
        query [SEARCH, STATUS, LIMIT, CURSOR], answers 200 Paged<AgentList>;
    GetAgent: GET "/api/agents/{agent_id}", READ => get_agent,
        "Shows an agent", answers 200 Agent, fails [404];
    ListSessions: GET "/api/agents/{agent_id}/sessions", READ => list_sessions,
        "Lists the sessions of an agent, last updated first",
        query [EXPIRED, LIMIT, CURSOR], answers 200 Paged<SessionList<'static>>, fails [404];
    GetSession: GET "/api/agents/{agent_id}/sessions/{session_topic}", READ => get_session,
        "Shows a session and its history, newest first",
        query [LIMIT, CURSOR], answers 200 Paged<SessionDetail<'static>>, fails [404];
    ListWorkspaceSessions: GET "/api/sessions", READ => list_workspace_sessions,
        "Lists the sessions of all agents, last updated first",
        query [STATE, SESSION_STATUS, SESSION_SEARCH, LIMIT, CURSOR],
        answers 200 Paged<SessionList<'static>>;
    FollowEvents: GET "/api/events", READ => follow_events,
        "Streams the sessions of all agents as they change (Server-Sent Events)",
        query [AFTER], answers 200 EventText, fails [501];
    History: GET "/api/agents/{agent_id}/history", READ => agent_history,
        "Lists the history of an agent over all its sessions, newest first",
        query [LIMIT, CURSOR], answers 200 Paged<StatusList>, fails [404];
    LatestStatus: GET "/api/agents/{agent_id}/status", READ => latest_status,
        "Shows the newest status of an agent", answers 200 Status, fails [404];

    Register: POST "/api/auth/register", Access::Public => register,
        "Registers an account and mails a verification link",
        takes RegisterRequest, answers 201 Registered<'static>, fails [409, 429];
    Verify: GET "/api/auth/verify", Access::Public => verify,
        "Verifies the address of an account and logs it in",
        query [TOKEN], answers 200 Tokens<'static>;
    VerifyByPage: POST "/api/auth/verify", Access::Public => verify_by_page,
        "Verifies the address of an account and logs it in, by cookie if that is asked for",
        takes VerifyRequest, answers 200 Tokens<'static>;
    ResendVerify: POST "/api/auth/resend-verify", Access::Public => resend_verify,
        "Mails a new verification link, if one is awaited",
        takes ResendRequest, answers 200 Confirmation;
    Login: POST "/api/auth/login", Access::Public => login,
        "Logs an account in",
        takes LoginRequest, answers 200 Tokens<'static>, fails [401, 429];
    Refresh: POST "/api/auth/refresh", Access::Public => refresh,
        "Exchanges a refresh token for new tokens",
        takes RefreshRequest, answers 200 Tokens<'static>, fails [401];
    Logout: POST "/api/auth/logout", Access::Account => logout,
        "Revokes every refresh token of the account", answers 200 Confirmation;
    GetMe: GET "/api/auth/me", Access::Account => get_me,
        "Shows the account", answers 200 UserView<'static>;
    PutMe: PUT "/api/auth/me", Access::Account => put_me,
        "Changes the account",
        takes UpdateRequest, answers 200 UserView<'static>;
    DeleteMe: DELETE "/api/auth/me", Access::Account => delete_me,
        "Deletes the account and everything that belongs to it",
        takes DeleteRequest, answers 200 Confirmation, fails [429];
    ChangePassword: POST "/api/auth/password", Access::Account => change_password,
        "Changes the password, and revokes every refresh token of the account",
        takes PasswordRequest, answers 200 Confirmation, fails [429];
    ForgotPassword: POST "/api/auth/forgot", Access::Public => forgot_password,
        "Mails a link to set a new password, if the address is registered",
        takes ForgotRequest, answers 200 Confirmation;
    ResetPassword: POST "/api/auth/reset", Access::Public => reset_password,
        "Sets a new password by a mailed token, and logs the account in",
        takes ResetRequest, answers 200 Tokens<'static>;

    ListApiKeys: GET "/api/apikeys", Access::Account => list_api_keys,
        "Lists the account's API keys, newest first",
        query [LIMIT, CURSOR], answers 200 Paged<KeyList>;
    CreateApiKey: POST "/api/apikeys", Access::Account => create_api_key,
        "Makes an API key; the key is shown once",
        takes CreateRequest, answers 201 Created<'static>, fails [409];
    RevokeApiKey: DELETE "/api/apikeys/{id}", Access::Account => revoke_api_key,
        "Revokes an API key", answers 200 Confirmation, fails [404];

    ListAudit: GET "/api/audit", Access::Owner => list_audit,
        "Lists who did what to the account, or to the channels of the shared workspace, newest first",
        query [LIMIT, CURSOR], answers 200 Paged<AuditList>;

    ListChannels: GET "/api/channels", Access::Management => list_channels,
        "Lists the workspace's channels, oldest first", answers 200 ChannelList<'static>;
    CreateChannel: POST "/api/channels", Access::Management => create_channel,
        "Makes a channel, which is told of what becomes of sessions; `name` and `url` are required",
        takes ChannelRequest, answers 201 ChannelView<'static>, fails [409];
    UpdateChannel: PUT "/api/channels/{id}", Access::Management => update_channel,
        "Changes a channel; what is not given stays as it is",
        takes ChannelRequest, answers 200 ChannelView<'static>, fails [404];
    DeleteChannel: DELETE "/api/channels/{id}", Access::Management => delete_channel,
        "Deletes a channel", answers 200 Confirmation, fails [404];
    TestChannel: POST "/api/channels/{id}/test", Access::Management => test_channel,
        "Sends a sample to a channel, and waits for what comes of it",
        answers 200 Tested, fails [404, 429];
    ListDeliveries: GET "/api/channels/{id}/deliveries", Access::Management => list_deliveries,
        "Lists what a channel was told and is to be told, newest first",
        answers 200 DeliveryList, fails [404];

    OpenApi: GET "/api/openapi.json", Access::Public => openapi,
        "Shows this document", answers 200 OpenApi;
    Health: GET "/health", Access::Public => health,
        "Says that the process lives", answers 200 Health;
    Ready: GET "/ready", Access::Public => ready,
        "Says that the server can do its work: storage answers", answers 200 Health;
}

impl Endpoint {
    /// Checks whether the endpoint answers with a page of a list.
    pub(super) fn is_list(self) -> bool {
        let mut query = self.operation().query.iter();
        query.any(|parameter| parameter.name == CURSOR.name)
    }

    /// Checks whether its answer depends on nothing but the workspace, the path and the query, and whether it
    /// is worth sharing among those who ask for it at once.
    pub(super) fn is_coalesced(self) -> bool {
        matches!(
            self,
            Self::ListAgents
                | Self::ListSessions
                | Self::GetSession
                | Self::ListWorkspaceSessions
                | Self::History
        )
    }
}

impl Row {
    /// The names of the parameters in the path.
    pub(super) fn placeholders(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(placeholder)
    }

    /// Whether its answer has an `ETag`, and is left out when the client has it: what there is to read
    /// in a workspace or an account.
    pub(super) fn is_conditional(&self) -> bool {
        self.method == Method::GET && self.access != Access::Public && !self.is_stream()
    }

    /// Whether its answer has no end.
    pub(super) fn is_stream(&self) -> bool {
        self.endpoint == Endpoint::FollowEvents
    }

    /// Whether `HEAD` does here what `GET` does: everywhere but where it would spend a token.
    fn takes_head(&self) -> bool {
        self.method == Method::GET && self.endpoint != Endpoint::Verify
    }
}

/// A path that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route<'p> {
    /// As in the table.
    pattern: &'static str,
    /// As requested, its parameters still encoded.
    path: &'p str,
}

impl<'p> Route<'p> {
    /// The route of a path. Segments are told apart before they are decoded, so that an encoded
    /// slash is a part of a name.
    pub(super) fn find(path: &'p str) -> Option<Self> {
        let path = match path {
            "/api/agents/" | "/api/apikeys/" | "/mcp/" => path.trim_end_matches('/'),
            _ => path,
        };
        let row = TABLE.iter().find(|row| matches(row.path, path))?;
        Some(Self {
            pattern: row.path,
            path,
        })
    }

    /// The rows of this path.
    fn rows(self) -> impl Iterator<Item = &'static Row> {
        TABLE.iter().filter(move |row| row.path == self.pattern)
    }

    /// What a method does here.
    pub(super) fn row(self, method: &Method) -> Option<&'static Row> {
        self.rows().find(|row| match *method {
            Method::HEAD => row.takes_head(),
            _ => row.method == *method,
        })
    }

    /// Checks whether this is the path of an endpoint.
    pub(super) fn leads_to(self, endpoint: Endpoint) -> bool {
        self.rows().any(|row| row.endpoint == endpoint)
    }

    /// The name that the parameter stands for.
    pub(super) fn parameter(self, name: &'static str) -> Result<String, ApiError> {
        let segments = self.pattern.split('/').zip(self.path.split('/'));
        let segment = segments
            .filter_map(|(pattern, segment)| {
                (placeholder(pattern) == Some(name)).then_some(segment)
            })
            .next();
        match segment {
            Some(segment) => decode(name, segment),
            None => Err(ApiError::internal(format!(
                "{} has no parameter {name}",
                self.pattern
            ))),
        }
    }
}

/// The value of `Allow` on a path that has endpoints, is one of the page's, or both.
pub(super) fn allow(route: Option<Route<'_>>, is_page: bool) -> HeaderValue {
    let mut methods = match is_page {
        true => vec!["GET", "HEAD"],
        false => Vec::new(),
    };
    for row in route.iter().flat_map(|route| route.rows()) {
        methods.push(row.method.as_str());
        if row.takes_head() {
            methods.push("HEAD");
        }
    }
    methods.push("OPTIONS");
    // The names of methods are ASCII.
    HeaderValue::try_from(methods.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"))
}

/// Checks whether a path has the form of a pattern. No segment of either is empty.
fn matches(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    pattern.split('/').all(|expected| {
        segments
            .next()
            .is_some_and(|segment| match placeholder(expected) {
                Some(_) => !segment.is_empty(),
                None => segment == expected,
            })
    }) && segments.next().is_none()
}

/// The name in a segment of a pattern that is a parameter.
fn placeholder(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
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
            assert_eq!(route.parameter("agent_id").unwrap(), agent, "{path}");
        }
        let session = Route::find("/api/agents/a/sessions/b%2Fsessions%2Fc").unwrap();
        assert_eq!(session.parameter("session_topic").unwrap(), "b/sessions/c");
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
                route
                    .parameter("agent_id")
                    .unwrap_err()
                    .message
                    .contains("agent_id"),
                "{path}"
            );
        }
    }

    #[test]
    fn only_the_two_lists_and_mcp_may_end_in_a_slash() {
        for path in ["/api/agents", "/api/apikeys", "/mcp"] {
            assert_eq!(Route::find(&format!("{path}/")), Route::find(path));
            assert!(Route::find(path).is_some());
        }
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

    #[test]
    fn no_row_hides_another() {
        for row in TABLE {
            let path = row.path.replace(['{', '}'], "");
            let route = Route::find(&path).unwrap();
            assert_eq!(route.row(&row.method).unwrap().endpoint, row.endpoint);
        }
    }

    #[test]
    fn allow_lists_the_methods_of_every_row_of_the_path() {
        for (path, methods) in [
            ("/health", "GET, HEAD, OPTIONS"),
            ("/api/auth/verify", "GET, POST, OPTIONS"),
            ("/api/auth/me", "GET, HEAD, PUT, DELETE, OPTIONS"),
            ("/api/apikeys", "GET, HEAD, POST, OPTIONS"),
            ("/api/apikeys/x", "DELETE, OPTIONS"),
            ("/mcp", "POST, OPTIONS"),
        ] {
            let route = Route::find(path).unwrap();
            assert_eq!(allow(Some(route), false), methods, "{path}");
        }
        let route = Route::find("/register").unwrap();
        assert_eq!(allow(Some(route), true), "GET, HEAD, POST, OPTIONS");
    }
}
