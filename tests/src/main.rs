//! Checks a server at any base URL against the HTTP contract of kubeagents.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kubeagents_contract::{Arguments, Host, Log, Mode, run, trials};

/// Checks a kubeagents server at any base URL against the HTTP contract.
///
/// The server should have its default configuration, except for what the options below name.
/// Scenarios that need more than the options offer are reported as ignored.
#[derive(Debug, Parser)]
struct Options {
    /// The server's base URL (http only). Given more than once, requests go to each in turn.
    #[arg(long, required = true)]
    url: Vec<String>,

    /// The server's AUTH_MODE. In required mode, --api-key or --log is needed.
    #[arg(long, value_enum)]
    mode: Mode,

    /// The server's KUBEAGENTS_API_KEY.
    #[arg(long)]
    api_key: Option<String>,

    /// The server's JWT_SECRET. Without it, scenarios with tokens signed by the suite are ignored.
    #[arg(long)]
    jwt_secret: Option<String>,

    /// The server's log file, from which verification links are read. Without it, scenarios that
    /// need accounts are ignored.
    #[arg(long)]
    log: Option<PathBuf>,

    /// The server's SHARED_WORKSPACE_MEMBERS is @members.example.com. Without it, scenarios with members
    /// are ignored.
    #[arg(long)]
    members: bool,

    /// The server does not deliver notifications to this machine's loopback addresses.
    #[arg(long)]
    no_notifications: bool,

    /// The server is a component, which does not stream events.
    #[arg(long)]
    no_streams: bool,

    /// Run only scenarios whose name contains this.
    filter: Option<String>,

    /// List the scenarios, and run none.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.mode == Mode::Required && options.api_key.is_none() && options.log.is_none() {
        eprintln!("--mode required needs --api-key or --log");
        return ExitCode::from(2);
    }
    let host = Host {
        urls: options
            .url
            .iter()
            .map(|url| url.trim_end_matches('/').to_owned())
            .collect(),
        static_key: options.api_key,
        jwt_secret: options.jwt_secret,
        log: options.log.map(Log::file),
        has_members: options.members,
        notifies_loopback: !options.no_notifications,
        streams: !options.no_streams,
        ..Host::new("", options.mode)
    };
    let arguments = Arguments {
        filter: options.filter,
        list: options.list,
        ..Arguments::default()
    };
    run(arguments, trials(&host, "contract")).exit_code()
}
