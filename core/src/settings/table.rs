//! The table.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use chrono::TimeDelta;

use super::Unset::{Described, Nothing, Value};
use super::setting::{self, settings};
use super::{
    AllowedHost, AuthMode, CorsPolicy, DatabaseUrl, Host, HostNames, Members, Networks, Setting,
    SettingError, Texts, parse,
};
use crate::hook::Detail;
use crate::report::MAX_TTL_MINUTES;
use crate::{Events, Format};

const EVERY: &[Host] = &[Host::Native, Host::Spin, Host::Wasmcloud];
const NATIVE: &[Host] = &[Host::Native];
const NATIVE_AND_SPIN: &[Host] = &[Host::Native, Host::Spin];
const SPIN: &[Host] = &[Host::Spin];
const WASMCLOUD: &[Host] = &[Host::Wasmcloud];

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of text for each event.
    Text,
    /// A JSON object on a line for each event.
    Json,
}

/// Where the component on wasmCloud keeps its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// In the platform's key-value store.
    KeyValue,
    /// In PostgreSQL.
    Postgres,
}

settings! {
    /// The settings of a server, in the order in which they are documented.
    static SETTINGS;

    /// What the settings of a server are set to.
    struct Values;

    /// IP address to listen on, or `localhost`.
    host: IpAddr = "HOST", parse::listen_address, Value("127.0.0.1"), NATIVE;

    /// TCP port to listen on; 0: any free one, which the log names.
    port: u16 = "PORT", |text| parse::port(text, 0), Value("8080"), NATIVE;

    /// File with the server's certificate in PEM, followed by those of its authorities, if any. With it the
    /// server speaks HTTPS. It is read again when it changes.
    tls_cert_file: Option<String> = "TLS_CERT_FILE", parse::text, Nothing, NATIVE;

    /// File with the private key of that certificate in PEM, without a passphrase.
    tls_key_file: Option<String> = "TLS_KEY_FILE", parse::text, Nothing, NATIVE;

    /// How long a connection may be idle between requests, in seconds (1-3600). Load balancers should
    /// give up theirs sooner.
    keep_alive: Duration = "KEEP_ALIVE_SECONDS", |text| parse::seconds(text, 1..=3600), Value("620"),
        NATIVE;

    /// How long the server still accepts requests after SIGTERM, in seconds (0-300), while `/ready`
    /// answers 503: the time that load balancers take to notice.
    shutdown_delay: Duration = "SHUTDOWN_DELAY_SECONDS", |text| parse::seconds(text, 0..=300),
        Value("0"), NATIVE;

    /// Address to serve metrics on, at `/metrics` for Prometheus: `127.0.0.1:9464`, `0.0.0.0:9464`. Whoever
    /// reaches it reads them. Port 0: any free one, which the log names.
    metrics_address: Option<SocketAddr> = "METRICS_ADDRESS", parse::socket_address, Nothing, NATIVE;

    /// `open`: anyone may report and read; `required`: credentials are needed, and each account has
    /// a workspace of its own.
    auth_mode: Option<AuthMode> = "AUTH_MODE", parse::auth_mode,
        Described("`required`; `open` on the native server with HOST loopback and storage in memory or SQLite"), EVERY;

    /// Static key of the shared workspace, at least 16 characters.
    kubeagents_api_key: Option<String> = "KUBEAGENTS_API_KEY", parse::static_key, Nothing, EVERY,
        secret;

    /// Web pages that may use the server: `*`, or origins such as `https://app.example.com` or
    /// `https://*.example.com` with commas between them.
    cors_allowed_origins: Option<CorsPolicy> = "CORS_ALLOWED_ORIGINS", CorsPolicy::parse,
        Described("`*` in required mode, loopback origins in open mode"), EVERY;

    /// Names under which the server is reached besides its address, such as
    /// `kubeagents.example.com`, with commas between them: in open mode other names are refused
    /// where the server listens on loopback or cannot know where it listens.
    allowed_hosts: Option<HostNames> = "ALLOWED_HOSTS", HostNames::parse, Nothing, EVERY;

    /// Whether new accounts may register.
    registration_enabled: bool = "REGISTRATION_ENABLED", parse::switch, Value("true"), EVERY;

    /// Accounts that may work in the shared workspace too, by verified e-mail addresses or their
    /// domains: `ann@example.com, @example.org`.
    shared_workspace_members: Option<Members> = "SHARED_WORKSPACE_MEMBERS", Members::parse, Nothing,
        EVERY;

    /// Failed passwords for one e-mail address from one client address in a minute, and ten times as
    /// many from all clients together; 0: any number.
    login_attempts_per_minute: u32 = "LOGIN_ATTEMPTS_PER_MINUTE", parse::limit, Value("10"), EVERY;

    /// Registrations from one client address in an hour, loopback excepted; 0: any number.
    registrations_per_hour: u32 = "REGISTRATIONS_PER_HOUR", parse::limit, Value("20"),
        NATIVE_AND_SPIN;

    /// Mails with links to one e-mail address in an hour; 0: any number.
    verification_mails_per_hour: u32 = "VERIFICATION_MAILS_PER_HOUR", parse::limit, Value("5"),
        EVERY;

    /// Addresses or networks of proxies whose `X-Forwarded-For` is believed, with commas between them:
    /// `127.0.0.1, 10.0.0.0/8`.
    trusted_proxies: Option<Networks> = "TRUSTED_PROXIES", Networks::parse, Nothing,
        NATIVE_AND_SPIN;

    /// How long a session lives without a report when its first report names no TTL, in minutes
    /// (1-1440).
    default_ttl_minutes: u32 = "DEFAULT_TTL_MINUTES",
        |text| parse::number(text, "number of minutes", 1..=MAX_TTL_MINUTES), Value("60"), EVERY;

    /// The most that is stored in memory, in MiB, where the state is there; 0: any amount. Sessions that
    /// ended or expired make room, then old statuses; then new agents and sessions are refused.
    max_memory_mib: u32 = "MAX_MEMORY_MIB", |text| parse::number(text, "number of MiB", 0..=16_777_216),
        Value("1024"), NATIVE;

    /// The most statuses that the history of a session keeps; 0: all. Older ones go first.
    max_history_per_session: u32 = "MAX_HISTORY_PER_SESSION", parse::limit, Value("0"), EVERY;

    /// How much of what coding agents hand to their hooks is kept: `full`, `title` (no messages and
    /// arguments) or `none` (status and reason only). Known secrets are cut out in any case.
    hook_detail: Detail = "HOOK_DETAIL", parse::hook_detail, Value("full"), EVERY;

    /// The most lists and histories of one workspace that are read at once; 0: any number. More wait
    /// their turn, for 5 seconds at most. Those who ask for the same at once may share a reading, which
    /// counts once.
    reads_in_flight: u32 = "READS_IN_FLIGHT", |text| parse::number(text, "number", 0..=10_000),
        Value("8"), EVERY;

    /// Reports of one workspace in a minute to one host, where AUTH_MODE is `required`; a minute's
    /// worth may come at once. 0: any number.
    reports_per_minute: u32 = "REPORTS_PER_MINUTE", |text| parse::number(text, "number", 0..=60_000_000),
        Value("60000"), EVERY;

    /// The most agents of one workspace, beyond which no new one is registered; 0: any number.
    max_agents: u32 = "MAX_AGENTS", parse::quota, Value("100000"), EVERY;

    /// The most sessions of one agent, beyond which no new one is opened; 0: any number.
    max_sessions_per_agent: u32 = "MAX_SESSIONS_PER_AGENT", parse::quota, Value("100000"), EVERY;

    /// URL notified of status changes in the shared workspace.
    notification_webhook_url: Option<String> = "NOTIFICATION_WEBHOOK_URL", parse::webhook_url,
        Nothing, EVERY, secret;

    /// Form of these notifications, such as `slack`, `feishu` or `webhook`. A plain address gets the
    /// form of the Go server.
    notification_webhook_format: Option<Format> = "NOTIFICATION_WEBHOOK_FORMAT", parse::format,
        Described("found from the URL's host; plain for one that is not known"), EVERY;

    /// What signs or admits these notifications, as the form wants it.
    notification_webhook_secret: Option<String> = "NOTIFICATION_WEBHOOK_SECRET", parse::text, Nothing,
        EVERY, secret;

    /// What these notifications tell, with commas between: `started`, `waiting`, `failed`, `finished`,
    /// `silent`, `recovered`. For a form that is not plain.
    notification_events: Option<Events> = "NOTIFICATION_EVENTS", parse::events,
        Described("all but `started`"), EVERY;

    /// How long one attempt at a notification may take, in seconds (1-60).
    notification_timeout: Duration = "NOTIFICATION_TIMEOUT_SECONDS",
        |text| parse::seconds(text, 1..=60), Value("5"), EVERY;

    /// Whether notifications may go to private and loopback addresses. Link-local and metadata
    /// addresses are refused in any case.
    notification_allow_private_addresses: Option<bool> = "NOTIFICATION_ALLOW_PRIVATE_ADDRESSES",
        parse::switch, Described("`true` in open mode, else `false`"), NATIVE;

    /// One more place that notifications may go to, beside any `https` one:
    /// `http://chat.internal:8080`.
    notification_host: AllowedHost = "NOTIFICATION_HOST", AllowedHost::receiver,
        Value("https://*:*"), SPIN;

    /// Whether the server shows its page, the dashboard.
    dashboard_enabled: bool = "DASHBOARD_ENABLED", parse::switch, Value("true"), EVERY;

    /// Address of the page, under which people reach it: links in mails begin with it. Needed behind a
    /// proxy and on components.
    app_base_url: Option<String> = "APP_BASE_URL", parse::base_url,
        Described("the server's own address"), EVERY;

    /// Secret that signs tokens, at least 32 bytes.
    jwt_secret: Option<String> = "JWT_SECRET", parse::jwt_secret,
        Described("generated, and kept in storage"), EVERY, secret;

    /// How long an access token works (`90s`, `15m`, `1h30m`).
    jwt_access_token_expiry: TimeDelta = "JWT_ACCESS_TOKEN_EXPIRY", parse::expiry, Value("15m"),
        EVERY;

    /// How long a refresh token works.
    jwt_refresh_token_expiry: TimeDelta = "JWT_REFRESH_TOKEN_EXPIRY", parse::expiry, Value("168h"),
        EVERY;

    /// Address of a database, `postgres://user:password@host:5432/database`, or on the native server
    /// `sqlite:kubeagents.db`. Without it, Spin has its SQLite, and the native server memory, unless
    /// a DB_ variable is set.
    database_url: Option<DatabaseUrl> = "DATABASE_URL", DatabaseUrl::parse, Nothing,
        NATIVE_AND_SPIN, secret;

    /// Where that database is, `host:port`: Spin lets the component connect to it and to no other.
    database_host: AllowedHost = "DATABASE_HOST", AllowedHost::database, Value("localhost:5432"),
        SPIN;

    /// Host of PostgreSQL. The DB_ variables up to DB_SSLMODE take the place of DATABASE_URL.
    db_host: String = "DB_HOST", parse::text, Value("localhost"), NATIVE;

    /// Port of PostgreSQL.
    db_port: u16 = "DB_PORT", |text| parse::port(text, 1), Value("5432"), NATIVE;

    /// User at PostgreSQL.
    db_user: Option<String> = "DB_USER", parse::text, Nothing, NATIVE;

    /// Password at PostgreSQL.
    db_password: Option<String> = "DB_PASSWORD", parse::text, Nothing, NATIVE, secret;

    /// Name of the database; required with any of the DB_ variables.
    db_name: Option<String> = "DB_NAME", parse::text, Nothing, NATIVE;

    /// Whether connections to PostgreSQL are encrypted, and what is verified: `disable`, `allow`,
    /// `prefer`, `require`, `verify-ca` or `verify-full`, as in libpq; PGSSLROOTCERT names the file
    /// of a CA of your own.
    db_sslmode: String = "DB_SSLMODE", parse::ssl_mode, Value("disable"), NATIVE;

    /// The most connections to PostgreSQL.
    db_max_open_conns: u32 = "DB_MAX_OPEN_CONNS", |text| parse::number(text, "number", 1..=10_000),
        Value("25"), NATIVE;

    /// Connections that stay open while idle; the others are closed after half a minute.
    db_max_idle_conns: u32 = "DB_MAX_IDLE_CONNS", |text| parse::number(text, "number", 0..=10_000),
        Value("5"), NATIVE;

    /// Age at which a connection is replaced (`90s`, `5m`, `1h`).
    db_conn_max_lifetime: TimeDelta = "DB_CONN_MAX_LIFETIME", parse::expiry, Value("5m"), NATIVE;

    /// How long to wait for PostgreSQL at start, in seconds (1-3600).
    db_connect_timeout: Duration = "DB_CONNECT_TIMEOUT_SECONDS",
        |text| parse::seconds(text, 1..=3600), Value("30"), NATIVE;

    /// Whether the Go server whose database is to be converted counts as stopped although the
    /// database has other sessions of its user.
    go_server_stopped: bool = "GO_SERVER_STOPPED", parse::switch, Value("false"), NATIVE;

    /// How long statuses are kept, in days (1-36500); the newest of each session and the start of
    /// its run always stay. Needs a database.
    history_retention_days: Option<u32> = "HISTORY_RETENTION_DAYS",
        |text| parse::number(text, "number of days", 1..=36_500), Described("for ever"), NATIVE;

    /// How long entries of the audit are kept, in days (1-36500).
    audit_retention_days: u32 = "AUDIT_RETENTION_DAYS",
        |text| parse::number(text, "number of days", 1..=36_500), Value("90"), EVERY;

    /// Where the state is: `keyvalue` or `postgres`.
    storage: Storage = "STORAGE", parse::storage, Value("keyvalue"), WASMCLOUD;

    /// Key-value bucket that holds the state. A NATS bucket must be created first.
    bucket: String = "BUCKET", parse::text, Value("kubeagents"), WASMCLOUD;

    /// Mail server that sends verification mails; without one the links are logged.
    smtp_host: Option<String> = "SMTP_HOST", parse::host_name, Nothing, NATIVE;

    /// Port of the mail server: 465 speaks TLS from the start, on others STARTTLS is required,
    /// except on loopback.
    smtp_port: u16 = "SMTP_PORT", |text| parse::port(text, 1), Value("587"), NATIVE;

    /// User name at the mail server.
    smtp_user: Option<String> = "SMTP_USER", parse::text, Nothing, NATIVE;

    /// Password at the mail server.
    smtp_password: Option<String> = "SMTP_PASSWORD", parse::text, Nothing, NATIVE, secret;

    /// Sender of mails, `kubeagents@example.com` or `Name <kubeagents@example.com>`; required with
    /// SMTP_HOST.
    smtp_from: Option<String> = "SMTP_FROM", parse::text, Nothing, NATIVE;

    /// Whether the log has a line for each request, at `info`: method, path, status, bytes, duration, the
    /// client's address and the request's id.
    access_log: bool = "ACCESS_LOG", parse::switch, Value("false"), EVERY;

    /// How the log is written to standard error: `text` or `json`.
    log_format: LogFormat = "LOG_FORMAT", parse::log_format, Value("text"), NATIVE;

    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or directives such as
    /// `info,kubeagents=debug`; `debug` has a line for each request, whatever ACCESS_LOG is.
    rust_log: String = "RUST_LOG", parse::text, Value("info"), NATIVE;
}
