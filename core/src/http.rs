//! The HTTP contract: from a request to a whole response.

mod access_line;
mod accounts;
mod agents;
mod api_keys;
mod audit;
mod body;
mod channels;
mod client;
mod coalescing;
mod cookie;
mod cors;
mod credentials;
mod endpoints;
mod error;
mod events;
mod hooks;
mod host;
mod known_accounts;
mod limits;
mod mcp;
mod openapi;
mod operations;
mod origin;
mod outage;
mod page;
mod passwords;
mod precedence;
mod reports;
mod request_id;
mod response;
mod shares;
mod trace;
mod turns;
mod unsent;

use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, ORIGIN};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use serde::de::DeserializeOwned;
use tracing::Instrument;
use url::Url;

pub use access_line::{AccessLine, Answered};
pub(crate) use accounts::{check_password, check_registration};
pub use body::{BodyTimeout, MAX_BODY_BYTES, body_patience};
pub use events::{EventStream, Reply};
pub use openapi::document as openapi_document;
pub(crate) use openapi::schema;
pub use operations::{Crowded, Stopping};
pub use outage::Outage;
pub use request_id::RequestId;
pub use trace::Outcome;

use crate::audit::Actor;
use crate::json;
use crate::ports::{Clock, Events, Ports};
use crate::settings::{CorsPolicy, is_ip_authority, is_loopback_authority, is_origin_of};
use crate::token::TokenSigner;
use crate::validation::storable;
use crate::{AuthMode, Limit, Scope, Settings, Timestamp, Workspace};
use body::{Received, Standing};
use client::Client;
pub use client::Peer;
pub(crate) use client::network;
use coalescing::Coalescing;
use cookie::CookieNames;
use credentials::Caller;
use endpoints::{Access, Endpoint, Route, Row};
use error::ApiError;
use known_accounts::KnownAccounts;
use limits::ReportRate;
pub use origin::Encrypted;
use precedence::Precedence;
use request_id::RequestIds;
use response::Answer;
use shares::Shares;
use trace::{Pseudonyms, Trace};
use turns::{Impatient, PATIENCE, Turn, Turns};

/// How long an answer is kept back that was made and then found no room. The turn at reading that it
/// took is not over before: a thousand of them at once would keep everybody else waiting.
const IN_VAIN: Duration = Duration::from_millis(100);

/// The application: answers requests by the contract, on the host's ports.
pub struct App<P> {
    ports: P,
    settings: Settings,
    cors: CorsPolicy,
    signer: TokenSigner,
    cookie_names: CookieNames,
    bodies: Shares,
    turns: Turns<Workspace>,
    precedence: Precedence,
    coalescing: Coalescing<Answer>,
    /// Turns at the passwords of one address, for each client.
    attempts: Turns<(String, IpAddr)>,
    known_accounts: KnownAccounts,
    unsent: Shares,
    pseudonyms: Pseudonyms,
    request_ids: RequestIds,
    report_rate: Option<ReportRate>,
    /// True once the log has said that clients behind a proxy count as one.
    warned_of_hidden: AtomicBool,
}

/// What a reader of a host's live events gets.
type FeedOf<P> = <<P as Ports>::Events as Events>::Feed;

/// A request that has passed every gate before its body's.
struct Admitted<'r> {
    parts: &'r Parts,
    route: Route<'r>,
    caller: Caller,
    client: Client,
    body: Received,
    trace: &'r Trace,
}

impl Admitted<'_> {
    /// The fields of the body, a JSON object.
    fn fields<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        self.fields_or("invalid request body")
    }

    /// The same. Where they cannot be read, the reason follows this.
    fn fields_or<T: DeserializeOwned>(&self, refusal: &str) -> Result<T, ApiError> {
        json::parse(&self.body).map_err(|error| {
            let content_type = self.parts.headers.get(CONTENT_TYPE);
            let reason = body::explain::<T>(&self.body, content_type, &error);
            ApiError::bad_request(format!("{refusal}: {reason}"))
        })
    }

    /// The name that a parameter of the path stands for. Where its segment is blank, which no name is, the
    /// query has it: browsers and proxies resolve `.` and `..` in paths, encoded too.
    fn name(&self, parameter: &'static str) -> Result<String, ApiError> {
        let written = self.route.parameter(parameter)?;
        if !written.trim().is_empty() {
            return Ok(written);
        }
        let name = query_parameter(&self.parts.uri, parameter).unwrap_or(written);
        storable(parameter, &name)?;
        Ok(name)
    }
}

impl<P: Ports> App<P> {
    /// An application with this configuration.
    pub fn new(ports: P, settings: Settings) -> Self {
        Self {
            request_ids: RequestIds::new(ports.entropy()),
            precedence: Precedence::new(ports.reads_beside_reports(), ports.has_siblings()),
            ports,
            cors: settings.cors_policy(),
            signer: TokenSigner::new(&settings.jwt_secret),
            cookie_names: CookieNames::new(&settings.jwt_secret),
            bodies: Shares::new(body::BUDGET_BYTES),
            turns: Turns::new(settings.values.reads_in_flight as usize),
            coalescing: Coalescing::default(),
            attempts: Turns::new(1),
            known_accounts: KnownAccounts::default(),
            unsent: Shares::new(unsent::BUDGET_BYTES),
            pseudonyms: Pseudonyms::new(&settings.jwt_secret),
            report_rate: ReportRate::new(&settings),
            warned_of_hidden: AtomicBool::new(false),
            settings,
        }
    }

    /// The host's ports.
    pub fn ports(&self) -> &P {
        &self.ports
    }

    /// The configuration.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Answers one request. The body is read only once the request has passed every gate before
    /// it, and at most [`MAX_BODY_BYTES`] of it; the caller disposes of the rest.
    ///
    /// The answer is whole and carries its `Content-Length`, or it is a stream of events; the answer
    /// to `HEAD` has no body and the length that `GET`'s would have. Its extensions have the
    /// [`Outcome`].
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Reply<FeedOf<P>>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let target = resolve(&self.cors, self.settings.values.dashboard_enabled, &parts);
        let id = self.request_ids.of(&parts.headers);
        let trace = Trace::begin(id, &parts, endpoint_name(&target));
        let span = trace.span.clone();
        let answering = async {
            let answer = match self.check_page(&parts) {
                Err(error) => Err(error),
                Ok(()) => self.answer(&parts, target, body, &trace).await,
            };
            conclude(&self.cors, &parts, answer, trace)
        };
        answering.instrument(span).await
    }

    async fn answer<B>(
        &self,
        parts: &Parts,
        target: Result<Target<'_>, ApiError>,
        body: B,
        trace: &Trace,
    ) -> Result<Response<Reply<FeedOf<P>>>, ApiError>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let is_crowded = parts.extensions.get::<Crowded>().is_some();
        let (route, row) = match target? {
            Target::Answered(response) => return Ok(response.map(Reply::Whole)),
            Target::Endpoint(route, row) if row.endpoint == Endpoint::Health => (route, row),
            _ if is_crowded => {
                return Err(ApiError::overloaded(
                    Limit::Connections,
                    "too many connections, try again",
                ));
            }
            Target::Page(file) => {
                let page = page::serve(file, &parts.headers)?;
                return Ok(page.map(Reply::Whole));
            }
            Target::Endpoint(route, row) => (route, row),
        };
        if row.endpoint == Endpoint::Mcp && self.settings.mode != AuthMode::Open {
            cors::check_origin(&self.cors, parts.headers.get(ORIGIN))?;
        }
        let admitted = self.now();
        let mut caller = self.admit(parts, row.access).await?;
        let trusted = self.settings.values.trusted_proxies.as_ref();
        let client = Client::of(&parts.extensions, &parts.headers, trusted);
        let mut drawn = Vec::new();
        if row.endpoint == Endpoint::Register {
            if !self.settings.values.registration_enabled {
                return Err(ApiError::registration_disabled());
            }
            drawn = self.draw_registration(client).await?;
        }
        if row.access == Access::Scope(Scope::Report) {
            self.draw_report(&caller.workspace, admitted)?;
        }
        let standing = match row.access {
            Access::Public => Standing::Public,
            _ if row.endpoint == Endpoint::Hook => Standing::Hook,
            _ => Standing::Admitted,
        };
        let workspace = caller.workspace.clone();
        if row.access != Access::Public {
            trace.note_workspace(&self.pseudonyms, &workspace);
        }
        let owner = (row.access != Access::Public).then(|| workspace.clone());
        let body = body::read(body, standing, self.bodies.open(owner.clone())).await?;
        if self.now() - admitted >= known_accounts::LIFETIME {
            // Minutes may have passed with a slow body, and the key or the account may be gone.
            caller = self.admit(parts, row.access).await?;
        }
        let request = Admitted {
            parts,
            route,
            caller,
            client,
            body,
            trace,
        };
        let reporting =
            (row.access == Access::Scope(Scope::Report)).then(|| self.precedence.report());
        // Kept until the answer has found room, or has been made in vain.
        let mut turn = None;
        let answering = async {
            if row.endpoint.is_list() {
                // Whoever still sends a body, which these need not have, takes no turn from others.
                turn = self.turn(&workspace).await?;
            }
            self.dispatch(row.endpoint, request).await
        };
        let answer = match row.endpoint.is_coalesced() {
            true => Box::pin(self.coalesced(&workspace, &parts.uri, answering)).await,
            false => answering.await,
        };
        drop(reporting);
        if answer.as_ref().is_err_and(ApiError::is_bad_request) {
            // Nothing has come of it.
            self.put_back(drawn).await;
        }
        let response = answer?;
        let (head, reply) = response.into_parts();
        match reply {
            Reply::Whole(bytes) => {
                let mut response = Response::from_parts(head, bytes);
                if row.is_conditional() {
                    response = response::conditional(&parts.headers, response);
                }
                Ok(self.hold(owner, response).await?.map(Reply::Whole))
            }
            stream => Ok(Response::from_parts(head, stream)),
        }
    }

    /// The answer to a request for a list, which others who ask for the same at once may share. So may they
    /// the room that it takes up until it is sent.
    async fn coalesced(
        &self,
        workspace: &Workspace,
        uri: &Uri,
        answering: impl Future<Output = Result<Response<Reply<FeedOf<P>>>, ApiError>>,
    ) -> Result<Response<Reply<FeedOf<P>>>, ApiError> {
        let read = async {
            let (head, reply) = answering.await?.into_parts();
            let whole = reply
                .whole()
                .ok_or_else(|| ApiError::internal("an endless list"))?;
            self.hold(Some(workspace.clone()), Response::from_parts(head, whole))
                .await
        };
        let target = uri.path_and_query().map_or("", PathAndQuery::as_str);
        let question = (workspace.clone(), target.to_owned());
        let patience = self.ports.pause(coalescing::PATIENCE);
        let answer = self.coalescing.answer(question, patience, read).await;
        answer.map(|response| response.map(Reply::Whole))
    }

    /// The answer with the room that it takes up until it is sent.
    async fn hold(&self, owner: Option<Workspace>, response: Response<Bytes>) -> Answer {
        let held = unsent::hold(self.unsent.open(owner), response);
        if held.is_err() {
            // It was made in vain, and the next turn is likely to be as well.
            self.ports.pause(IN_VAIN).await;
        }
        held
    }

    async fn admit(&self, parts: &Parts, access: Access) -> Result<Caller, ApiError> {
        match access {
            Access::Public => Ok(Caller::anonymous()),
            Access::Scope(scope) => {
                let caller = self.authenticate(parts).await?;
                match caller.scopes.contains(scope) {
                    true => Ok(caller),
                    false => Err(ApiError::missing_scope(scope)),
                }
            }
            Access::Workspace => self.authenticate(parts).await,
            Access::Management => {
                let caller = self.authenticate(parts).await?;
                match caller.actor {
                    Actor::ApiKey => Err(ApiError::forbidden("API keys cannot manage channels")),
                    _ => Ok(caller),
                }
            }
            Access::Account => self.authenticate_account(&parts.headers).await,
            Access::Owner => self.authenticate_owner(parts).await,
        }
    }

    /// Waits for a turn at reading a list of this workspace. It ends with the answer.
    async fn turn(&self, workspace: &Workspace) -> Result<Option<Turn<Workspace>>, ApiError> {
        let turn = self.turns.wait(workspace, self.ports.pause(PATIENCE)).await;
        turn.map_err(|Impatient| ApiError::too_many_reads())
    }

    fn now(&self) -> Timestamp {
        crate::time::truncate(self.ports.clock().now())
    }

    /// Refuses what only a page that its visitor does not know to be at work sends in open mode,
    /// where nobody is asked for credentials: a request under a name that is not the server's (a
    /// rebound DNS name), and a change asked for by a page that may not use the server (which needs
    /// no preflight for text). Probes ask by address and are let through.
    fn check_page(&self, parts: &Parts) -> Result<(), ApiError> {
        let host = host::asked(parts)?;
        let is_preflight = parts.method == Method::OPTIONS && parts.headers.contains_key(ORIGIN);
        let is_probe = matches!(parts.uri.path(), "/health" | "/ready");
        if self.settings.mode != AuthMode::Open || is_preflight || is_probe {
            return Ok(());
        }
        let is_own_name = self.is_own_name(host);
        if self.settings.loopback_only && !is_own_name {
            return Err(ApiError::forbidden(
                "host is not allowed: the setting ALLOWED_HOSTS names those that are",
            ));
        }
        let changes = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let Some(origin) = parts.headers.get(ORIGIN).filter(|_| changes) else {
            return Ok(());
        };
        let is_own_page = (is_own_name || is_ip_authority(host))
            && origin.to_str().is_ok_and(|origin| {
                is_origin_of(origin, host) && origin::may_have_scheme(parts, origin)
            });
        // Inspectors of the Model Context Protocol are pages of this machine.
        let is_local_tool = || {
            Route::find(parts.uri.path()).is_some_and(|route| route.leads_to(Endpoint::Mcp))
                && cors::allows(&CorsPolicy::Loopback, Some(origin))
        };
        match is_own_page || cors::allows(&self.cors, Some(origin)) || is_local_tool() {
            true => Ok(()),
            false => Err(ApiError::origin_not_allowed()),
        }
    }

    /// The address that links in mails begin with: the one that is configured, or the instance's own.
    /// Where that is unknown, it is what the request asks for under a name that the server is known to
    /// have: any other name may be made up by who wants to be sent the links of others.
    fn page_url(&self, request: &Admitted<'_>) -> String {
        let Settings {
            values, own_url, ..
        } = &self.settings;
        if let Some(url) = values.app_base_url.as_ref().or(own_url.as_ref()) {
            return url.clone();
        }
        let (parts, client) = (request.parts, request.client);
        let host = host::asked(parts).unwrap_or_default();
        let scheme = match origin::is_secure(parts, client) {
            true => "https",
            false => "http",
        };
        let asked = Some(host)
            .filter(|host| self.is_own_name(host))
            .and_then(|host| Url::parse(&format!("{scheme}://{host}")).ok());
        match asked {
            Some(url) => url.origin().ascii_serialization(),
            None => format!("http://localhost:{}", self.settings.host.usual_port()),
        }
    }

    /// Checks whether `host[:port]` is a name under which the server is known to be reached.
    fn is_own_name(&self, host: &str) -> bool {
        let allowed = self.settings.values.allowed_hosts.as_ref();
        is_loopback_authority(host) || allowed.is_some_and(|names| names.contains(host))
    }
}

/// What the first gates, which need nothing but the request's head, make of it.
enum Target<'p> {
    /// It is answered already.
    Answered(Response<Bytes>),
    /// It asks for a file of the page.
    Page(&'static page::File),
    /// It goes on.
    Endpoint(Route<'p>, &'static Row),
}

/// `dashboard`: whether the page is served.
fn resolve<'p>(
    cors: &CorsPolicy,
    dashboard: bool,
    parts: &'p Parts,
) -> Result<Target<'p>, ApiError> {
    let path = parts.uri.path();
    let route = Route::find(path);
    let file = dashboard.then(|| page::find(path)).flatten();
    let origin = parts.headers.get(ORIGIN);
    if parts.method == Method::OPTIONS && origin.is_some() {
        return Ok(Target::Answered(cors::preflight(cors, origin, route)));
    }
    if route.is_none() && file.is_none() {
        return Err(ApiError::unknown_route());
    }
    let allow = || endpoints::allow(route, file.is_some());
    if parts.method == Method::OPTIONS {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(ALLOW, allow());
        return Ok(Target::Answered(response));
    }
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    if let Some(file) = file.filter(|_| is_read) {
        return Ok(Target::Page(file));
    }
    let row = route.and_then(|route| Some((route, route.row(&parts.method)?)));
    match row {
        Some((route, row)) => Ok(Target::Endpoint(route, row)),
        None => Err(ApiError::method_not_allowed(allow())),
    }
}

/// What the [`Outcome`] calls the endpoint that a request leads to.
fn endpoint_name(target: &Result<Target<'_>, ApiError>) -> &'static str {
    match target {
        Ok(Target::Endpoint(_, row)) => row.endpoint.name(),
        Ok(Target::Page(_)) => "page",
        Ok(Target::Answered(_)) => "options",
        Err(_) => "none",
    }
}

/// Makes an answer what the contract wants every answer to be. Logs errors.
fn conclude<F>(
    cors: &CorsPolicy,
    parts: &Parts,
    answer: Result<Response<Reply<F>>, ApiError>,
    trace: Trace,
) -> Response<Reply<F>> {
    let (mut response, code) = match answer {
        Ok(response) => (response, None),
        Err(error) => {
            error.log(&parts.uri);
            if let Some(limit) = error.limit() {
                trace.note_limit(limit);
            }
            let response = error.response(&parts.uri).map(Reply::Whole);
            (response, Some(error.code()))
        }
    };
    cors::decorate(cors, parts.headers.get(ORIGIN), response.headers_mut());
    trace.end(&mut response, code);
    let (head, reply) = response.into_parts();
    match reply {
        Reply::Whole(bytes) => {
            let response = Response::from_parts(head, bytes);
            response::finish(&parts.method, response).map(Reply::Whole)
        }
        stream => Response::from_parts(head, stream),
    }
}

/// The first value of a query parameter, decoded.
fn query_parameter(uri: &Uri, name: &str) -> Option<String> {
    url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}
