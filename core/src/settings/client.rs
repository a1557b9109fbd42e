//! The settings of commands that talk to a server, such as `kubeagents mcp`.

use std::collections::BTreeSet;

use http::HeaderValue;

use super::Unset::{Described, Nothing, Value};
use super::setting::{self, settings};
use super::{Host, Setting, SettingError, Texts, parse};
use crate::hook::Detail;

const NATIVE: &[Host] = &[Host::Native];

settings! {
    /// The settings of commands that talk to a server, in the order in which they are documented.
    static CLIENT_SETTINGS;

    /// What the settings of a command that talks to a server are set to.
    struct ClientValues;

    /// Server that reports go to.
    server_url: String = "KUBEAGENTS_SERVER_URL", parse::server_url, Value("http://localhost:8080"),
        NATIVE;

    /// API key, or another bearer token, for that server.
    api_key: Option<HeaderValue> = "KUBEAGENTS_API_KEY", parse::bearer, Nothing, NATIVE, secret;

    /// Name of this machine in reports.
    host: Option<String> = "KUBEAGENTS_HOST", parse::machine, Described("the machine's own"), NATIVE;

    /// How much hooks tell of what agents do: full, title (no arguments, no messages) or none (status and
    /// reason only). The server has the same setting, and the lesser of both counts.
    hook_detail: Detail = "HOOK_DETAIL", parse::hook_detail, Value("full"), NATIVE;

    /// Whether open sessions are kept alive by repeating their last status before they expire, and
    /// reported as failed when the client goes away.
    auto_report: bool = "KUBEAGENTS_AUTO_REPORT_ENABLED", parse::switch, Value("false"), NATIVE;
}
